"""Matches of image after image or video after video, a few hundred bytes each, and precision and recall over them.

D detections · A area ranges · T IoU thresholds · K classes · M numbers of predictions · R recall levels.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from entitytransfer.evaluators.matching import Matches

RECALL_LEVELS = np.linspace(0.0, 1.0, 101)
_BLOCK = 2**17  # detections times thresholds that are counted at once


@dataclass(frozen=True, slots=True)
class _Packed:
    """The matches of one class in one image or video.

    Attributes:
        scores: float64 [D], descending.
        flags: uint8 [A,T,bytes], the bits of is_matched [D], then those of is_ignored [D].
        num_truths: int64 [A], ground truths that count.
    """

    scores: np.ndarray
    flags: np.ndarray
    num_truths: np.ndarray

    @classmethod
    def of(cls, matches: Matches) -> "_Packed":
        flags = np.packbits(np.concatenate([matches.is_matched, matches.is_ignored], axis=-1), axis=-1)  # [A,T,2D]
        return cls(np.array(matches.scores, dtype=np.float64), flags, np.asarray(matches.num_truths))

    def unpack(self, area: int, thresholds: slice) -> np.ndarray:
        """The flags of one area range, uint8 [2,T,D] of 0 and 1."""
        count = len(self.scores)
        flags = np.unpackbits(self.flags[area, thresholds], axis=-1, count=2 * count)
        return flags.reshape(len(flags), 2, count).swapaxes(0, 1)  # [T,2D] -> [T,2,D] -> [2,T,D]


class KeptMatches:
    """Matches of all classes, unit by unit; a unit is an image or a video.

    Args:
        num_classes: K.
        num_areas: A.
        num_thresholds: T.
        max_dets: M values, ascending; of each unit and class the first so many detections count.
    """

    def __init__(self, num_classes: int, *, num_areas: int, num_thresholds: int, max_dets: Sequence[int]) -> None:
        self._num_classes, self._num_areas, self._num_thresholds = num_classes, num_areas, num_thresholds
        self._max_dets = tuple(max_dets)
        self._units: list[dict[int, _Packed]] = []

    def add(self, matches: Mapping[int, Matches]) -> None:
        """Keep the matches of one more unit, by the index of the class; a class that it does not have stays out."""
        self._units.append({index: _Packed.of(one) for index, one in matches.items()})

    def extend(self, others: Iterable["KeptMatches"]) -> None:
        """Keep the units of others too, which have the same classes, ranges, thresholds and limits."""
        for other in others:
            self._units += other._units

    def accumulate(self, units: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Precision [T,R,K,A,M] and recall [T,K,A,M], -1 where a class has no ground truth.

        Args:
            units: indices of the units to count, once for every time they are named, in ascending order, which is the
                order that breaks ties of scores; all of them if left out.
        """
        chosen = self._units if units is None else [self._units[index] for index in units.tolist()]
        shape = self._num_thresholds, self._num_classes, self._num_areas, len(self._max_dets)
        precision = np.full((shape[0], len(RECALL_LEVELS), *shape[1:]), -1.0)
        recall = np.full(shape, -1.0)
        for index in range(self._num_classes):
            of_class = [unit[index] for unit in chosen if index in unit]
            if of_class:
                self._accumulate_class(of_class, precision[:, :, index], recall[:, index])
        return precision, recall

    def _accumulate_class(self, units: list[_Packed], precision: np.ndarray, recall: np.ndarray) -> None:
        """Fill in precision [T,R,A,M] and recall [T,A,M] of one class."""
        num_truths = np.sum([one.num_truths for one in units], axis=0)
        order = np.argsort(-np.concatenate([one.scores for one in units]), kind="stable")
        ranks = np.concatenate([np.arange(len(one.scores)) for one in units])[order]
        for area in np.flatnonzero(num_truths):
            for some in _blocks(self._num_thresholds, order.size):
                flags = np.concatenate([one.unpack(area, some) for one in units], axis=-1)  # [2,T,D]
                for column, limit in enumerate(self._max_dets):
                    precision[some, :, area, column], recall[some, area, column] = _curve(
                        *flags[..., order[ranks < limit]], num_truths[area]
                    )


def _blocks(num_thresholds: int, num_detections: int) -> list[slice]:
    """All thresholds at once for few detections, one by one for many, so that temporaries stay small."""
    step = max(1, _BLOCK // max(num_detections, 1))
    return [slice(start, start + step) for start in range(0, num_thresholds, step)]


def _curve(is_matched: np.ndarray, is_ignored: np.ndarray, num_truths: int) -> tuple[np.ndarray, np.ndarray]:
    """Precision [T,R] and recall [T] of detections in the order of their scores, 0 or 1 [T,D], as COCOeval does."""
    right = np.cumsum(is_matched > is_ignored, axis=-1).astype(np.float64)
    wrong = np.cumsum(is_matched + is_ignored == 0, axis=-1).astype(np.float64)
    reached = right / num_truths
    recall = reached[:, -1] if reached.size else np.zeros(len(reached))
    return _interpolate(right / (wrong + right + np.spacing(1)), reached), recall


def _interpolate(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """The best precision at each recall level or beyond, 0 where the level is not reached: [T,D], [T,D] -> [T,R]."""
    best = np.maximum.accumulate(precision[:, ::-1], axis=-1)[:, ::-1]
    padded = np.concatenate([best, np.zeros((len(best), 1))], axis=-1)
    places = [np.searchsorted(row, RECALL_LEVELS, side="left") for row in recall]
    return np.take_along_axis(padded, np.stack(places), axis=-1)
