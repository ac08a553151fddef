"""Weighted F of a grey map: errors are smoothed near the mask's border and weigh more far from it.

Margolin et al., "How to Evaluate Foreground Maps?"; numbers as SOCToolbox computes them. H, W image pixels.
"""

import cv2
import numpy as np

_SIGMA, _REACH = 5.0, 3  # of the smoothing: a window of 7x7
_NEAREST = 4  # rows or columns to the nearest pixel of the mask from anywhere in a window that holds one: 3 * sqrt(2)
_FAR = 300  # pixels at which a weight has been 2 in double precision for long
_EPSILON = np.spacing(1)


def weighted_f(values: np.ndarray, foreground: np.ndarray) -> float:
    """The weighted F-measure; 0 where the mask is empty.

    Args:
        values: the map, float64 [H,W] in [0,1].
        foreground: the mask, bool [H,W].
    """
    if not foreground.any():
        return 0.0
    errors = np.where(foreground, 1 - values, values)
    inside = errors[foreground]
    smoothed = _smoothed(_continued(errors, foreground))[foreground]
    inside = np.minimum(inside, smoothed)
    false_positive = (errors * _weights(foreground))[~foreground].sum()
    true_positive = inside.size - inside.sum()
    recall = 1 - inside.mean()
    precision = true_positive / (true_positive + false_positive + _EPSILON)
    return float(2 * recall * precision / (recall + precision + _EPSILON))


def _weights(foreground: np.ndarray) -> np.ndarray:
    """1 at the border of the mask, and towards 2 away from it, float64 [H,W]; meaningless inside."""
    distances = cv2.distanceTransform((~foreground).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    squares = np.minimum(np.rint(distances * distances), _FAR**2).astype(np.int32)  # whole numbers: nothing is lost
    return (2 - np.exp(np.log(0.5) / 5 * np.sqrt(np.arange(_FAR**2 + 1))))[squares]


def _smoothed(errors: np.ndarray) -> np.ndarray:
    """Gaussian mean of the window, as if there were no error outside the image."""
    line = np.exp(-(np.arange(-_REACH, _REACH + 1) ** 2) / (2 * _SIGMA**2))
    line /= line.sum()
    return cv2.sepFilter2D(errors, cv2.CV_64F, line, line, borderType=cv2.BORDER_CONSTANT)


def _continued(errors: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    """The errors [H,W], and outside the mask, as far as smoothing reaches, that of the nearest pixel of the mask.

    Of equally near ones that is the leftmost, and then the uppermost, as with scipy's feature transform.
    """
    window = np.ones((2 * _REACH + 1,) * 2, dtype=np.uint8)
    mask = foreground.view(np.uint8)
    is_near = cv2.dilate(mask, window) > mask
    mask, padded, is_near = (np.pad(image, _NEAREST) for image in (mask, errors, is_near))
    shape = padded.shape
    mask, flat, waiting = mask.ravel(), padded.ravel(), np.flatnonzero(is_near)  # [H,W] -> [H*W], with margins
    for offset in _nearest_offsets(shape[1]):
        sources = waiting + offset
        found = mask[sources] > 0
        flat[waiting[found]] = flat[sources[found]]
        waiting = waiting[~found]
    return flat.reshape(shape)[_NEAREST:-_NEAREST, _NEAREST:-_NEAREST]  # [H*W] -> [H,W]


def _nearest_offsets(width: int) -> list[int]:
    """Steps to the pixels around one in an image of this width, nearest first."""
    around = range(-_NEAREST, _NEAREST + 1)
    steps = sorted((dy * dy + dx * dx, dx, dy) for dy in around for dx in around)
    return [dy * width + dx for _, dx, dy in steps[1:]]
