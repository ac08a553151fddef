"""STQ of videos: association quality of things times segmentation quality of all classes, as the VIPSeg release does.

K classes · M pairs.
"""

import numpy as np

from entitytransfer.evaluators.segment_tables import NO_ROW, ClipTable, SegmentRows
from entitytransfer.evaluators.unit_sums import UnitSums

STQ_MODES = ("official", "corrected")
_FIRST_LISTED = 1
_SHARED, _TRUE, _PREDICTED = range(3)


class TrackingQuality:
    """Collects videos; of each only sums are kept.

    Args:
        is_thing: bool [K].
        mode: "official" as released, with two quirks: the segment that a video's ground truth lists first counts as
            a crowd if it is a thing, and where anything labelled is predicted VOID, VOID is one more class with IoU 0.
            "corrected": crowds are the segments that say so, and VOID is no class.
    """

    def __init__(self, is_thing: np.ndarray, *, mode: str = "official") -> None:
        self._is_thing = is_thing
        self._official = mode == "official"
        self._pixels = UnitSums(len(is_thing) + 1, 3)  # the last class is VOID
        self._tracks = UnitSums(1, 2)

    def update(self, clip: ClipTable) -> None:
        """Add a video."""
        pairs, void = clip.pairs, len(self._is_thing)
        truth_classes, predicted_classes = (
            _classes(rows, pairs.frames, numbers, void)
            for rows, numbers in ((clip.truth, pairs.truths), (clip.predicted, pairs.predictions))
        )
        labelled = truth_classes != void
        self._pixels.append_dense(
            np.stack(
                [
                    np.bincount(classes[chosen], pairs.areas[chosen], minlength=void + 1)
                    for classes, chosen in (
                        (truth_classes, labelled & (truth_classes == predicted_classes)),
                        (truth_classes, labelled),
                        (predicted_classes, labelled),
                    )
                ],
                axis=1,
            )
        )
        self._tracks.append_dense(self._associate(clip, truth_classes, predicted_classes))

    def compute(self, units: np.ndarray | None = None) -> dict[str, float]:
        """STQ = sqrt(AQ · SQ), AQ and SQ; nan where there is no pixel with a class.

        Args:
            units: indices of the videos to count, once for every time they are named; all if left out.
        """
        pixels = self._pixels.total(units) if self._official else self._pixels.total(units)[:-1]
        unions = pixels[:, _TRUE] + pixels[:, _PREDICTED] - pixels[:, _SHARED]
        ious = pixels[unions > 0, _SHARED] / unions[unions > 0]
        ((quality, tracks),) = self._tracks.total(units)
        if not ious.size:
            return dict.fromkeys(("STQ", "AQ", "SQ"), float("nan"))
        aq, sq = quality / max(tracks, 1), ious.mean()  # without things the release has an AQ of 0
        return {"STQ": float(np.sqrt(aq * sq)), "AQ": float(aq), "SQ": float(sq)}

    def _associate(self, clip: ClipTable, truth_classes: np.ndarray, predicted_classes: np.ndarray) -> np.ndarray:
        """Sum of the association quality over true things, and their number: float64 [1,2]."""
        pairs = clip.pairs
        is_thing = np.append(self._is_thing, False)  # VOID is none
        true_thing = is_thing[truth_classes]
        crowd = true_thing & self._is_crowd(clip)
        true_thing = true_thing & ~crowd
        predicted_thing = is_thing[predicted_classes] & ~crowd
        truth_tracks, truth_areas = _tracks(pairs.truths, truth_classes, pairs.areas, true_thing)
        predicted_tracks, predicted_areas = _tracks(pairs.predictions, predicted_classes, pairs.areas, predicted_thing)
        both = true_thing & predicted_thing
        codes, inverse = np.unique(
            truth_tracks[both] * (predicted_areas.size + 1) + predicted_tracks[both], return_inverse=True
        )
        shared = np.bincount(inverse, pairs.areas[both], minlength=codes.size)
        true, predicted = codes // (predicted_areas.size + 1), codes % (predicted_areas.size + 1)
        unions = truth_areas[true] + predicted_areas[predicted] - shared
        return np.array([[np.sum(shared**2 / unions / truth_areas[true]), float(truth_areas.size)]])

    def _is_crowd(self, clip: ClipTable) -> np.ndarray:
        """Which pairs lie on a crowd, if their true class is a thing: bool [M]."""
        if self._official:
            return clip.pairs.truths == _FIRST_LISTED
        rows = clip.truth.rows_of(clip.pairs.frames, clip.pairs.truths)
        return np.append(clip.truth.is_crowd, False)[rows]  # VOID, row -1, finds the one appended


def _classes(segments: SegmentRows, frames: np.ndarray, numbers: np.ndarray, void: int) -> np.ndarray:
    """The class of each of a frame's segments, int64 [M]; ``void`` for VOID."""
    rows = segments.rows_of(frames, numbers)
    return np.append(segments.classes, void)[np.where(rows == NO_ROW, segments.classes.size, rows)]


def _tracks(
    numbers: np.ndarray, classes: np.ndarray, areas: np.ndarray, chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Tracks are segments of one number and class: an index for each pair, [M], and the pixels of each track."""
    base = classes.max(initial=0) + 1
    codes, inverse = np.unique((numbers * base + classes)[chosen], return_inverse=True)
    index = np.full(numbers.shape, NO_ROW)
    index[chosen] = inverse
    return index, np.bincount(inverse, areas[chosen], minlength=codes.size)
