"""Greedy matching and its accumulation, as COCOeval and YTVOSeval define them, for IoUs that are already known.

D detections · G ground truths · A area ranges · T IoU thresholds · M numbers of predictions · R recall levels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RECALL_LEVELS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class Matches:
    """The outcome for one class in one image or video.

    Attributes:
        scores: [D], descending.
        is_matched: bool [A,T,D].
        is_ignored: bool [A,T,D], detections that count neither way.
        num_truths: int [A], ground truths that count.
    """

    scores: np.ndarray
    is_matched: np.ndarray
    is_ignored: np.ndarray
    num_truths: np.ndarray


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
    return Matches(scores, is_matched, is_ignored, (~truth_ignored).sum(axis=1))


def accumulate(matches: Sequence[Matches], max_dets: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Precision [T,R,A,M] and recall [T,A,M] of one class over all its images or videos.

    Args:
        matches: at least one, in the order that breaks ties of scores.
        max_dets: M values; of each image or video the first so many detections count.

    Returns:
        -1 for an area range without ground truth.
    """
    num_ranges, num_thresholds, _ = matches[0].is_matched.shape
    precision = np.full((num_thresholds, len(RECALL_LEVELS), num_ranges, len(max_dets)), -1.0)
    recall = np.full((num_thresholds, num_ranges, len(max_dets)), -1.0)
    num_truths = np.sum([one.num_truths for one in matches], axis=0)
    for column, limit in enumerate(max_dets):
        order = np.argsort(-np.concatenate([one.scores[:limit] for one in matches]), kind="stable")
        is_matched, is_ignored = (
            np.concatenate([part[..., :limit] for part in parts], axis=-1)[..., order]
            for parts in ([one.is_matched for one in matches], [one.is_ignored for one in matches])
        )
        for area in np.flatnonzero(num_truths):
            right = np.cumsum(is_matched[area] & ~is_ignored[area], axis=-1).astype(np.float64)  # [T,D]
            wrong = np.cumsum(~is_matched[area] & ~is_ignored[area], axis=-1).astype(np.float64)
            reached = right / num_truths[area]
            recall[:, area, column] = reached[:, -1] if reached.size else 0.0
            precision[:, :, area, column] = _interpolate(right / (wrong + right + np.spacing(1)), reached)
    return precision, recall


def _out_of_range(areas: np.ndarray, area_ranges: np.ndarray) -> np.ndarray:
    """bool [A,N]."""
    return (areas < area_ranges[:, :1]) | (areas > area_ranges[:, 1:])


def _last_argmax(values: np.ndarray) -> np.ndarray:
    return values.shape[-1] - 1 - np.argmax(values[..., ::-1], axis=-1)


def _interpolate(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """The best precision at each recall level or beyond, 0 where the level is not reached: [T,D], [T,D] -> [T,R]."""
    best = np.maximum.accumulate(precision[:, ::-1], axis=-1)[:, ::-1]
    padded = np.concatenate([best, np.zeros((len(best), 1))], axis=-1)
    places = [np.searchsorted(row, RECALL_LEVELS, side="left") for row in recall]
    return np.take_along_axis(padded, np.stack(places), axis=-1)
