"""Video panoptic segmentation: VPQ and STQ of the VIPSeg release, and both with every segment in one class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cropformer import InputError
from entitytransfer.evaluation.bootstrap import percentile_intervals
from entitytransfer.evaluators.panoptic_quality import PAPER_WINDOWS
from entitytransfer.evaluators.segment_tables import tabulate
from entitytransfer.evaluators.tracking_quality import STQ_MODES
from entitytransfer.evaluators.video_panoptic import VideoPanoptic
from entitytransfer.readers.vipseg_json import read_vipseg_results, read_vipseg_truth
from entitytransfer.scorecard import Score, check_choice
from entitytransfer.scoring.panoptic import compare, panoptic_card

TRUTH_PNGS, RESULT_JSON, RESULT_PNGS = "panomasksRGB", "pred.json", "pan_pred"


def score(
    *,
    ground_truth: Path,
    predictions: Path,
    gt_dir: Path | None = None,
    pred_dir: Path | None = None,
    windows: Sequence[int] = PAPER_WINDOWS,
    stq_mode: str = "official",
    class_agnostic: bool = False,
    workers: int | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> Score:
    """Score a VIPSeg submission.

    Args:
        ground_truth: ``panoptic_gt_VIPSeg_val.json``.
        predictions: ``pred.json``, or the folder that it is in.
        gt_dir: folder of the ground truth's PNGs; None = ``panomasksRGB`` beside the JSON.
        pred_dir: folder of the predicted PNGs; None = ``pan_pred`` beside the JSON.
        windows: frames in the windows over which VPQ is the mean: 1, 2, 4 and 6 in the paper. The released script has
            8 as well, see ``VPQ_released``.
        stq_mode: "official" or "corrected", see `TrackingQuality`.
        class_agnostic: only the metrics with every segment in one class; category ids of predictions do not matter.
        workers: threads that read videos; None = one for each processor. The numbers do not depend on it.
        bootstrap: resamplings of the videos for confidence intervals.
        seed: of the resampling.

    Raises:
        InputError: a file or an option that cannot be scored.
    """
    check_choice("stq_mode", stq_mode, choices=STQ_MODES)
    if not windows or min(windows) < 1 or len(set(windows)) < len(windows):
        raise InputError(f"The windows must be different numbers of at least 1, not {list(windows)}.")
    predictions = predictions / RESULT_JSON if predictions.is_dir() else predictions
    truth = read_vipseg_truth(ground_truth, gt_dir or ground_truth.parent / TRUTH_PNGS)
    folder = pred_dir or predictions.parent / RESULT_PNGS
    results = read_vipseg_results(predictions, folder, truth, any_category=class_agnostic)
    metric = VideoPanoptic(truth.classes.is_thing, windows=windows, stq_mode=stq_mode, class_agnostic=class_agnostic)
    for table in compare(truth, results, tabulate, workers=workers):
        metric.update(table)
    videos = np.arange(len(truth.clips))
    return Score(
        metrics=metric.compute(),
        protocol={
            "task": "vipseg",
            "videos": len(truth.clips),
            "frames": sum(map(len, truth.clips.values())),
            "windows": list(windows),
            "stq_mode": stq_mode,
            "class_agnostic": class_agnostic,
        }
        | panoptic_card(truth, results)
        | {"evaluator": "own, as VIPSeg-Dataset's eval_vpq_vspw and eval_stq_vspw"},
        intervals=percentile_intervals(metric.compute, videos, draws=bootstrap, seed=seed),
    )
