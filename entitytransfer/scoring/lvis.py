"""LVIS: AP and AR of masks by class on federated ground truth, as the LVIS API computes them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cropformer import InputError
from entitytransfer.evaluation.bootstrap import percentile_intervals
from entitytransfer.evaluators.coco_ap import CocoAP
from entitytransfer.evaluators.detection_summary import IOU_THRESHOLDS, check_limits, summarize
from entitytransfer.readers.coco_results import CocoFiles, read_coco_results, read_coco_truth
from entitytransfer.readers.image_list import read_image_list
from entitytransfer.scorecard import Score
from entitytransfer.scoring.instance import detection_card

FREQUENCIES = ("r", "c", "f")  # rare, common, frequent


def score(
    *,
    ground_truth: Path,
    predictions: Path,
    max_dets: Sequence[int] = (300,),
    iou_thresholds: Sequence[float] = IOU_THRESHOLDS,
    image_list: Path | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> Score:
    """Score COCO results as ``LVISEval`` does (segm): AP ... APl, APr, APc, APf, AR300, ARs, ARm, ARl.

    Args:
        ground_truth: LVIS JSON.
        predictions: COCO results JSON.
        max_dets: predictions per image, of all classes together; the last number is the bound.
        iou_thresholds: ascending.
        image_list: text file with the ids of the images that count; None = all.
        bootstrap: resamplings of the images for confidence intervals.
        seed: of the resampling.

    Raises:
        InputError: a file or an option that cannot be scored.
    """
    check_limits(max_dets, iou_thresholds, None)
    truth = read_coco_truth(ground_truth)
    coco_set = read_coco_results(predictions, truth, any_category=False).best(max_dets[-1])
    images = read_image_list(image_list, truth.image_numbers)
    classes = _classes_by_frequency(coco_set, ground_truth)
    matched = CocoAP(coco_set, max_dets=max_dets, iou_thresholds=iou_thresholds, federated=True)

    def measure(drawn: np.ndarray) -> dict[str, float]:
        precision, recall = matched.accumulate(drawn)
        limits = {"iou_thresholds": iou_thresholds, "max_dets": max_dets}
        by_frequency = {
            f"AP{frequency}": summarize(precision[:, :, some], recall[:, some], **limits)["AP"]
            for frequency, some in classes.items()
        }
        return summarize(precision, recall, **limits) | by_frequency

    card = {"task": "lvis", "classes": f"{len(truth.categories)}, averaged", "ground truth": "federated"}
    return Score(
        metrics=measure(images),
        protocol=card
        | detection_card(matched.counts, images, max_dets=max_dets, iou_thresholds=iou_thresholds, top_k=None),
        intervals=percentile_intervals(measure, images, draws=bootstrap, seed=seed),
    )


def _classes_by_frequency(coco_set: CocoFiles, source: Path) -> dict[str, list[int]]:
    """Indices of the rare, common and frequent classes."""
    frequencies = [one.get("frequency") for one in coco_set.categories]
    for index, frequency in enumerate(frequencies):
        if frequency not in FREQUENCIES:
            raise InputError(f"{source}, category {index}: 'frequency' must be r, c or f; give the original LVIS file.")
    return {one: [index for index, frequency in enumerate(frequencies) if frequency == one] for one in FREQUENCIES}
