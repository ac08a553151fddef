"""PQ of images and VPQ of videos, exactly as panopticapi and the VIPSeg release compute them.

Both are one routine: a window of frames is one image whose areas are added up, and PQ is VPQ of windows of one frame.
K classes · N segments.
"""

from collections.abc import Sequence

import numpy as np

from entitytransfer.evaluators.segment_tables import NO_ROW, ClipTable
from entitytransfer.evaluators.unit_sums import UnitSums

PAPER_WINDOWS = (1, 2, 4, 6)  # the VIPSeg paper
RELEASED_WINDOWS = (1, 2, 4, 6, 8)  # the script released with it
SUM_IOU, TP, FP, FN = range(4)


class PanopticQuality:
    """Collects images or videos; of each only counts by class are kept.

    Args:
        is_thing: bool [K].
        windows: frames in a window, one or more lengths.
    """

    def __init__(self, is_thing: np.ndarray, *, windows: Sequence[int] = (1,)) -> None:
        self._num_classes = len(is_thing)
        self._groups = {"": np.ones_like(is_thing), "_th": is_thing, "_st": ~is_thing}
        self._sums = {window: UnitSums(self._num_classes, 4) for window in windows}

    def update(self, clip: ClipTable, *, ceilings: np.ndarray | None = None) -> None:
        """Add an image or a video; for ``ceilings``, which only windows of one frame can have, see `match_segments`."""
        for window, sums in self._sums.items():
            sums.append_dense(match_segments(clip.windows(window), num_classes=self._num_classes, ceilings=ceilings))

    def counts(self, window: int = 1, units: np.ndarray | None = None) -> np.ndarray:
        """Sum of IoUs, true positives, false positives, false negatives: float64 [K,4]."""
        return self._sums[window].total(units)

    def compute(self, units: np.ndarray | None = None) -> dict[str, float]:
        """PQ, SQ and RQ of images, over all classes, things (``_th``) and stuff (``_st``).

        Args:
            units: indices of the images to count, once for every time they are named; all if left out.

        Returns:
            Means over the classes that occur; nan where none does (panopticapi says 0 there).
        """
        names = ("PQ", "SQ", "RQ")
        values = {suffix: self._averages(1, classes, units) for suffix, classes in self._groups.items()}
        return {
            f"{name}{suffix}": float(values[suffix][index]) for suffix in values for index, name in enumerate(names)
        }

    def compute_windows(self, mean_windows: Sequence[int], units: np.ndarray | None = None) -> dict[str, float]:
        """VPQ of videos: ``VPQ_k`` for every window length, and ``VPQ``, their mean over ``mean_windows``.

        ``VPQ_released`` is the mean over the windows of the released script, if they are there. All of them also for
        things (``_th``) and stuff (``_st``). nan where no video is as long as a window, or no class occurs.
        """
        metrics = {}
        for suffix, classes in self._groups.items():
            by_window = {window: float(self._averages(window, classes, units)[0]) for window in self._sums}
            metrics[f"VPQ{suffix}"] = float(np.mean([by_window[window] for window in mean_windows]))
            metrics |= {f"VPQ_{window}{suffix}": value for window, value in by_window.items()}
            if set(RELEASED_WINDOWS) <= by_window.keys():
                released = float(np.mean([by_window[window] for window in RELEASED_WINDOWS]))
                metrics[f"VPQ_released{suffix}"] = released
        return metrics

    def _averages(self, window: int, classes: np.ndarray, units: np.ndarray | None) -> np.ndarray:
        """PQ, SQ, RQ averaged over those of the classes that occur: float64 [3]."""
        counts = self.counts(window, units)[classes]
        counts = counts[counts[:, TP:].any(axis=1)]
        if not counts.size:
            return np.full(3, np.nan)
        weights = counts[:, TP] + 0.5 * counts[:, FP] + 0.5 * counts[:, FN]
        sq = counts[:, SUM_IOU] / np.maximum(counts[:, TP], 1)  # a class without a match has no IoU to divide
        return np.mean([counts[:, SUM_IOU] / weights, sq, counts[:, TP] / weights], axis=1)


def match_segments(table: ClipTable, *, num_classes: int, ceilings: np.ndarray | None = None) -> np.ndarray:
    """Match segments of one class whose IoU is above 1/2, in every frame of the table by itself.

    Args:
        table: frames, or windows of frames.
        num_classes: K.
        ceilings: float64 [M], an upper bound on the IoU of each pair, as the boundary IoU is one.

    Returns:
        Sum of IoUs, true positives, false positives, false negatives by class: float64 [K,4]. (panopticapi,
        ``pq_compute_single_core``: VOID is taken out of the union, crowds match nothing, and predictions that lie on
        VOID or on a crowd of their class for more than half are not false.)
    """
    truth, predicted, pairs = table.truth, table.predicted, table.pairs
    truth_rows = truth.rows_of(pairs.frames, pairs.truths)
    predicted_rows = predicted.rows_of(pairs.frames, pairs.predictions)
    on_void = _add_up(pairs.areas, predicted_rows, truth_rows == NO_ROW, predicted.numbers.size)
    candidates = np.flatnonzero((truth_rows != NO_ROW) & (predicted_rows != NO_ROW))
    ours, theirs = predicted_rows[candidates], truth_rows[candidates]
    shared = pairs.areas[candidates]
    ious = shared / (predicted.areas[ours] + truth.areas[theirs] - shared - on_void[ours])
    if ceilings is not None:
        ious = np.minimum(ious, ceilings[candidates])
    matches = (ious > 0.5) & (predicted.classes[ours] == truth.classes[theirs]) & ~truth.is_crowd[theirs]
    missed = ~truth.is_crowd
    missed[theirs[matches]] = False
    excused = on_void + _on_crowd(table, truth_rows, predicted_rows, num_classes)
    wrong = excused <= 0.5 * predicted.areas
    wrong[ours[matches]] = False
    matched_classes = truth.classes[theirs[matches]]
    return np.stack(
        [
            np.bincount(matched_classes, ious[matches], minlength=num_classes),
            np.bincount(matched_classes, minlength=num_classes),
            np.bincount(predicted.classes[wrong], minlength=num_classes),
            np.bincount(truth.classes[missed], minlength=num_classes),
        ],
        axis=1,
    )


def _on_crowd(table: ClipTable, truth_rows: np.ndarray, predicted_rows: np.ndarray, num_classes: int) -> np.ndarray:
    """Pixels of each prediction on the crowd of its class; of several the last listed counts, as in panopticapi."""
    truth, predicted = table.truth, table.predicted
    crowds = np.flatnonzero(truth.is_crowd)
    if not crowds.size or not predicted.numbers.size:
        return np.zeros(predicted.numbers.size)
    crowd_of = np.full((table.num_frames, num_classes), NO_ROW)
    crowd_of[truth.frames[crowds], truth.classes[crowds]] = crowds
    own = crowd_of[table.pairs.frames, predicted.classes[predicted_rows]]
    on_own = (truth_rows != NO_ROW) & (own == truth_rows)
    return _add_up(table.pairs.areas, predicted_rows, on_own, predicted.numbers.size)


def _add_up(areas: np.ndarray, rows: np.ndarray, chosen: np.ndarray, count: int) -> np.ndarray:
    """Areas of the chosen pairs by row: float64 [count]."""
    chosen = chosen & (rows != NO_ROW)
    return np.bincount(rows[chosen], areas[chosen], minlength=count)
