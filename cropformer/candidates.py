"""What each query could claim: its logits and the tiles that it can reach, worked out a few queries at a time.

Shapes: T views, Q queries, N tiles, C channels, y and x pixels of a tile, h and w the stride-4 grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .tiling import TileGroup, Tiling

_BLOCK = 16  # queries in one product: always as many, so that no bound on the memory changes how logits are rounded
BYTES_PER_PIXEL = 24  # of all temporaries of a tile
_CPU_PIXELS = 2**17  # that are worked on at a time: more would leave the cache of a core


@dataclass(frozen=True)
class Candidate:
    """One query.

    Attributes:
        logits: its masks, float [h,w] in each of the T views.
        steps: the tiles that it can reach, a few of one group at a time: the group, and tile numbers int64 [n].
    """

    logits: list[Tensor]
    steps: list[tuple[TileGroup, Tensor]]

    @property
    def tiles(self) -> Tensor:
        """The tiles of all steps."""
        return torch.cat([tiles for _, tiles in self.steps]) if self.steps else torch.zeros(0, dtype=torch.int64)


def candidates(
    mask_embeddings: Tensor, planes: Sequence[Tensor], tiling: Tiling, *, free: Tensor, memory: int
) -> Iterator[Candidate]:
    """Every query in order.

    On the CPU each one is worked out when its turn comes, so that tiles that are full by then are left out. On a
    GPU that would be a wait for each query; there one wait serves as many queries as the memory allows.

    Args:
        mask_embeddings: float [Q,C].
        planes: mask features [C,h,w] of each of the T views.
        tiling: the tiles of the image.
        free: int64 [N], free pixels of each tile at any time.
        memory: bound in bytes; half for logits, half for the temporaries of tiles.
    """
    on_cpu = free.device.type == "cpu"
    block_bytes = 4 * _BLOCK * sum(plane[0].numel() for plane in planes)
    blocks = 1 if on_cpu else max(1, memory // 2 // block_bytes)
    for chunk in mask_embeddings.split(blocks * _BLOCK):
        logits = [view_logits(chunk, plane) for plane in planes]
        together = 1 if on_cpu else len(chunk)
        for first in range(0, len(chunk), together):
            some = [masks[first : first + together] for masks in logits]
            for i, steps in enumerate(_plan(some, tiling, free=free, memory=memory // 2)):
                yield Candidate([masks[i] for masks in some], steps)


def view_logits(mask_embeddings: Tensor, plane: Tensor) -> Tensor:
    """Masks of Q queries [Q,C] in one view [C,h,w], float [Q,h,w], a full block at a time."""
    padded = F.pad(mask_embeddings, (0, 0, 0, -len(mask_embeddings) % _BLOCK))
    masks = plane.new_empty(len(padded), *plane.shape[1:], dtype=torch.float32)
    for block, out in zip(padded.split(_BLOCK), masks.split(_BLOCK)):
        out.copy_(torch.einsum("qc,chw->qhw", block, plane))
    return masks[: len(mask_embeddings)]


def _plan(
    logits: Sequence[Tensor], tiling: Tiling, *, free: Tensor, memory: int
) -> list[list[tuple[TileGroup, Tensor]]]:
    """The steps of each of Q queries; logits [Q,h,w] of each view."""
    reached = tiling.reached(logits) & (free > 0)
    counts = torch.stack([reached[:, group.start : group.stop].sum(1) for group in tiling.groups], dim=1)
    parts = iter(reached.nonzero()[:, 1].split(counts.flatten().tolist()))  # [Q,G] -> [QG]
    pixels = memory // BYTES_PER_PIXEL
    if free.device.type == "cpu":
        pixels = min(pixels, _CPU_PIXELS)
    largest = max(1, pixels // math.prod(tiling.tile_hw))
    return [
        [(group, tiles) for group in tiling.groups for tiles in next(parts).split(largest) if len(tiles)]
        for _ in range(len(counts))
    ]
