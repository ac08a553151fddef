"""What panoptic measures are made of: how many pixels each pair of a true and a predicted segment shares, by frame.

An image is a clip of one frame. H, W image pixels · N listed segments · M pairs · F frames.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from cropformer import InputError
from entitytransfer.segment_map import VOID, SegmentMap, Segments

NO_ROW = -1


@dataclass(frozen=True)
class SegmentRows:
    """Segments of many frames, in the order of the frames and then as listed.

    Attributes:
        frames: int64 [N].
        numbers: int64 [N], from 1 in the order in which the clip first lists a segment.
        classes: int64 [N].
        areas: float64 [N], pixels.
        is_crowd: bool [N].
    """

    frames: np.ndarray
    numbers: np.ndarray
    classes: np.ndarray
    areas: np.ndarray
    is_crowd: np.ndarray

    def rows_of(self, frames: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """The row of each segment, int64 [M]; -1 for VOID, which is not listed."""
        if not self.numbers.size:
            return np.full(numbers.shape, NO_ROW)
        base = self.numbers.max() + 1
        codes = self.frames * base + self.numbers
        order = np.argsort(codes)
        rows = order[np.searchsorted(codes, frames * base + numbers, sorter=order) % codes.size]
        return np.where(numbers == VOID, NO_ROW, rows)


@dataclass(frozen=True)
class Pairs:
    """Pixels that two segments share, for those that share any: int64 [M] each, numbers as in `SegmentRows`."""

    frames: np.ndarray
    truths: np.ndarray
    predictions: np.ndarray
    areas: np.ndarray


@dataclass(frozen=True)
class ClipTable:
    """All that the measures need of a clip; its pixels are no longer held."""

    num_frames: int
    truth: SegmentRows
    predicted: SegmentRows
    pairs: Pairs

    def as_one_class(self) -> "ClipTable":
        """Every segment in class 0."""
        truth, predicted = (replace(one, classes=np.zeros_like(one.classes)) for one in (self.truth, self.predicted))
        return replace(self, truth=truth, predicted=predicted)

    def windows(self, length: int) -> "ClipTable":
        """Every run of ``length`` frames as one frame; what frames say differently is as the first of them says."""
        if length == 1:
            return self
        count = max(0, self.num_frames - length + 1)
        pair_codes = self.pairs.truths * (self.pairs.predictions.max(initial=0) + 1) + self.pairs.predictions
        rows, windows, areas = _sum_windows(self.pairs.frames, pair_codes, self.pairs.areas, length, count)
        pairs = Pairs(windows, self.pairs.truths[rows], self.pairs.predictions[rows], areas)
        truth, predicted = (_merge_windows(one, length, count) for one in (self.truth, self.predicted))
        return ClipTable(count, truth, predicted, pairs)


def tabulate(truths: Iterable[SegmentMap], predictions: Iterable[SegmentMap]) -> ClipTable:
    """Compare a clip's frames one after another; an iterator of frames is held one frame at a time.

    Raises:
        InputError: sizes differ, pixels have an id that is not listed, a predicted segment has no pixels, or a true
            one more than its area.
    """
    truth_segments, predicted_segments, shared = [], [], []
    for truth, prediction in zip(truths, predictions, strict=True):
        if truth.ids.shape != prediction.ids.shape:
            raise InputError(
                f"{prediction.source} has height and width {prediction.ids.shape} but the ground truth "
                f"{truth.ids.shape}; save it at the size of the ground truth."
            )
        truth_ids, prediction_ids, areas = count_pairs(truth.ids, prediction.ids)
        _check_truth(truth, truth_ids, areas)
        truth_segments.append(truth.segments)
        predicted_segments.append(_measured(prediction, prediction_ids, areas))
        shared.append((truth_ids, prediction_ids, areas))
    return _table(truth_segments, predicted_segments, shared)


def count_pairs(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of values of two maps of one size, and the pixels of each: int64 [M] three times.

    Values change seldom along a row, so that runs are sorted instead of pixels.
    """
    first, second = first.ravel(), second.ravel()
    changes = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1])[: first.size]
    lengths = np.diff(starts, append=first.size)
    low = int(second.min(initial=0))
    base = int(second.max(initial=0)) - low + 1
    codes = first[starts].astype(np.int64) * base + (second[starts].astype(np.int64) - low)
    codes, inverse = np.unique(codes, return_inverse=True)
    areas = np.bincount(inverse, lengths, minlength=codes.size).astype(np.int64)
    return codes // base, codes % base + low, areas


def _check_truth(truth: SegmentMap, pair_ids: np.ndarray, pair_areas: np.ndarray) -> None:
    ids, areas = _visible(truth, pair_ids, pair_areas)
    order = np.argsort(truth.segments.ids)
    listed = truth.segments.areas[order[np.searchsorted(truth.segments.ids, ids, sorter=order)]]
    if (listed < areas).any():
        wrong = int(np.argmax(listed < areas))
        raise InputError(
            f"{truth.source} has {areas[wrong]} pixels of segment {ids[wrong]}, more than its area {listed[wrong]:g}; "
            "use the JSON and the PNGs of one release."
        )


def _measured(prediction: SegmentMap, pair_ids: np.ndarray, pair_areas: np.ndarray) -> Segments:
    """The predicted segments with the areas that they have in the map."""
    ids, areas = _visible(prediction, pair_ids, pair_areas)
    segments = prediction.segments
    absent = np.setdiff1d(segments.ids, ids)
    if absent.size:
        raise InputError(
            f"{prediction.source} has no pixels of segment {absent[0]}, which its JSON lists; "
            "leave the segment out or write the PNG again."
        )
    return replace(segments, areas=areas[np.searchsorted(ids, segments.ids)].astype(np.float64))


def _visible(frame: SegmentMap, pair_ids: np.ndarray, pair_areas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ids other than VOID that a map has, ascending, and the pixels of each."""
    ids, inverse = np.unique(pair_ids, return_inverse=True)
    areas = np.bincount(inverse, pair_areas, minlength=ids.size).astype(np.int64)
    unknown = np.setdiff1d(ids, [VOID, *frame.segments.ids])
    if unknown.size:
        raise InputError(
            f"{frame.source} has pixels of segment {unknown[0]}, which its JSON does not list; "
            "list the segment or write the PNG again."
        )
    return ids[ids != VOID], areas[ids != VOID]


def _table(
    truth: Sequence[Segments], predicted: Sequence[Segments], shared: Sequence[tuple[np.ndarray, ...]]
) -> ClipTable:
    frames = _repeated([areas.size for *_, areas in shared])
    truth_ids, prediction_ids, areas = (
        np.concatenate([np.empty(0, np.int64), *column]) for column in list(zip(*shared)) or [(), (), ()]
    )
    truth_rows, truth_numbers = _rows(truth, truth_ids)
    predicted_rows, predicted_numbers = _rows(predicted, prediction_ids)
    return ClipTable(len(shared), truth_rows, predicted_rows, Pairs(frames, truth_numbers, predicted_numbers, areas))


def _rows(listed: Sequence[Segments], pair_ids: np.ndarray) -> tuple[SegmentRows, np.ndarray]:
    """The segments of all frames, and the numbers of the ids of pairs."""
    frames = _repeated([one.ids.size for one in listed])
    columns = {
        field.name: np.concatenate([np.empty(0, kind), *(getattr(one, field.name) for one in listed)])
        for field, kind in zip(fields(Segments), (np.int64, np.int64, np.float64, bool))
    }
    ids = columns.pop("ids")
    unique, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    numbers = np.empty_like(first)
    numbers[np.argsort(first)] = np.arange(1, first.size + 1)
    pair_numbers = np.concatenate([[VOID], numbers])[np.searchsorted(unique, pair_ids, side="right")]
    return SegmentRows(frames, numbers[inverse], **columns), pair_numbers


def _repeated(counts: list[int]) -> np.ndarray:
    """0, 1, ... each as often as its count says."""
    return np.repeat(np.arange(len(counts)), np.array(counts, dtype=np.int64))


def _merge_windows(segments: SegmentRows, length: int, count: int) -> SegmentRows:
    rows, windows, areas = _sum_windows(segments.frames, segments.numbers, segments.areas, length, count)
    return SegmentRows(windows, segments.numbers[rows], segments.classes[rows], areas, segments.is_crowd[rows])


def _sum_windows(
    frames: np.ndarray, codes: np.ndarray, areas: np.ndarray, length: int, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every code in every window: the first row that has it, the window, the areas added up; in row order."""
    windows = frames[:, None] - np.arange(length)  # [N,1] - [length] -> [N,length]
    rows, columns = np.nonzero((windows >= 0) & (windows < count))
    windows = windows[rows, columns]
    _, first, inverse = np.unique(
        windows * (codes.max(initial=0) + 1) + codes[rows], return_index=True, return_inverse=True
    )
    sums = np.bincount(inverse, areas[rows], minlength=first.size).astype(areas.dtype)
    order = np.argsort(first)
    return rows[first[order]], windows[first[order]], sums[order]
