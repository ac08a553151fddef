"""Predictions matched with ground truth by faster-coco-eval, a few images at a time.

D detections · G ground truths · T IoU thresholds · K classes · A area ranges · I images.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from pycocotools import mask as coco_mask

from entitytransfer.evaluators.matching import Matches
from entitytransfer.readers.coco_set import CocoSet
from entitytransfer.readers.json_file import paused_collector

IouType: TypeAlias = Literal["segm", "boundary"]
BOUNDARY_RATIO = 0.02  # of the image diagonal (Cheng et al. 2021)


@paused_collector()
def match_part(
    part: CocoSet,
    *,
    iou_type: IouType,
    max_dets: Sequence[int],
    iou_thresholds: Sequence[float],
    federated: bool = False,
) -> list[dict[int, Matches]]:
    """The matches of each image, by the index of the class; without a class that has neither of both.

    Args:
        part: masks must be sound RLEs.
        iou_type: mask IoU, or the smaller one of mask and boundary IoU (crowds: mask IoU).
        max_dets: predictions per image and class, ascending; those up to the last number are matched.
        iou_thresholds: ascending.
        federated: LVIS: a class counts only in images for which it is known whether it is there.
    """
    evaluation = _evaluation(part, iou_type, federated=federated)
    evaluation.params.maxDets = list(max_dets)
    evaluation.params.iouThrs = np.asarray(iou_thresholds)
    evaluation.evaluate()
    places = {image["id"]: place for place, image in enumerate(part.images)}
    present = sorted({(places[one["image_id"]], one["category_id"] - 1) for one in (*part.truths, *part.results)})
    outcomes = np.array(evaluation._evalImgs_cpp, dtype=object)
    outcomes = outcomes.reshape(len(part.categories), -1, len(places))  # [KAI] -> [K,A,I]
    found: list[dict[int, Matches]] = [{} for _ in places]
    for place, index in present:
        found[place][index] = _matches(outcomes[index, :, place], len(iou_thresholds))
    return found


def _matches(outcomes: Sequence, num_thresholds: int) -> Matches:
    """From what the library found in each area range [A], which it shows in the form in which it pickles it."""
    detections, truths, scores, is_ignored_truth, is_ignored, _ = zip(*(one.__getstate__() for one in outcomes))
    shape = len(detections), num_thresholds, -1
    return Matches(
        scores=np.array(scores[0]),
        is_matched=np.array(detections, dtype=np.int64).reshape(shape) > 0,  # [A,TD] -> [A,T,D]
        is_ignored=np.frombuffer(b"".join(map(bytes, is_ignored)), dtype=bool).reshape(shape),
        num_truths=(~np.array(is_ignored_truth, dtype=bool)).sum(axis=1),
        is_taken=np.array(truths, dtype=np.int64).reshape(shape) > 0,
    )


class _MaskEvaluation(COCOeval_faster):
    """The library's evaluation with the mask IoU of pycocotools, which takes a third of the time.

    For the library it is an evaluation of boxes, or else it would take every RLE apart before it is asked for an IoU.
    """

    def computeIoU(self, imgId: int, catId: int) -> list[list[float]]:
        """The IoU of the best detections and all ground truth of a class in an image, [D,G]: lists, which the library
        takes over faster than an array.
        """
        (truths,), (detections,) = (
            dataset.get_instances([imgId], [catId], True)[0] for dataset in (self.gt_dataset, self.dt_dataset)
        )
        if not truths or not detections:
            return []
        best = sorted(detections, key=lambda one: -one["score"])[: self.params.maxDets[-1]]
        masks = ([one["segmentation"] for one in some] for some in (best, truths))
        return coco_mask.iou(*masks, [one["iscrowd"] for one in truths]).tolist()


def _evaluation(part: CocoSet, iou_type: IouType, *, federated: bool) -> COCOeval_faster:
    # The library writes into the records that it is given; its loadRes would measure every mask again.
    index = {"images": part.images, "categories": part.categories}
    truths = [one | {"id": number} for number, one in enumerate(part.truths, start=1)]
    results = [one | {"id": number, "iscrowd": 0} for number, one in enumerate(part.results, start=1)]
    evaluation, library_type = (_MaskEvaluation, "bbox") if iou_type == "segm" else (COCOeval_faster, iou_type)
    return evaluation(
        COCO(index | {"annotations": truths}),
        COCO(index | {"annotations": results}),
        library_type,
        print_function=_say_nothing,
        separate_eval=True,
        lvis_style=federated,
        boundary_dilation_ratio=BOUNDARY_RATIO,
    )


def _say_nothing(*_: object) -> None:
    """Take the library's progress lines."""
