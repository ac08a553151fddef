"""Mask probabilities at image size, a tile at a time: what every head that weighs queries against each other reads.

Shapes: T views, Q queries, N tiles, r grid rows that a tile row reads, y and x pixels of a tile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from .candidates import BYTES_PER_PIXEL, view_logits
from .frame_queries import FrameQueries
from .memory import temporaries_bound

Where = tuple[slice, slice]
"""Rows and columns of an image."""


@torch.inference_mode()
def mask_probs(frame: FrameQueries, *, max_memory: int | None = None) -> Iterator[tuple[Where, Tensor]]:
    """Where a tile lies, and the mask probabilities of all queries there, float [Q,y,x]; tile after tile.

    Probabilities are those of ``fuse``: logits are resized once to the image, made probabilities, and averaged over
    the views that show the pixel. Tiles do not overlap; ground that no view shows is in none. Nothing of size
    queries x pixels exists beside the tile, which may be written to.

    Args:
        frame: the queries of one image, those that are asked for: see ``FrameQueries.select``.
        max_memory: bound in bytes on the temporaries; the result does not depend on it. Never less is taken than one
            row of tiles needs for its logits, and one tile of 64x64 pixels for its probabilities.

    Raises:
        InputError: if the memory is not positive.
    """
    tiling, memory = frame.tiling, temporaries_bound(max_memory)
    at_once = _tiles_at_once(frame, memory)
    top, left = tiling.borders
    for row, groups in enumerate(tiling.strips()):
        shown = {t for group, _ in groups for t in group.views}
        logits = {t: _strip_logits(frame, t, row) for t in shown}
        for group, columns in groups:
            for some in columns.split(at_once):
                tiles = tiling.strip_probs(logits, row, some, views=group.views)  # [N,Q,y,x]
                for column, probs in zip(some.tolist(), tiles):
                    where = slice(top[row], top[row + 1]), slice(left[column], left[column + 1])
                    yield where, probs[:, : where[0].stop - where[0].start, : where[1].stop - where[1].start]


def _strip_logits(frame: FrameQueries, view: int, row: int) -> Tensor:
    """What one tile row reads of all masks in a view, float [Q,r,w]."""
    reads = frame.tiling.maps[view].rows.reads[row]
    return view_logits(frame.mask_embeddings, frame.planes[view][:, reads])


def _tiles_at_once(frame: FrameQueries, memory: int) -> int:
    """One on a CPU, where more would leave the cache of a core; elsewhere as many as the memory allows."""
    if frame.mask_embeddings.device.type == "cpu":
        return 1
    tile_bytes = BYTES_PER_PIXEL * len(frame.query_ids) * math.prod(frame.tiling.tile_hw)
    return max(1, memory // max(1, tile_bytes))
