"""The measures of dichotomous segmentation the plain way, as released loops go about them: our numbers, more slowly.

A threshold at a time over all pixels, a contour point at a time, the full feature transform, a skeleton at every call.
H, W image pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import disk, skeletonize

EPSILON = np.spacing(1)
THRESHOLDS = range(255, -1, -1)


def stretched(prediction: np.ndarray) -> np.ndarray:
    """The values of a map uint8 [H,W], darkest 0 and brightest 1."""
    values = prediction / 255
    if values.max() > values.min():
        values = (values - values.min()) / (values.max() - values.min())
    return values


def pixel_measures(values: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Weighted F, S and MAE of a map float64 [H,W] and a mask bool [H,W]."""
    return {
        "weighted_f": weighted_f(values, mask),
        "s": s_measure(values, mask),
        "absolute_error": np.abs(values - mask).mean(),
    }


def curve_measures(values: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray | float]:
    """F and E of a map float64 [H,W] at 256 thresholds, and at twice its mean."""
    grey = (values * 255).astype(np.uint8)
    adaptive = values >= min(2 * values.mean(), 1)
    return {
        "f_curve": np.array([f_measure(grey >= threshold, mask) for threshold in THRESHOLDS]),
        "e_curve": np.array([e_measure(grey >= threshold, mask) for threshold in THRESHOLDS]),
        "adaptive_f": f_measure(adaptive, mask),
        "adaptive_e": e_measure(adaptive, mask),
    }


def f_measure(positive: np.ndarray, mask: np.ndarray) -> float:
    """F of one binary map."""
    hits = np.count_nonzero(positive & mask)
    precision, recall = hits / max(np.count_nonzero(positive), 1), hits / max(np.count_nonzero(mask), 1)
    return 1.3 * precision * recall / (0.3 * precision + recall) if hits else 0.0


def e_measure(positive: np.ndarray, mask: np.ndarray) -> float:
    """E of one binary map."""
    if not mask.any() or mask.all():
        return np.count_nonzero(positive == mask) / max(mask.size - 1, 1)
    ours, theirs = positive - positive.mean(), mask - mask.mean()
    aligned = 2 * ours * theirs / (ours**2 + theirs**2 + EPSILON)
    return ((aligned + 1) ** 2 / 4).sum() / (mask.size - 1)


def weighted_f(values: np.ndarray, mask: np.ndarray) -> float:
    """Weighted F of a map float64 [H,W]."""
    if not mask.any():
        return 0.0
    distances, (rows, columns) = ndimage.distance_transform_edt(~mask, return_indices=True)
    errors = np.abs(values - mask)
    x, y = np.mgrid[-3:4, -3:4]
    window = np.exp(-(x**2 + y**2) / 50)
    smoothed = ndimage.convolve(errors[rows, columns], window / window.sum(), mode="constant")
    least = np.where(mask, np.minimum(errors, smoothed), errors)
    weighted = least * np.where(mask, 1, 2 - np.exp(np.log(0.5) / 5 * distances))
    true_positive = mask.sum() - weighted[mask].sum()
    recall = 1 - weighted[mask].mean()
    precision = true_positive / (true_positive + weighted[~mask].sum() + EPSILON)
    return 2 * recall * precision / (recall + precision + EPSILON)


def s_measure(values: np.ndarray, mask: np.ndarray) -> float:
    """S of a map float64 [H,W]; a quadrant without pixels counts nothing."""
    if not mask.any() or mask.all():
        return values.mean() if mask.any() else 1 - values.mean()
    share = mask.mean()
    whole = share * evenness(values[mask]) + (1 - share) * evenness(1 - values[~mask])
    row, column = (int(np.round(places.mean())) + 1 for places in np.nonzero(mask))
    parts = [
        (rows, columns) for rows in (slice(row), slice(row, None)) for columns in (slice(column), slice(column, None))
    ]
    parts = [part for part in parts if mask[part].size]
    regions = sum(mask[part].size / mask.size * similarity(values[part], mask[part]) for part in parts)
    return max(0.0, 0.5 * whole + 0.5 * regions)


def evenness(values: np.ndarray) -> float:
    """How high and alike values are."""
    return 2 * values.mean() / (values.mean() ** 2 + 1 + values.std() + EPSILON)


def similarity(values: np.ndarray, mask: np.ndarray) -> float:
    """Structural similarity of one quadrant."""
    x = values.mean() if values.min() < values.max() else values[0, 0]  # a mean of equal values may be rounded
    y, others = mask.mean(), max(values.size - 1, 1)
    spread = ((values - x) ** 2).sum() / others + ((mask - y) ** 2).sum() / others
    joint = 4 * x * y * ((values - x) * (mask - y)).sum() / others
    alone = (x**2 + y**2) * spread
    if joint:
        return joint / (alone + EPSILON)
    return float(alone == 0)


def correction_effort(predicted: np.ndarray, mask: np.ndarray, *, relax: int = 5, epsilon: float = 2.0) -> list[int]:
    """Points and regions of false positives, and of false negatives, of two masks bool [H,W]."""
    cross = disk(1)
    right, core = predicted & mask, predicted | mask
    for _ in range(relax):
        core = ndimage.binary_erosion(core, cross, border_value=1)
    skeleton = skeletonize(mask)
    surplus, missing = predicted & ~mask & core, mask & ~predicted & core
    for _ in range(relax):
        surplus = ndimage.binary_dilation(surplus, cross) & predicted & ~mask
        missing = ndimage.binary_dilation(missing, cross) & mask & ~predicted
    missing |= skeleton & ~right
    return [
        *clicks(surplus, right | missing, epsilon=epsilon),
        *clicks(missing, ~(right | surplus | missing), epsilon=epsilon),
    ]


def clicks(errors: np.ndarray, neighbours: np.ndarray, *, epsilon: float) -> tuple[int, int]:
    """Polygon points along the borders with neighbours, and regions without one."""
    beside = ndimage.binary_dilation(neighbours, disk(1))
    labels = label(errors, connectivity=2)
    isolated = set(range(1, labels.max() + 1))
    visited, points = set(), 0
    contours, _ = cv2.findContours(errors.astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE)
    for contour in contours:
        runs: list[list[list[int]]] = [[]]
        for x, y in contour[:, 0].tolist():
            if not beside[y, x] or (x, y) in visited:
                runs.append([])
                continue
            visited.add((x, y))
            isolated.discard(labels[y, x])
            runs[-1].append([x, y])
        runs = [run for run in runs if run]
        if len(runs) > 1 and max(abs(a - b) for a, b in zip(runs[0][0], runs[-1][-1])) == 1:
            runs[-1] += runs.pop(0)[::-1]
        points += sum(len(cv2.approxPolyDP(np.array(run)[:, None], epsilon, False)) for run in runs)
    return points, len(isolated)
