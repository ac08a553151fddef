"""COCO AP, AR and boundary AP of a checked set, computed by faster-coco-eval; single images can be drawn again.

T IoU thresholds · R recall levels · K classes · A area ranges · M numbers of predictions · I images.
"""

from collections.abc import Sequence
from copy import copy
from functools import cached_property
from typing import Literal

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from pycocotools import mask as coco_mask

from entitytransfer.evaluators.detection_summary import AREAS, IOU_THRESHOLDS, MAX_DETS, summarize
from entitytransfer.readers.coco_results import CocoSet
from entitytransfer.readers.json_file import paused_collector

BOUNDARY_RATIO = 0.02  # of the image diagonal (Cheng et al. 2021)
RECALL_LEVELS = 101


class CocoAP:
    """Matches the predictions of a set with its ground truth once, and accumulates all or some of its images.

    Args:
        coco_set: masks must be sound RLEs, see `entitytransfer.readers.coco_results`.
        iou_type: mask IoU, or the smaller one of mask and boundary IoU (crowds: mask IoU).
        max_dets: predictions per image and class, ascending.
        iou_thresholds: ascending.
        federated: LVIS: a class counts only in images for which it is known whether it is there.
    """

    def __init__(
        self,
        coco_set: CocoSet,
        *,
        iou_type: Literal["segm", "boundary"] = "segm",
        max_dets: Sequence[int] = MAX_DETS,
        iou_thresholds: Sequence[float] = IOU_THRESHOLDS,
        federated: bool = False,
    ) -> None:
        self._num_images = len(coco_set.images)
        self._undefined = len(iou_thresholds), len(coco_set.categories), len(AREAS), len(max_dets)
        self._evaluation = None
        if coco_set.truths:
            self._evaluation = _evaluation(coco_set, iou_type, federated=federated)
            self._evaluation.params.maxDets = list(max_dets)
            self._evaluation.params.iouThrs = np.asarray(iou_thresholds)
            with paused_collector():
                self._evaluation.evaluate()

    def accumulate(self, images: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Precision [T,R,K,A,M] and recall [T,K,A,M], -1 where a class has no ground truth.

        Args:
            images: indices of the images to count, once for every time they are named, in ascending order, which is
                the order that breaks ties of scores; all images if left out.
        """
        if self._evaluation is None:
            thresholds, *others = self._undefined
            return np.full((thresholds, RECALL_LEVELS, *others), -1.0), np.full(self._undefined, -1.0)
        chosen = np.arange(self._num_images) if images is None else images
        # With separate_eval the library keeps the matches of each image, in these two fields, for accumulate.
        evaluation = copy(self._evaluation)
        evaluation._evalImgs_cpp = self._matches_of(chosen)
        evaluation._paramsEval = copy(evaluation._paramsEval)
        evaluation._paramsEval.imgIds = (chosen + 1).tolist()
        evaluation.accumulate()
        return evaluation.eval["precision"], evaluation.eval["recall"]

    def _matches_of(self, images: np.ndarray) -> list:
        """The library's matches, which it keeps as [K*A*I], of some images."""
        matches = self._evaluation._evalImgs_cpp
        first = range(0, len(matches), self._num_images)
        return [matches[start + image] for start in first for image in images.tolist()]


class CocoMetrics:
    """The twelve numbers of COCO for masks, and again for boundaries, over any images of a set.

    Args:
        coco_set: masks must be sound RLEs.
        boundary: whether boundaries are scored too; it takes several times as long.
        max_dets: predictions per image and class, ascending.
        iou_thresholds: ascending.
    """

    def __init__(
        self, coco_set: CocoSet, *, boundary: bool, max_dets: Sequence[int], iou_thresholds: Sequence[float]
    ) -> None:
        self._max_dets, self._iou_thresholds = max_dets, iou_thresholds
        iou_types = {"": "segm", "boundary_": "boundary"} if boundary else {"": "segm"}
        self._matched = {
            prefix: CocoAP(coco_set, iou_type=iou_type, max_dets=max_dets, iou_thresholds=iou_thresholds)
            for prefix, iou_type in iou_types.items()
        }

    def measure(self, images: np.ndarray) -> dict[str, float]:
        """AP, AP50, ... and boundary_AP, boundary_AP50, ...; see `summarize` and `CocoAP.accumulate`."""
        found = {}
        for prefix, matched in self._matched.items():
            arrays = matched.accumulate(images)
            numbers = summarize(*arrays, iou_thresholds=self._iou_thresholds, max_dets=self._max_dets)
            found |= {f"{prefix}{name}": value for name, value in numbers.items()}
        return found


class ImageRecall:
    """The part of the ground truth of one class that predictions find, over any images of a set.

    Args:
        coco_set: one class; masks must be sound RLEs.
        max_dets: predictions per image, ascending.
        iou_thresholds: of ``AR@k``; it is the mean over them.
    """

    def __init__(self, coco_set: CocoSet, *, max_dets: Sequence[int], iou_thresholds: Sequence[float]) -> None:
        self._num_images = len(coco_set.images)
        self._max_dets = tuple(max_dets)
        thresholds = sorted({*iou_thresholds, *IOU_THRESHOLDS})
        self._chosen, self._spread = (
            [thresholds.index(one) for one in some] for some in (iou_thresholds, IOU_THRESHOLDS)
        )
        self._matched = CocoAP(coco_set, max_dets=max_dets, iou_thresholds=thresholds)

    def pooled(self, images: np.ndarray) -> dict[str, float]:
        """AR@k for each k of ``max_dets``, AR@100_50:95, and ARs@100, ARm@100, ARl@100 by size.

        See `CocoAP.accumulate`; nan where there is no ground truth.
        """
        return self._name(self._defined(images))

    def mean(self, images: np.ndarray) -> dict[str, float]:
        """The same as means over images, without those that have no such ground truth."""
        recalls = self._per_image[images]
        counts = (~np.isnan(recalls)).sum(axis=0)
        sums = np.nansum(recalls, axis=0)
        return self._name(np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0))

    @cached_property
    def _per_image(self) -> np.ndarray:
        """Recall of each image [I,T,A,M], nan without ground truth."""
        images = [self._defined(np.array([image])) for image in range(self._num_images)]
        return np.stack(images) if images else np.zeros((0, *self._defined(np.zeros(0, dtype=np.int64)).shape))

    def _defined(self, images: np.ndarray) -> np.ndarray:
        """Recall [T,A,M], nan without ground truth."""
        _, recall = self._matched.accumulate(images)
        return np.where(recall[:, 0] < 0, np.nan, recall[:, 0])

    def _name(self, recall: np.ndarray) -> dict[str, float]:
        limit = self._max_dets[-1]
        chosen = recall[self._chosen].mean(axis=0)  # [A,M]
        values = {f"AR@{one}": chosen[0, index] for index, one in enumerate(self._max_dets)}
        values[f"AR@{limit}_50:95"] = recall[self._spread, 0, -1].mean()
        values |= {f"AR{area}@{limit}": chosen[index, -1] for index, area in enumerate(AREAS) if index}
        return {name: float(value) for name, value in values.items()}


class _MaskEvaluation(COCOeval_faster):
    """The library's evaluation with the mask IoU of pycocotools, which takes a third of the time.

    For the library it is an evaluation of boxes, or else it would take every RLE apart before it is asked for an IoU.
    """

    def computeIoU(self, imgId: int, catId: int) -> np.ndarray | list:
        """The IoU of the best detections and all ground truth of a class in an image, [D,G]."""
        (truths,), (detections,) = (
            dataset.get_instances([imgId], [catId], True)[0] for dataset in (self.gt_dataset, self.dt_dataset)
        )
        if not truths or not detections:
            return []
        best = sorted(detections, key=lambda one: -one["score"])[: self.params.maxDets[-1]]
        masks = ([one["segmentation"] for one in some] for some in (best, truths))
        return coco_mask.iou(*masks, [one["iscrowd"] for one in truths])


@paused_collector()
def _evaluation(coco_set: CocoSet, iou_type: str, *, federated: bool) -> COCOeval_faster:
    # The library writes into the records that it is given; its loadRes would measure every mask again.
    index = {"images": coco_set.images, "categories": coco_set.categories}
    results = [one | {"id": number, "iscrowd": 0} for number, one in enumerate(coco_set.results, start=1)]
    evaluation, iou_type = (_MaskEvaluation, "bbox") if iou_type == "segm" else (COCOeval_faster, iou_type)
    return evaluation(
        COCO(index | {"annotations": [dict(one) for one in coco_set.truths]}),
        COCO(index | {"annotations": results}),
        iou_type,
        print_function=_say_nothing,
        separate_eval=True,
        lvis_style=federated,
        boundary_dilation_ratio=BOUNDARY_RATIO,
    )


def _say_nothing(*_: object) -> None:
    """Take the library's progress lines."""
