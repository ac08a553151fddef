"""Entity segmentation: class-agnostic COCO AP (AP^e of the paper where predictions do not overlap) and boundary AP."""

from collections.abc import Sequence
from pathlib import Path

from entitytransfer.evaluation.bootstrap import percentile_intervals
from entitytransfer.evaluators.coco_ap import CocoMetrics
from entitytransfer.evaluators.coco_matching import BOUNDARY_RATIO
from entitytransfer.evaluators.detection_summary import IOU_THRESHOLDS, MAX_DETS, check_limits
from entitytransfer.readers.coco_results import read_coco_results, read_coco_truth
from entitytransfer.readers.coco_set import OVERLAP
from entitytransfer.readers.image_list import read_image_list
from entitytransfer.scorecard import Score, check_choice
from entitytransfer.scoring.instance import detection_card


def score(
    *,
    ground_truth: Path,
    predictions: Path,
    overlap: str = "keep",
    boundary: bool = True,
    max_dets: Sequence[int] = MAX_DETS,
    iou_thresholds: Sequence[float] = IOU_THRESHOLDS,
    top_k: int | None = None,
    image_list: Path | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> Score:
    """Score COCO results with every annotation and prediction in one class.

    As the released ``COCOEvaluator_ClassAgnostic`` does: all category ids become 1, then COCOeval (segm).

    Args:
        ground_truth: COCO-instance JSON; image ids may be text.
        predictions: COCO results JSON; the category ids do not matter.
        overlap: "keep" predictions as they are, or "remove" shared pixels from all but the best prediction.
        boundary: whether boundary AP is computed too; it takes several times as long.
        max_dets: predictions per image, ascending.
        iou_thresholds: ascending.
        top_k: predictions per image; None = all.
        image_list: text file with the ids of the images that count; None = all.
        bootstrap: resamplings of the images for confidence intervals.
        seed: of the resampling.

    Raises:
        InputError: a file or an option that cannot be scored.
    """
    check_limits(max_dets, iou_thresholds, top_k)
    check_choice("overlap", overlap, choices=OVERLAP)
    truth = read_coco_truth(ground_truth)
    coco_set = read_coco_results(predictions, truth, any_category=True).as_one_class().best(top_k)
    coco_set = coco_set.without_overlap() if overlap == "remove" else coco_set
    images = read_image_list(image_list, truth.image_numbers)
    metrics = CocoMetrics(coco_set, boundary=boundary, max_dets=max_dets, iou_thresholds=iou_thresholds)
    card = {"task": "entity", "classes": "one", "overlap": overlap, "boundary": BOUNDARY_RATIO if boundary else None}
    return Score(
        metrics=metrics.measure(images),
        protocol=card
        | detection_card(metrics.counts, images, max_dets=max_dets, iou_thresholds=iou_thresholds, top_k=top_k),
        intervals=percentile_intervals(metrics.measure, images, draws=bootstrap, seed=seed),
    )
