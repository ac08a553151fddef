"""Boundary IoU of panoptic segments (Cheng et al. 2021, boundary-iou-api): of all pairs of an image in one pass.

H, W image pixels · M pairs.
"""

import math

import numpy as np
from scipy import ndimage

from entitytransfer.evaluators.segment_tables import count_pairs
from entitytransfer.segment_map import VOID

BOUNDARY_WIDTH = 0.02  # of the image's diagonal
_INTERIOR = 2**24  # one above the largest id
_OUTSIDE = -1


def boundary_ious(truth_ids: np.ndarray, predicted_ids: np.ndarray) -> np.ndarray:
    """The boundary IoU of each pair of segments that share a pixel: float64 [M], in the order of `count_pairs`.

    The boundary of a segment is what lies within 2 % of the diagonal of its outline; the edge of the image is outline
    too. True VOID is taken out of the union, as it is in PQ.

    Args:
        truth_ids: int32 [H,W], 0 = VOID.
        predicted_ids: int32 [H,W], 0 = VOID.
    """
    truths, predictions, areas = count_pairs(_boundaries(truth_ids), _boundaries(predicted_ids))
    shared = dict(zip(zip(truths.tolist(), predictions.tolist()), areas.tolist()))
    truth_areas, predicted_areas = _areas(truths, areas), _areas(predictions, areas)
    ious = []
    for pair in zip(*(ids.tolist() for ids in count_pairs(truth_ids, predicted_ids)[:2])):
        both = shared.get(pair, 0)
        union = truth_areas.get(pair[0], 0) + predicted_areas.get(pair[1], 0) - both - shared.get((VOID, pair[1]), 0)
        ious.append(both / union if union > 0 else 0.0)
    return np.array(ious)


def _boundaries(ids: np.ndarray) -> np.ndarray:
    """The map with the inside of segments, which is not their boundary, replaced: int32 [H,W].

    Eroding each segment with a square is asking whether the square has one id only, and that is one question for all.
    """
    width = max(1, round(BOUNDARY_WIDTH * math.hypot(*ids.shape)))
    square = {"size": 2 * width + 1, "mode": "constant", "cval": _OUTSIDE}
    inside = ndimage.minimum_filter(ids, **square) == ndimage.maximum_filter(ids, **square)
    return np.where(inside & (ids != VOID), _INTERIOR, ids)


def _areas(ids: np.ndarray, areas: np.ndarray) -> dict[int, int]:
    unique, inverse = np.unique(ids, return_inverse=True)
    return dict(zip(unique.tolist(), np.bincount(inverse, areas, minlength=unique.size).astype(int).tolist()))
