"""Human correction effort (HCE): how many clicks repair a mask, in polygon points and in whole regions.

Qin et al., "Highly Accurate Dichotomous Image Segmentation", section 5; official tool: ``hce_metric_main.py`` of DIS.
H, W image pixels · P contour points, in the order in which they are walked.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import cv2
import numpy as np

from entitytransfer.evaluators.skeletons import skeleton_of

RELAX = 5
EPSILON = 2.0
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


@dataclass(frozen=True)
class CorrectionEffort:
    """The clicks that one image needs: polygon points along wrong borders, and isolated regions, one click each."""

    false_positive_points: int
    false_positive_regions: int
    false_negative_points: int
    false_negative_regions: int

    @property
    def total(self) -> int:
        """The HCE of the image."""
        points = self.false_positive_points + self.false_negative_points
        return points + self.false_positive_regions + self.false_negative_regions


def human_correction_effort(
    predicted: np.ndarray,
    foreground: np.ndarray,
    *,
    skeleton: np.ndarray | None = None,
    relax: int = RELAX,
    epsilon: float = EPSILON,
) -> CorrectionEffort:
    """Count the clicks that turn a predicted mask into the true one.

    Args:
        predicted: bool [H,W].
        foreground: the true mask, bool [H,W].
        skeleton: `skeleton_of` it, if it is known.
        relax: errors that this many erosions of the union of the masks remove cost nothing.
        epsilon: pixels by which a polygon may deviate from the border.
    """
    skeleton = skeleton_of(foreground) if skeleton is None else skeleton
    right = foreground & predicted
    core = _eroded(foreground | predicted, relax)
    surplus = _regrown(predicted & ~foreground, core, relax)
    missing = _regrown(foreground & ~predicted, core, relax) | (skeleton & ~right)
    background = ~(right | surplus | missing)
    surplus_points, surplus_regions = _clicks(surplus, right | missing, epsilon=epsilon)
    missing_points, missing_regions = _clicks(missing, background, epsilon=epsilon)
    return CorrectionEffort(surplus_points, surplus_regions, missing_points, missing_regions)


def _eroded(mask: np.ndarray, times: int) -> np.ndarray:
    return cv2.erode(mask.view(np.uint8), _CROSS, iterations=times).view(bool) if times else mask


def _regrown(errors: np.ndarray, core: np.ndarray, times: int) -> np.ndarray:
    """The errors that reach into the core, and what is connected with them inside the errors."""
    grown = errors & core
    for _ in range(times):
        grown = cv2.dilate(grown.view(np.uint8), _CROSS).view(bool) & errors
    return grown


def _clicks(errors: np.ndarray, neighbours: np.ndarray, *, epsilon: float) -> tuple[int, int]:
    """Points along the borders with the neighbours, and regions that have no such border."""
    contours = _Contours(errors)
    beside = cv2.dilate(neighbours.view(np.uint8), _CROSS).view(bool)
    is_kept = contours.on(beside) & contours.is_first_visit()
    polygons = (cv2.approxPolyDP(points[:, None], epsilon, False) for points in contours.stretches(is_kept))
    num_points = sum(len(polygon) for polygon in polygons)
    num_labels, labels = cv2.connectedComponents(errors.view(np.uint8), connectivity=8)
    touched = np.unique(contours.on(labels)[is_kept])
    return num_points, num_labels - 1 - len(touched)


class _Contours:
    """The borders of all regions and holes of a mask, one after the other."""

    def __init__(self, mask: np.ndarray) -> None:
        found = cv2.findContours(mask.view(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE)[0]
        self._xy = np.concatenate([contour[:, 0] for contour in found] or [np.zeros((0, 2), dtype=np.int32)])  # [P,2]
        self._numbers = np.repeat(np.arange(len(found)), [len(contour) for contour in found])  # [P]
        self._width = mask.shape[1]

    def on(self, image: np.ndarray) -> np.ndarray:
        """The values of an image at the points, [P]."""
        return image[self._xy[:, 1], self._xy[:, 0]]

    def is_first_visit(self) -> np.ndarray:
        """bool [P]: a pixel that is passed twice, as those of a thin line are on the way back, counts once."""
        pixels = self._xy[:, 1].astype(np.int64) * self._width + self._xy[:, 0]
        first = np.zeros(len(pixels), dtype=bool)
        first[np.unique(pixels, return_index=True)[1]] = True
        return first

    def stretches(self, is_kept: np.ndarray) -> Iterator[np.ndarray]:
        """The unbroken runs of kept points [P], int32 [points,2], where a contour's last joins its first if they meet.

        The first one is then walked backwards, as in the official tool.
        """
        kept = np.flatnonzero(is_kept)
        numbers = self._numbers[kept]
        begins = np.ones(len(kept), dtype=bool)
        begins[1:] = (np.diff(kept) > 1) | (np.diff(numbers) > 0)
        starts = np.flatnonzero(begins)
        runs = zip(numbers[starts].tolist(), np.split(self._xy[kept], starts[1:]))
        for _, contour in groupby(runs, key=itemgetter(0)):
            first, *others = (run for _, run in contour)
            if others and np.abs(first[0] - others[-1][-1]).max() == 1:
                others[-1] = np.concatenate([others[-1], first[::-1]])
            else:
                yield first
            yield from others
