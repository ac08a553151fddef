"""Instance segmentation: COCO AP and AR of masks by class, and boundary AP."""

from collections.abc import Sequence
from pathlib import Path

import faster_coco_eval
import numpy as np

from entitytransfer.evaluation.bootstrap import percentile_intervals
from entitytransfer.evaluators.coco_ap import CocoMetrics
from entitytransfer.evaluators.coco_matching import BOUNDARY_RATIO
from entitytransfer.evaluators.detection_summary import IOU_THRESHOLDS, MAX_DETS, check_limits
from entitytransfer.readers.coco_results import read_coco_results, read_coco_truth
from entitytransfer.readers.image_list import read_image_list
from entitytransfer.scorecard import Score


def score(
    *,
    ground_truth: Path,
    predictions: Path,
    boundary: bool = True,
    max_dets: Sequence[int] = MAX_DETS,
    iou_thresholds: Sequence[float] = IOU_THRESHOLDS,
    top_k: int | None = None,
    image_list: Path | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> Score:
    """Score COCO results as COCOeval does (segm), and with the boundary IoU of Cheng et al. 2021.

    Args:
        ground_truth: COCO-instance JSON; image ids may be text.
        predictions: COCO results JSON.
        boundary: whether boundary AP is computed too; it takes several times as long.
        max_dets: predictions per image and class, ascending.
        iou_thresholds: ascending.
        top_k: predictions per image, of all classes together; None = all.
        image_list: text file with the ids of the images that count; None = all.
        bootstrap: resamplings of the images for confidence intervals.
        seed: of the resampling.

    Raises:
        InputError: a file or an option that cannot be scored.
    """
    check_limits(max_dets, iou_thresholds, top_k)
    truth = read_coco_truth(ground_truth)
    coco_set = read_coco_results(predictions, truth, any_category=False)
    images = read_image_list(image_list, truth.image_numbers)
    card = {
        "task": "instance",
        "classes": f"{len(truth.categories)}, averaged",
        "boundary": BOUNDARY_RATIO if boundary else None,
    }
    coco_set = coco_set.best(top_k)
    metrics = CocoMetrics(coco_set, boundary=boundary, max_dets=max_dets, iou_thresholds=iou_thresholds)
    return Score(
        metrics=metrics.measure(images),
        protocol=card
        | detection_card(metrics.counts, images, max_dets=max_dets, iou_thresholds=iou_thresholds, top_k=top_k),
        intervals=percentile_intervals(metrics.measure, images, draws=bootstrap, seed=seed),
    )


def detection_card(
    counts: np.ndarray,
    images: np.ndarray,
    *,
    max_dets: Sequence[int],
    iou_thresholds: Sequence[float],
    top_k: int | None,
) -> dict[str, object]:
    """The part of the protocol card that detection tasks share; for ``counts`` see `CocoAP.counts`."""
    truths, crowds, predictions = counts[images].sum(axis=0).tolist()
    return {
        "images": len(images),
        "ground truths": truths,
        "crowds": crowds,
        "predictions": predictions,
        "max_dets": list(max_dets),
        "iou_thresholds": [round(one, 4) for one in iou_thresholds],
        "top_k": top_k,
        "area ranges": "small to 32^2, medium to 96^2 pixels",
        "evaluator": f"faster-coco-eval {faster_coco_eval.__version__}",
    }
