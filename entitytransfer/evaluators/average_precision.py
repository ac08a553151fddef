"""COCO AP and AR of predictions in memory, of one class or of many: the numbers that `score` finds for files."""

import numpy as np

from cropformer import Entities
from entitytransfer.adapter import Sample
from entitytransfer.classes import Classes
from entitytransfer.evaluators.coco_ap import CocoAP
from entitytransfer.evaluators.coco_images import empty_set, image_set
from entitytransfer.evaluators.detection_summary import IOU_THRESHOLDS, MAX_DETS, summarize
from entitytransfer.evaluators.gathering import SampleRecords
from entitytransfer.readers.coco_set import CocoSet

# The first of the twelve numbers that every COCO evaluator summarises, in its order.
SUMMARY = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")

_Matched = dict[str, CocoAP]  # by what comes before the names of the numbers


class AveragePrecision:
    """Matches predictions with the ground truth, image by image; of each image only what matched is kept.

    On a set that is not exhaustively annotated the recalls are meaningful and the precisions are not: a right
    prediction without annotation counts as wrong. As COCO does, it takes areas as they are annotated, and an
    annotated region without a pixel for missed. No mask is decoded.

    Each process may take a share of the images, without duplicates: ``compute`` joins the shares. Images are
    scored in the order of their ids, so that equal scores rank the same whoever took which image.

    Args:
        classes: what the labels of predictions and ground truth mean; None makes every entity one of the same
            class, whatever its label.
        max_entities: how many predictions of an image and class count, best first; 100 for COCO, at least 10. The
            numbers named after 100 predictions are over so many.
        boundary: whether boundaries are scored too (Cheng et al. 2021); it takes several times as long.
    """

    def __init__(self, classes: Classes | None = None, *, max_entities: int = 100, boundary: bool = False) -> None:
        if max_entities < MAX_DETS[-2]:
            raise ValueError(f"max_entities must be at least {MAX_DETS[-2]}, not {max_entities}")
        self._classes = classes
        self._max_dets = (*MAX_DETS[:-1], max_entities)
        self._iou_types = {"": "segm", "boundary_": "boundary"} if boundary else {"": "segm"}
        self._images: SampleRecords[_Matched, _Matched] = SampleRecords(self._join)

    def reset(self) -> None:
        """Forget all images."""
        self._images.clear()

    def update(self, result: Entities, sample: Sample) -> None:
        """Add one image; crowds are neither to be found nor wrong to be found.

        Raises:
            InputError: the annotation is damaged, or a mask of either is not one of the sample's size.
            ValueError: a label is no class.
        """
        self._images.add(sample, self._match(image_set(result, sample, self._classes)))

    def compute(self, units: np.ndarray | None = None) -> dict[str, float]:
        """Score everything that all processes have added so far; all of them must call it, and get the same.

        Args:
            units: indices of the images to count, in the order of their ids, once for every time they are named; all
                if left out.

        Returns:
            Fractions in [0,1]: AP (IoU .50:.05:.95), AP50, AP75, APs, APm, APl (areas up to 32², 96², above),
            AR1, AR10, AR100 (IoU .50:.05:.95, best 1, 10, 100 predictions per image), averaged over classes; the same
            with ``boundary_`` before if asked for. With one class for all also ``AR@100``: the matched part of all
            ground truth, pooled over images, at IoU 0.5 with the 100 best predictions per image (an average of it
            over classes would be another measure of the same name). nan where COCO says -1: there is no ground
            truth in that range.
        """
        metrics = {}
        for prefix, matched in self._images.joined().items():
            precision, recall = matched.accumulate(None if units is None else np.sort(units))
            numbers = summarize(precision, recall, iou_thresholds=IOU_THRESHOLDS, max_dets=MAX_DETS)
            metrics |= {f"{prefix}{name}": numbers[name] for name in SUMMARY}
            if self._classes is None and not prefix:
                found = recall[0, 0, 0, -1]  # [T,K,A,M]: IoU 0.5, all areas, 100 predictions
                metrics["AR@100"] = float(found) if found >= 0 else float("nan")
        return metrics

    def _match(self, coco_set: CocoSet) -> _Matched:
        return {
            prefix: CocoAP(coco_set, iou_type=iou_type, max_dets=self._max_dets)
            for prefix, iou_type in self._iou_types.items()
        }

    def _join(self, images: list[_Matched]) -> _Matched:
        joined = self._match(empty_set(self._classes))
        for prefix, matched in joined.items():
            matched.extend([image[prefix] for image in images])
        return joined
