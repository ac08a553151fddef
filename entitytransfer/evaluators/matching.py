"""Greedy matching, as COCOeval and YTVOSeval define it, for IoUs that are already known.

D detections · G ground truths · A area ranges · T IoU thresholds.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Matches:
    """The outcome for one class in one image or video.

    Attributes:
        scores: [D], descending.
        is_matched: bool [A,T,D].
        is_ignored: bool [A,T,D], detections that count neither way.
        num_truths: int [A], ground truths that count.
        is_taken: bool [A,T,G], ground truths that a detection matches.
    """

    scores: np.ndarray
    is_matched: np.ndarray
    is_ignored: np.ndarray
    num_truths: np.ndarray
    is_taken: np.ndarray


def match(
    ious: np.ndarray,
    scores: np.ndarray,
    *,
    detection_areas: np.ndarray,
    truth_areas: np.ndarray,
    is_crowd: np.ndarray,
    area_ranges: np.ndarray,
    iou_thresholds: np.ndarray,
) -> Matches:
    """Give each detection, best first, the free ground truth that it overlaps most, of equal ones the last.

    Ground truth out of the area range, and crowds, are taken only where nothing else fits, and the detection is then
    ignored, as is one that matches nothing and is itself out of range. A crowd stays free.

    Args:
        ious: [D,G].
        scores: [D], descending.
        detection_areas: [D].
        truth_areas: [G].
        is_crowd: bool [G].
        area_ranges: [A,2], both ends included.
        iou_thresholds: [T].
    """
    truth_ignored = is_crowd | _out_of_range(truth_areas, area_ranges)  # [A,G]
    is_free = np.ones((len(area_ranges), len(iou_thresholds), len(truth_areas)), dtype=bool)
    is_matched = np.zeros((*is_free.shape[:2], len(scores)), dtype=bool)
    is_ignored = np.zeros_like(is_matched)
    limits = np.minimum(iou_thresholds, 1 - 1e-10)[:, None]  # [T,1]
    for index, row in enumerate(ious if ious.size else ()):
        is_possible = (is_free | is_crowd) & (row >= limits)  # [A,T,G]
        is_regular = is_possible & ~truth_ignored[:, None]
        has_regular = is_regular.any(axis=-1)  # [A,T]
        candidates = np.where(has_regular[..., None], is_regular, is_possible)
        best = _last_argmax(np.where(candidates, row, -1.0))
        found = candidates.any(axis=-1)
        is_matched[..., index] = found
        is_ignored[..., index] = found & ~has_regular
        ranges, thresholds = np.nonzero(found)
        is_free[ranges, thresholds, best[ranges, thresholds]] = False
    is_ignored |= ~is_matched & _out_of_range(detection_areas, area_ranges)[:, None]
    return Matches(scores, is_matched, is_ignored, (~truth_ignored).sum(axis=1), ~is_free)


def _out_of_range(areas: np.ndarray, area_ranges: np.ndarray) -> np.ndarray:
    """bool [A,N]."""
    return (areas < area_ranges[:, :1]) | (areas > area_ranges[:, 1:])


def _last_argmax(values: np.ndarray) -> np.ndarray:
    return values.shape[-1] - 1 - np.argmax(values[..., ::-1], axis=-1)
