"""Matches of image after image or video after video, some bytes for each detection, and precision and recall over them.

D detections · U units, images or videos · A area ranges · T IoU thresholds · K classes · M numbers of predictions ·
R recall levels.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from entitytransfer.evaluators.matching import Matches

RECALL_LEVELS = np.linspace(0.0, 1.0, 101)
_BLOCK = 2**17  # detections times thresholds that are counted at once


@dataclass(frozen=True)
class _Units:
    """The matches of some units.

    Attributes:
        detections: [D] of unit, class, rank (the place in its unit and class), score and flags (uint8 [A,bytes], the
            bits of what is right at each of T thresholds, then of what is wrong; what is ignored is neither).
        truths: unit, class and the number of ground truths that count, [A], wherever a unit has a class.
    """

    detections: np.ndarray
    truths: np.ndarray

    @classmethod
    def one(cls, unit: int, matches: Mapping[int, Matches], types: tuple[np.dtype, np.dtype]) -> "_Units":
        """A single unit, by the index of the class, with the types of both tables, which all units share."""
        counts = [len(one.scores) for one in matches.values()]
        detections, truths = (np.empty(count, dtype) for count, dtype in zip((sum(counts), len(matches)), types))
        detections["unit"] = truths["unit"] = unit
        truths["class"] = list(matches)
        detections["class"] = np.repeat(truths["class"], counts)
        stops = np.cumsum(counts, dtype=np.int64).tolist()
        for index, (one, count, stop) in enumerate(zip(matches.values(), counts, stops)):
            some = slice(stop - count, stop)
            detections["rank"][some] = np.arange(count)
            detections["score"][some] = one.scores
            detections["flags"][some] = _pack(one)
            truths["count"][index] = one.num_truths
        return cls(detections, truths)

    @classmethod
    def together(cls, parts: Sequence["_Units"]) -> "_Units":
        """All of them; the units of each part must come after those of the part before it."""
        return cls(*(np.concatenate(tables) for tables in zip(*((one.detections, one.truths) for one in parts))))

    def best_first(self) -> "_Units":
        """The detections by class and the best of each class first, of equal ones those of the first unit."""
        order = np.lexsort((-self.detections["score"], self.detections["class"]))
        return _Units(self.detections[order], self.truths)

    def after(self, count: int) -> "_Units":
        """The same as units that come after so many others."""
        shifted = [self.detections.copy(), self.truths.copy()]
        for table in shifted:
            table["unit"] += count
        return _Units(*shifted)


class KeptMatches:
    """Matches of all classes, unit by unit; a unit is an image or a video.

    Args:
        num_classes: K.
        num_areas: A.
        num_thresholds: T.
        max_dets: M values, ascending; of each unit and class the first so many detections count.
    """

    def __init__(self, num_classes: int, *, num_areas: int, num_thresholds: int, max_dets: Sequence[int]) -> None:
        self._num_classes = num_classes
        self._num_areas, self._num_thresholds = num_areas, num_thresholds
        self._max_dets = tuple(max_dets)
        self._types = _types(num_areas, num_thresholds)
        self._parts = [_Units.one(0, {}, self._types)]
        self._num_units = 0

    def add(self, matches: Mapping[int, Matches]) -> None:
        """Keep the matches of one more unit, by the index of the class; a class that it does not have stays out."""
        self._parts.append(_Units.one(self._num_units, matches, self._types))
        self._num_units += 1

    def extend(self, others: Iterable["KeptMatches"]) -> None:
        """Keep the units of others too, which have the same classes, ranges, thresholds and limits."""
        for other in others:
            self._parts += [part.after(self._num_units) for part in other._parts]
            self._num_units += other._num_units

    def accumulate(self, units: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Precision [T,R,K,A,M] and recall [T,K,A,M], -1 where a class has no ground truth.

        Args:
            units: indices of the units to count, once for every time they are named, in ascending order, which is the
                order that breaks ties of scores; all of them if left out.
        """
        kept = self._joined()
        detections, repeats = kept.detections, np.ones(self._num_units, dtype=np.int64)
        if units is not None:
            repeats = np.bincount(units, minlength=self._num_units)
            detections = _repeated(detections, repeats)
        num_truths = np.zeros((self._num_classes, self._num_areas), dtype=np.int64)
        np.add.at(num_truths, kept.truths["class"], repeats[kept.truths["unit"]][:, None] * kept.truths["count"])
        bounds = np.searchsorted(detections["class"], np.arange(self._num_classes + 1))
        shape = self._num_thresholds, *num_truths.shape, len(self._max_dets)
        precision = np.full((shape[0], len(RECALL_LEVELS), *shape[1:]), -1.0)
        recall = np.full(shape, -1.0)
        for index, counts in enumerate(num_truths):
            of_class = detections[bounds[index] : bounds[index + 1]]
            self._accumulate_class(of_class, counts, precision[:, :, index], recall[:, index])
        return precision, recall

    def recall_of_each(self) -> np.ndarray:
        """Recall of every unit by itself [U,T,K,A,M], -1 where it has no ground truth of a class."""
        kept = self._joined()
        num_truths = np.zeros((self._num_units, 1, self._num_classes, self._num_areas, 1), dtype=np.int64)
        num_truths[kept.truths["unit"], 0, kept.truths["class"], :, 0] = kept.truths["count"]
        found = np.zeros((self._num_units, self._num_thresholds, *num_truths.shape[2:-1], len(self._max_dets)))
        for area in range(self._num_areas):
            is_right = _unpack(kept.detections["flags"][:, area].T, np.arange(self._num_thresholds))
            thresholds, rows = np.nonzero(is_right)
            some = kept.detections[["unit", "class", "rank"]][rows]
            for column, limit in enumerate(self._max_dets):
                best = np.flatnonzero(some["rank"] < limit)
                np.add.at(found[:, :, :, area, column], (some["unit"][best], thresholds[best], some["class"][best]), 1)
        return np.divide(found, num_truths, out=np.full(found.shape, -1.0), where=num_truths > 0)

    def _joined(self) -> _Units:
        if len(self._parts) > 1:
            self._parts = [_Units.together(self._parts)]  # lets go of the parts before it is sorted
            self._parts = [self._parts[0].best_first()]
        return self._parts[0]

    def _accumulate_class(
        self, detections: np.ndarray, num_truths: np.ndarray, precision: np.ndarray, recall: np.ndarray
    ) -> None:
        """Fill in precision [T,R,A,M] and recall [T,A,M] of one class, whose detections come best first."""
        best = [np.flatnonzero(detections["rank"] < limit) for limit in self._max_dets]
        for area in np.flatnonzero(num_truths):
            flags = np.ascontiguousarray(detections["flags"][:, area].T)  # [bytes,D]
            for some in _blocks(len(recall), len(detections)):
                is_right, is_wrong = (_unpack(flags, some + shift) for shift in (0, len(recall)))
                for column, rows in enumerate(best):
                    of_both = np.take(is_right, rows, axis=1), np.take(is_wrong, rows, axis=1)
                    precision[some, :, area, column], recall[some, area, column] = _curve(*of_both, num_truths[area])


def _types(num_areas: int, num_thresholds: int) -> tuple[np.dtype, np.dtype]:
    """Of the detections and the ground truths of `_Units`."""
    flags = ("flags", "u1", (num_areas, -(-2 * num_thresholds // 8)))
    detections = [("unit", "i4"), ("class", "i4"), ("rank", "i4"), ("score", "f8"), flags]
    return np.dtype(detections), np.dtype([("unit", "i4"), ("class", "i4"), ("count", "i8", (num_areas,))])


def _pack(matches: Matches) -> np.ndarray:
    """Flags of a class in a unit, uint8 [D,A,bytes]."""
    is_right = matches.is_matched & ~matches.is_ignored
    is_wrong = ~matches.is_matched & ~matches.is_ignored
    return np.packbits(np.concatenate([is_right, is_wrong], axis=1).transpose(2, 0, 1), axis=-1)  # [A,2T,D] -> [D,A,2T]


def _unpack(flags: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Some of the bits of flags, bool [bits,D] from uint8 [bytes,D]."""
    shifts = (7 - bits % 8).astype(np.uint8)
    return (flags[bits // 8] >> shifts[:, None] & 1).view(bool)


def _repeated(detections: np.ndarray, repeats: np.ndarray) -> np.ndarray:
    """Sorted detections as often as their units count, [U], in the order of a set in which these units follow."""
    times = repeats[detections["unit"]]
    rows = np.repeat(np.arange(times.size), times)
    copies = np.arange(rows.size) - np.repeat(np.cumsum(times) - times, times)
    # Equal scores within a unit: all of the first copy come before those of the second.
    ties = [np.diff(detections[name], prepend=-1) != 0 for name in ("class", "unit", "score")]
    groups = np.cumsum(np.logical_or.reduce(ties))
    return detections[rows[np.lexsort((copies, groups[rows]))]]


def _blocks(num_thresholds: int, num_detections: int) -> list[np.ndarray]:
    """All thresholds at once for few detections, one by one for many, so that temporaries stay small."""
    step = max(1, _BLOCK // max(num_detections, 1))
    return [np.arange(start, min(start + step, num_thresholds)) for start in range(0, num_thresholds, step)]


def _curve(is_right: np.ndarray, is_wrong: np.ndarray, num_truths: int) -> tuple[np.ndarray, np.ndarray]:
    """Precision [T,R] and recall [T] of detections in the order of their scores, bool [T,D], as COCOeval does.

    Recall grows, and precision is highest, where a detection is right: nothing else is looked at.
    """
    thresholds, places = np.nonzero(is_right)
    num_right = np.count_nonzero(is_right, axis=1)
    right = np.arange(1, places.size + 1) - np.repeat(np.cumsum(num_right) - num_right, num_right)
    wrong = np.cumsum(is_wrong, axis=1, dtype=np.int32)[thresholds, places]
    most = int(num_right.max())
    precision = np.zeros((len(is_right), most + 1))
    precision[thresholds, right - 1] = right / (wrong.astype(np.float64) + right + np.spacing(1))
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return best[:, np.searchsorted(np.arange(1, most + 1) / num_truths, RECALL_LEVELS)], num_right / num_truths
