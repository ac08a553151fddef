"""F, E, S and MAE of a grey map against a mask, from how often each grey value occurs in and outside the mask.

Definitions and order of operations of SOCToolbox's ``codes/metrics.py``. H, W image pixels · L = 256 grey values or
thresholds · the axis of 2 is outside, inside the mask · the axis of 4 is the quadrants around the mask's centre.
"""

from dataclasses import dataclass

import numpy as np

LEVELS = 256
F_BETA_SQUARED = 0.3
_EPSILON = np.spacing(1)


@dataclass(frozen=True)
class Histograms:
    """How often each grey value occurs.

    Attributes:
        counts: pixels, int64 [4,2,L]; quadrants are top left, top right, bottom left, bottom right.
        values: the value in [0,1] that each grey stands for, float64 [L].
        mean: of these values over the image, added up in the order of the pixels.
    """

    counts: np.ndarray
    values: np.ndarray
    mean: float


def stretched_values(prediction: np.ndarray) -> np.ndarray:
    """What each grey value of a map [H,W] stands for, float64 [L]: darkest 0, brightest 1, unless all are equal."""
    values = np.arange(LEVELS) / 255
    low, high = values[prediction.min()], values[prediction.max()]
    return values if low == high else (values - low) / (high - low)


def count_values(prediction: np.ndarray, foreground: np.ndarray, values: np.ndarray) -> Histograms:
    """Count a map uint8 [H,W] in and outside a mask bool [H,W]; ``values`` are its `stretched_values`."""
    counts = np.zeros((4, 2, LEVELS), dtype=np.int64)
    row, column = _centre(foreground)
    coded = prediction + np.uint16(LEVELS) * foreground
    halves = [half for rows in (coded[:row], coded[row:]) for half in (rows[:, :column], rows[:, column:])]
    for quadrant, half in enumerate(halves):
        counts[quadrant] = np.bincount(half.ravel(), minlength=2 * LEVELS).reshape(2, LEVELS)  # [2*L] -> [2,L]
    return Histograms(counts, values, float(values[prediction].mean()))


def mean_absolute_error(histograms: Histograms) -> float:
    """Mean distance of the values from 0 outside and 1 inside."""
    outside, inside = histograms.counts.sum(axis=0)
    distance = (outside * histograms.values).sum() + (inside * (1 - histograms.values)).sum()
    return float(distance / histograms.counts.sum())


def threshold_counts(histograms: Histograms) -> np.ndarray:
    """Pixels outside and inside the mask that reach the grey thresholds 255, 254, ..., 0: int64 [2,L]."""
    grey = np.where(_occurs(histograms), histograms.values * 255, 0).astype(np.uint8)
    found = [np.bincount(grey, weights=part, minlength=LEVELS) for part in histograms.counts.sum(axis=0)]
    return np.cumsum(np.array(found, dtype=np.int64)[:, ::-1], axis=1)


def adaptive_counts(histograms: Histograms) -> np.ndarray:
    """Pixels outside and inside the mask that reach twice the mean value, at most 1: int64 [2,1]."""
    reached = histograms.values >= min(2 * histograms.mean, 1)
    return histograms.counts.sum(axis=0)[:, reached].sum(axis=1, keepdims=True)


def f_measure(positives: np.ndarray, *, inside: int) -> np.ndarray:
    """F, weighting precision more than recall, for each column of positive pixels [2,thresholds]; 0 without a hit."""
    false, true = positives.astype(np.float64)
    precision = true / np.maximum(false + true, 1)
    recall = true / max(inside, 1)
    weighted = F_BETA_SQUARED * precision + recall
    return (1 + F_BETA_SQUARED) * precision * recall / np.where(weighted == 0, 1, weighted)


def e_measure(positives: np.ndarray, *, inside: int, pixels: int) -> np.ndarray:
    """Enhanced alignment for each column of positive pixels [2,thresholds]; the part that is right if all is one."""
    false, true = positives.astype(np.float64)
    outside = pixels - inside
    if not inside:
        return (outside - false) / max(pixels - 1, 1)
    if not outside:
        return true / max(pixels - 1, 1)
    predicted, actual = (false + true) / pixels, inside / pixels
    total = true * _alignment(1 - predicted, 1 - actual) + false * _alignment(1 - predicted, -actual)
    total += (inside - true) * _alignment(-predicted, 1 - actual) + (outside - false) * _alignment(-predicted, -actual)
    return total / max(pixels - 1, 1)


def s_measure(histograms: Histograms) -> float:
    """Structure measure: similarity of object and background as wholes, and of the quadrants, half and half.

    Standard deviations divide by the number of pixels, as in the toolbox; later ports divide by one less. A quadrant
    without pixels counts nothing.
    """
    outside, inside = (int(part) for part in histograms.counts.sum(axis=(0, 2)))
    share = inside / (outside + inside)
    if not inside:
        return 1 - histograms.mean
    if not outside:
        return histograms.mean
    background, objects = histograms.counts.sum(axis=0)
    values = histograms.values
    whole = share * _evenness(values, objects) + (1 - share) * _evenness(1 - values, background)
    parts = [quadrant for quadrant in histograms.counts if quadrant.any()]
    regions = sum(part.sum() * _similarity(values, part) for part in parts) / histograms.counts.sum()
    return max(0.0, float(0.5 * whole + 0.5 * regions))


def _occurs(histograms: Histograms) -> np.ndarray:
    return histograms.counts.any(axis=(0, 1))


def _centre(foreground: np.ndarray) -> tuple[int, int]:
    """Row and column at which the quadrants part: right behind the rounded mean position of the mask, or halfway."""
    sums = np.count_nonzero(foreground, axis=1), np.count_nonzero(foreground, axis=0)
    pixels = sums[0].sum()
    if not pixels:
        return tuple(int(np.round(side / 2)) + 1 for side in foreground.shape)
    return tuple(int(np.round(np.sum(line * np.arange(line.size)) / pixels)) + 1 for line in sums)


def _alignment(prediction: np.ndarray, truth: float) -> np.ndarray:
    """How well deviations from the means agree, in [0,1]."""
    return (2 * prediction * truth / (prediction**2 + truth**2 + _EPSILON) + 1) ** 2 / 4


def _evenness(values: np.ndarray, counts: np.ndarray) -> float:
    """High where the values are high and all alike."""
    mean, variance = _moments(values, counts)
    return 2 * mean / (mean**2 + 1 + np.sqrt(variance) + _EPSILON)


def _similarity(values: np.ndarray, counts: np.ndarray) -> float:
    """Similarity of map and mask in means, contrast and structure, from counts [2,L]."""
    pixels = counts.sum()
    mean, variance = _moments(values, counts.sum(axis=0))
    actual = counts[1].sum() / pixels
    deviation = values - mean
    covariance = ((1 - actual) * (counts[1] * deviation).sum() - actual * (counts[0] * deviation).sum()) / pixels
    joint = 4 * mean * actual * covariance
    alone = (mean**2 + actual**2) * (variance + actual * (1 - actual))
    if joint != 0:
        bessel = pixels / max(pixels - 1, 1)
        return joint * bessel / (alone * bessel + _EPSILON)
    return 1.0 if alone == 0 else 0.0


def _moments(values: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Mean and variance of counted values; around one that occurs, so that equal ones have exactly no variance."""
    around = values[np.argmax(counts)]
    pixels = counts.sum()
    mean = around + (counts * (values - around)).sum() / pixels
    return mean, (counts * (values - mean) ** 2).sum() / pixels
