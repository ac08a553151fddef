"""How much the queries of a window resemble live tracks: by their embeddings, and by their masks on shared frames.

n queries of a window · L live tracks · N entities of a frame · C channels · h, w every k-th pixel.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cropformer import rle
from entitytransfer.tracking.window_result import WindowResult

_IOU_MAX_SIDE = 320  # overlap is counted on every k-th pixel, so that the longer side has at most this many


class SharedFrame(NamedTuple):
    """A frame that the next window begins with: its masks, and the track of each, int64 [N]."""

    rles: list[rle.RLE]
    track_ids: np.ndarray


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine between the rows of [L,C] and [n,C], float [L,n]; opposites count as 0, as do zero vectors."""
    a, b = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (a, b))
    return np.maximum(a @ b.T, 0.0)


def shared_iou(
    shared: Sequence[SharedFrame], window: WindowResult, live_ids: np.ndarray, queries: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mask IoU over the shared frames, float [L,n], and which tracks these frames show, bool [L].

    Args:
        shared: the frames as the last window saw them.
        window: the next one.
        live_ids: int64 [L], ascending.
        queries: int64 [n], which of the queries of the window.
    """
    intersection = np.zeros((len(live_ids), len(queries)))
    track_area, query_area = np.zeros(len(live_ids)), np.zeros(len(queries))
    for number, (before, after) in enumerate(zip(shared, window.frames)):
        ours = _masks_of(before.rles, before.track_ids, live_ids, after.size_hw)
        theirs = _masks_of(after.rles, window.rows(number), queries, after.size_hw)
        intersection += ours @ theirs.T
        track_area += ours.sum(axis=1)
        query_area += theirs.sum(axis=1)
    union = track_area[:, None] + query_area - intersection
    return intersection / np.maximum(union, 1), track_area > 0


def _masks_of(rles: Sequence[rle.RLE], ids: np.ndarray, wanted: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """The masks of the wanted ones [n] at reduced resolution, float32 [n,pixels], exact to sum; ``ids`` [N] of all."""
    step = -(-max(size_hw) // _IOU_MAX_SIDE)
    rows, columns = (np.arange(0, side, step) for side in size_hw)
    masks = np.zeros((len(wanted), len(rows) * len(columns)), dtype=np.float32)
    places = {number: place for place, number in enumerate(wanted.tolist())}
    chosen = [i for i, number in enumerate(ids.tolist()) if number in places]
    if chosen:
        found = rle.cut([rles[i] for i in chosen], rows, columns)
        masks[[places[ids[i]] for i in chosen]] = found.reshape(len(chosen), -1)  # [n,h,w] -> [n,hw]
    return masks
