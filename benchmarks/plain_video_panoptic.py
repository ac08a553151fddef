"""VPQ and STQ of one video the plain way: every window reads its PNGs again and sorts its pixels.

The peer of the benchmark, and an independent statement of the definitions. Segments are given by frame as
{id: (class, area, is_crowd)}; H, W image pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

Segments = dict[int, tuple[int, float, bool]]
Frame = tuple[Callable[[], np.ndarray], Segments]  # reads ids [H,W]; what is listed
VOID = 0


def video_pq(truths: Sequence[Frame], predictions: Sequence[Frame], *, window: int, num_classes: int) -> np.ndarray:
    """Sum of IoUs, true positives, false positives, false negatives by class: float64 [K,4]."""
    counts = np.zeros((num_classes, 4))
    for start in range(len(truths) - window + 1):
        chosen = slice(start, start + window)
        true_ids, true_segments = _read_window(truths[chosen], count=False)
        predicted_ids, predicted_segments = _read_window(predictions[chosen], count=True)
        codes, areas = np.unique(true_ids.astype(np.uint64) * 2**24 + predicted_ids, return_counts=True)
        shared = {(int(code) >> 24, int(code) % 2**24): int(area) for code, area in zip(codes, areas)}
        _match(true_segments, predicted_segments, shared, counts)
    return counts


def _read_window(frames: Sequence[Frame], *, count: bool) -> tuple[np.ndarray, Segments]:
    """The pixels of all frames, and each segment with its areas added up."""
    maps, segments = [], {}
    for read, listed in frames:
        ids = read().astype(np.uint64)
        seen = dict(zip(*(values.tolist() for values in np.unique(ids, return_counts=True)))) if count else {}
        for segment_id, (label, area, is_crowd) in listed.items():
            first_label, total, first_crowd = segments.get(segment_id, (label, 0, is_crowd))
            segments[segment_id] = (first_label, total + (seen[segment_id] if count else area), first_crowd)
        maps.append(ids)
    return np.stack(maps), segments


def _match(truths: Segments, predictions: Segments, shared: dict[tuple[int, int], int], counts: np.ndarray) -> None:
    found_truths, found_predictions = set(), set()
    for (truth, prediction), area in shared.items():
        if truth not in truths or prediction not in predictions or truths[truth][2]:
            continue
        if truths[truth][0] != predictions[prediction][0]:
            continue
        union = truths[truth][1] + predictions[prediction][1] - area - shared.get((VOID, prediction), 0)
        if area / union > 0.5:
            counts[truths[truth][0], :2] += area / union, 1
            found_truths.add(truth)
            found_predictions.add(prediction)
    crowds = {}
    for truth, (label, _, is_crowd) in truths.items():
        if is_crowd:
            crowds[label] = truth
        elif truth not in found_truths:
            counts[label, 3] += 1
    for prediction, (label, area, _) in predictions.items():
        excused = shared.get((VOID, prediction), 0) + shared.get((crowds.get(label), prediction), 0)
        if prediction not in found_predictions and excused / area <= 0.5:
            counts[label, 2] += 1


def video_stq(truths: Sequence[Frame], predictions: Sequence[Frame], *, is_thing: np.ndarray) -> tuple[float, float]:
    """AQ and SQ in official mode, from label images of class · 2^16 + number."""
    void = len(is_thing)
    true_numbers, predicted_numbers = _numbers(truths), _numbers(predictions)
    confusion = np.zeros((void + 1, void + 1))
    true_areas, predicted_areas, shared = Counter(), Counter(), Counter()
    for truth, prediction in zip(truths, predictions):
        true_labels, predicted_labels = _labels(truth, true_numbers, void), _labels(prediction, predicted_numbers, void)
        np.add.at(confusion, (true_labels.ravel() >> 16, predicted_labels.ravel() >> 16), 1)
        thing = np.append(is_thing, False)
        is_true, is_predicted = thing[true_labels >> 16], thing[predicted_labels >> 16]
        crowd = is_true & (true_labels % 2**16 == 0)
        is_true, is_predicted = is_true & ~crowd, is_predicted & ~crowd
        _count(true_areas, true_labels[is_true])
        _count(predicted_areas, predicted_labels[is_predicted])
        both = is_true & is_predicted
        _count(shared, true_labels[both] * 2**32 + predicted_labels[both])
    quality = 0.0
    for code, area in shared.items():
        truth, prediction = divmod(code, 2**32)
        quality += area * area / (true_areas[truth] + predicted_areas[prediction] - area) / true_areas[truth]
    confusion[void] = 0
    unions = confusion.sum(axis=0) + confusion.sum(axis=1) - confusion.diagonal()
    sq = (confusion.diagonal() / np.maximum(unions, 1)).sum() / np.count_nonzero(unions)
    return quality / max(len(true_areas), 1), float(sq)


def _numbers(frames: Sequence[Frame]) -> dict[int, int]:
    """From 0 in the order in which segments are first listed."""
    numbers: dict[int, int] = {}
    for _, segments in frames:
        for segment_id in segments:
            numbers.setdefault(segment_id, len(numbers))
    return numbers


def _labels(frame: Frame, numbers: dict[int, int], void: int) -> np.ndarray:
    read, segments = frame
    ids = read()
    labels = np.full(ids.shape, void << 16, dtype=np.int64)
    for segment_id, (label, _, _) in segments.items():
        labels[ids == segment_id] = (label << 16) + numbers[segment_id]
    return labels


def _count(areas: Counter, labels: np.ndarray) -> None:
    for label, area in zip(*(values.tolist() for values in np.unique(labels, return_counts=True))):
        areas[label] += area
