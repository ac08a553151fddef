"""COCO AP, AR and boundary AP of a checked set, matched by faster-coco-eval; single images can be drawn again.

T IoU thresholds · R recall levels · K classes · A area ranges · M numbers of predictions · I images.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from entitytransfer.evaluators.coco_matching import IouType, match_part
from entitytransfer.evaluators.detection_summary import AREAS, IOU_THRESHOLDS, MAX_DETS, summarize
from entitytransfer.evaluators.kept_matches import KeptMatches
from entitytransfer.readers.coco_results import CocoFiles
from entitytransfer.readers.coco_set import CocoSet


class CocoAP:
    """Matches the predictions of a set with its ground truth once, and accumulates all or some of its images.

    Args:
        coco_set: masks must be sound RLEs, see `entitytransfer.readers.coco_results`; it is taken part by part.
        iou_type: mask IoU, or the smaller one of mask and boundary IoU (crowds: mask IoU).
        max_dets: predictions per image and class, ascending.
        iou_thresholds: ascending.
        federated: LVIS: a class counts only in images for which it is known whether it is there.
    """

    def __init__(
        self,
        coco_set: CocoSet | CocoFiles,
        *,
        iou_type: IouType = "segm",
        max_dets: Sequence[int] = MAX_DETS,
        iou_thresholds: Sequence[float] = IOU_THRESHOLDS,
        federated: bool = False,
    ) -> None:
        limits = {"max_dets": max_dets, "iou_thresholds": iou_thresholds}
        self._matched = _MatchedSet(coco_set, (iou_type,), **limits, federated=federated)
        self._iou_type = iou_type

    @property
    def counts(self) -> np.ndarray:
        """Ground truths, crowds and predictions in each image, int64 [I,3]."""
        return self._matched.counts

    def accumulate(self, images: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Precision [T,R,K,A,M] and recall [T,K,A,M], -1 where a class has no ground truth.

        Args:
            images: indices of the images to count, once for every time they are named, in ascending order, which is
                the order that breaks ties of scores; all images if left out.
        """
        return self._matched.kept[self._iou_type].accumulate(images)

    def recall_of_each(self) -> np.ndarray:
        """Recall of every image by itself [I,T,K,A,M], -1 where it has no ground truth of a class."""
        return self._matched.kept[self._iou_type].recall_of_each()

    def extend(self, others: Sequence["CocoAP"]) -> None:
        """Take over the images of others, which were made with the same arguments, after one's own."""
        self._matched.extend([other._matched for other in others])


class CocoMetrics:
    """The twelve numbers of COCO for masks, and again for boundaries, over any images of a set.

    Args:
        coco_set: masks must be sound RLEs; it is taken part by part.
        boundary: whether boundaries are scored too; it takes several times as long.
        max_dets: predictions per image and class, ascending.
        iou_thresholds: ascending.
    """

    def __init__(
        self,
        coco_set: CocoSet | CocoFiles,
        *,
        boundary: bool,
        max_dets: Sequence[int],
        iou_thresholds: Sequence[float],
    ) -> None:
        self._max_dets, self._iou_thresholds = max_dets, iou_thresholds
        self._prefixes: dict[str, IouType] = {"": "segm", "boundary_": "boundary"} if boundary else {"": "segm"}
        limits = {"max_dets": max_dets, "iou_thresholds": iou_thresholds}
        self._matched = _MatchedSet(coco_set, tuple(self._prefixes.values()), **limits)

    @property
    def counts(self) -> np.ndarray:
        """Ground truths, crowds and predictions in each image, int64 [I,3]."""
        return self._matched.counts

    def measure(self, images: np.ndarray) -> dict[str, float]:
        """AP, AP50, ... and boundary_AP, boundary_AP50, ...; see `summarize` and `CocoAP.accumulate`."""
        found = {}
        for prefix, iou_type in self._prefixes.items():
            arrays = self._matched.kept[iou_type].accumulate(images)
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

    def __init__(
        self, coco_set: CocoSet | CocoFiles, *, max_dets: Sequence[int], iou_thresholds: Sequence[float]
    ) -> None:
        self._max_dets = tuple(max_dets)
        thresholds = sorted({*iou_thresholds, *IOU_THRESHOLDS})
        self._chosen, self._spread = (
            [thresholds.index(one) for one in some] for some in (iou_thresholds, IOU_THRESHOLDS)
        )
        self._matched = CocoAP(coco_set, max_dets=max_dets, iou_thresholds=thresholds)

    @property
    def counts(self) -> np.ndarray:
        """Ground truths, crowds and predictions in each image, int64 [I,3]."""
        return self._matched.counts

    def extend(self, others: Sequence["ImageRecall"]) -> None:
        """Take over the images of others, which were made with the same arguments, after one's own."""
        vars(self).pop("_per_image", None)
        self._matched.extend([other._matched for other in others])

    def pooled(self, images: np.ndarray) -> dict[str, float]:
        """AR@k for each k of ``max_dets``, AR@100_50:95, and ARs@100, ARm@100, ARl@100 by size.

        See `CocoAP.accumulate`; nan where there is no ground truth.
        """
        recall = self._matched.accumulate(images)[1][:, 0]
        return self._name(np.where(recall < 0, np.nan, recall))

    def mean(self, images: np.ndarray) -> dict[str, float]:
        """The same as means over images, without those that have no such ground truth."""
        recalls = self._per_image[images]
        counts = (~np.isnan(recalls)).sum(axis=0)
        sums = np.nansum(recalls, axis=0)
        return self._name(np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0))

    @cached_property
    def _per_image(self) -> np.ndarray:
        """Recall of each image [I,T,A,M], nan without ground truth."""
        recall = self._matched.recall_of_each()[:, :, 0]
        return np.where(recall < 0, np.nan, recall)

    def _name(self, recall: np.ndarray) -> dict[str, float]:
        limit = self._max_dets[-1]
        chosen = recall[self._chosen].mean(axis=0)  # [A,M]
        values = {f"AR@{one}": chosen[0, index] for index, one in enumerate(self._max_dets)}
        values[f"AR@{limit}_50:95"] = recall[self._spread, 0, -1].mean()
        values |= {f"AR{area}@{limit}": chosen[index, -1] for index, area in enumerate(AREAS) if index}
        return {name: float(value) for name, value in values.items()}


class _MatchedSet:
    """The matches of all images of a set for some kinds of IoU, in one pass over its parts."""

    def __init__(
        self,
        coco_set: CocoSet | CocoFiles,
        iou_types: Sequence[IouType],
        *,
        max_dets: Sequence[int],
        iou_thresholds: Sequence[float],
        federated: bool = False,
    ) -> None:
        limits = {"max_dets": max_dets, "iou_thresholds": iou_thresholds}
        sizes = {"num_areas": len(AREAS), "num_thresholds": len(iou_thresholds), "max_dets": max_dets}
        self.kept = {one: KeptMatches(len(coco_set.categories), **sizes) for one in iou_types}
        counts = [np.zeros((0, 3), dtype=np.int64)]
        for part in coco_set.parts():
            counts.append(_counts(part))
            for iou_type, kept in self.kept.items():
                for matches in match_part(part, iou_type=iou_type, **limits, federated=federated):
                    kept.add(matches)
        self.counts = np.concatenate(counts)

    def extend(self, others: Sequence["_MatchedSet"]) -> None:
        """Take over the images of others."""
        for iou_type, kept in self.kept.items():
            kept.extend(other.kept[iou_type] for other in others)
        self.counts = np.concatenate([self.counts, *(other.counts for other in others)])


def _counts(part: CocoSet) -> np.ndarray:
    """Ground truths, crowds and predictions in each image, int64 [I,3]."""
    places = {image["id"]: place for place, image in enumerate(part.images)}
    crowds = [one for one in part.truths if one["iscrowd"]]
    regular = [one for one in part.truths if not one["iscrowd"]]
    columns = ([places[one["image_id"]] for one in some] for some in (regular, crowds, part.results))
    return np.stack([np.bincount(np.array(one, dtype=np.int64), minlength=len(places)) for one in columns], axis=1)
