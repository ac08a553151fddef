"""The id map of one image while its entities claim their pixels, stored tile by tile.

Nothing here waits for the device until masks are encoded: whether an entity is kept stays a tensor.

Shapes: N tiles, R tile rows, C tile columns, y and x pixels of a tile, H and W image pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from . import rle
from .tiling import Tiling


class Painting:
    """Who owns each pixel: 0 where it is free, else the number of an entity.

    Args:
        tiling: the tiles of the image.
        count: the largest number of an entity.

    Attributes:
        tiling: likewise.
        free: int64 [N], free pixels of each tile.
    """

    def __init__(self, tiling: Tiling, *, count: int) -> None:
        rows, columns = (len(border) - 1 for border in tiling.borders)
        device = tiling.rows.device
        small = count <= torch.iinfo(torch.int16).max
        self._ids = torch.zeros(
            rows * columns, *tiling.tile_hw, dtype=torch.int16 if small else torch.int32, device=device
        )
        self.tiling = tiling
        self._slots = torch.empty(rows, columns, dtype=torch.int64)  # which tile lies in a row and column
        self._slots[tiling.rows.cpu(), tiling.columns.cpu()] = torch.arange(rows * columns)
        self._areas = tiling.areas()
        self.free = self._areas.clone()

    def claim(self, tiles: Tensor, wanted: Tensor, *, number: int) -> Tensor:
        """Give the free ones among the ``wanted`` pixels, bool [n,y,x] of ``tiles`` [n], to an entity: those it got."""
        ids = self._ids[tiles]
        got = wanted.logical_and_(ids == 0)
        self._ids[tiles] = ids.masked_fill_(got, number)
        self.free[tiles] -= got.flatten(1).sum(1)
        return got

    def release(self, tiles: Tensor, *, number: int, unless: Tensor) -> None:
        """Free the pixels that an entity has in ``tiles`` [n], if not ``unless``, bool []."""
        ids = self._ids[tiles]
        lost = (ids == number) & ~unless
        self._ids[tiles] = ids.masked_fill_(lost, 0)
        self.free[tiles] += lost.flatten(1).sum(1)

    def clear(self, tiles: Tensor) -> None:
        """Free all pixels of ``tiles`` [n]."""
        self._ids[tiles] = 0
        self.free[tiles] = self._areas[tiles]

    def encode(self, numbers: Sequence[int], *, tiles: Tensor | None = None) -> list[rle.RLE]:
        """The masks of some entities; only the columns of ``tiles`` are read if they are given."""
        columns = (self.tiling.columns if tiles is None else self.tiling.columns[tiles]).unique().tolist()
        return rle.encode_strips(self._strips(columns), self.tiling.size_hw, numbers)

    def _strips(self, columns: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Tile columns of the id map as they lie in the image: the first pixel column, and the ids [x,H]."""
        heights = np.diff(self.tiling.borders[0])
        lines = np.concatenate([i * self._ids.shape[1] + np.arange(height) for i, height in enumerate(heights)])
        for column in columns:
            start, stop = self.tiling.borders[1][column : column + 2]
            stacked = self._ids[self._slots[:, column].to(self._ids.device)].flatten(0, 1)  # [R,y,x] -> [Ry,x]
            yield start, stacked.cpu().numpy()[lines, : stop - start].T
