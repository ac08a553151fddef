"""Zero-shot recall (Table 6 of the paper): the part of all ground truth that class-agnostic predictions find."""

from collections.abc import Sequence
from pathlib import Path

from entitytransfer.evaluation.bootstrap import percentile_intervals
from entitytransfer.evaluators.coco_ap import ImageRecall
from entitytransfer.evaluators.detection_summary import MAX_DETS, check_limits
from entitytransfer.readers.coco_results import CocoTruth, read_coco_results, read_coco_truth
from entitytransfer.readers.coco_set import OVERLAP
from entitytransfer.readers.image_list import read_image_list
from entitytransfer.readers.mask_folder import read_camo, read_fss, read_ocid
from entitytransfer.scorecard import Score, check_choice
from entitytransfer.scoring.instance import detection_card

FORMATS = ("coco", "lvis", "ocid", "camo", "fss")


def score(
    *,
    ground_truth: Path,
    predictions: Path,
    format: str = "coco",
    average: str = "pooled",
    overlap: str = "keep",
    supports: str = "drop",
    split: str = "test",
    max_dets: Sequence[int] = MAX_DETS,
    iou_thresholds: Sequence[float] = (0.5,),
    top_k: int | None = None,
    image_list: Path | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> Score:
    """Score COCO results as COCOeval with ``useCats=0`` does: ``AR@k`` at IoU 0.5, and ``AR@100_50:95``.

    Args:
        ground_truth: COCO or LVIS JSON; the folder of OCID; CAMO++ JSON, or the first CAMO or its GT folder; the
            folder of FSS-1000.
        predictions: COCO results JSON; the category ids do not matter. OCID images are called by their path without
            label/, FSS images ``CLASS/N``, images of the first CAMO by stem or number.
        format: coco, lvis, ocid, camo or fss.
        average: "pooled" = matched part of the ground truth of all images, "mean" = mean over the images of the
            matched part, without images that have no ground truth.
        overlap: "keep" predictions as they are, or "remove" shared pixels from all but the best prediction.
        supports: OCID: "drop" or "keep" floor and table.
        split: FSS-1000: classes in "test", or "all". The first CAMO, where it has photos: those in Images/"Test", or
            "all".
        max_dets: predictions per image, ascending.
        iou_thresholds: of ``AR@k``; it is the mean over them.
        top_k: predictions per image; None = all.
        image_list: text file with the ids of the images that count; None = all.
        bootstrap: resamplings of the images for confidence intervals.
        seed: of the resampling.

    Raises:
        InputError: a file or an option that cannot be scored.
    """
    check_limits(max_dets, iou_thresholds, top_k)
    check_choice("average", average, choices=("pooled", "mean"))
    check_choice("overlap", overlap, choices=OVERLAP)
    truth, card = _read(ground_truth, format=format, supports=supports, split=split)
    coco_set = read_coco_results(predictions, truth, any_category=True).sorted_by_class().as_one_class().best(top_k)
    coco_set = coco_set.without_overlap() if overlap == "remove" else coco_set
    images = read_image_list(image_list, truth.image_numbers)
    recall = ImageRecall(coco_set, max_dets=max_dets, iou_thresholds=iou_thresholds)
    measure = recall.pooled if average == "pooled" else recall.mean
    return Score(
        metrics=measure(images),
        protocol={"task": "recall", "classes": "one"}
        | card
        | {"average": average, "overlap": overlap}
        | detection_card(recall.counts, images, max_dets=max_dets, iou_thresholds=iou_thresholds, top_k=top_k),
        intervals=percentile_intervals(measure, images, draws=bootstrap, seed=seed),
    )


def _read(ground_truth: Path, *, format: str, supports: str, split: str) -> tuple[CocoTruth, dict[str, str]]:
    """The ground truth, and the choices that belong to its format."""
    check_choice("format", format, choices=FORMATS)
    check_choice("supports", supports, choices=("drop", "keep"))
    check_choice("split", split, choices=("test", "all"))
    if format == "ocid":
        return read_ocid(ground_truth, supports=supports == "keep"), {"format": "ocid", "supports": supports}
    if format == "fss":
        return read_fss(ground_truth, split=split), {"format": "fss", "split": split}
    if format == "camo" and ground_truth.is_dir():
        card = {"format": "camo", "version": "CAMO: one mask per image", "split": split}
        return read_camo(ground_truth, split=split), card
    version = {"version": "CAMO++: instances"} if format == "camo" else {}
    return read_coco_truth(ground_truth), {"format": format} | version
