"""UVO, video: track AP and AR of YTVOSeval with every track in one class."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from entitytransfer.evaluators.detection_summary import IOU_THRESHOLDS, MAX_DETS
from entitytransfer.scorecard import Score
from entitytransfer.scoring import ytvis


def score(
    *,
    ground_truth: Path,
    predictions: Path,
    max_dets: Sequence[int] = MAX_DETS,
    iou_thresholds: Sequence[float] = IOU_THRESHOLDS,
    top_k: int | None = None,
    image_list: Path | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> Score:
    """Score a result file as `entitytransfer.scoring.ytvis.score` does with ``class_agnostic``."""
    result = ytvis.score(
        ground_truth=ground_truth,
        predictions=predictions,
        class_agnostic=True,
        max_dets=max_dets,
        iou_thresholds=iou_thresholds,
        top_k=top_k,
        image_list=image_list,
        bootstrap=bootstrap,
        seed=seed,
    )
    return replace(result, protocol={**result.protocol, "task": "uvo"})
