"""An image cut into tiles, each inside the same views with all its pixels.

What the views say at a tile's corner of the stride-4 grid bounds every mask in the tile, so most tiles of most
queries are left out before any of their pixels is computed.

Shapes: T views, Q queries, N tiles, R tile rows, C tile columns, y and x pixels of a tile, h and w the stride-4 grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import torch
from torch import Tensor

from .view_maps import ViewMap, map_view
from .views import Views

_TILE_SIDE = 64  # pixels, at most: small enough to skip much, large enough to be worth a matrix product


@dataclass(frozen=True)
class TileGroup:
    """The tiles ``start`` to ``stop``: all are inside ``views`` and outside the other views."""

    start: int
    stop: int
    views: tuple[int, ...]


@dataclass(frozen=True)
class Tiling:
    """The N tiles of one image, numbered group by group.

    Attributes:
        borders: where the R tile rows and the C tile columns begin, and the last one ends.
        rows: int64 [N], row of each tile.
        columns: int64 [N], column of each tile.
        groups: those of all tiles that are inside a view.
        maps: the T views.
    """

    borders: tuple[list[int], list[int]]
    rows: Tensor
    columns: Tensor
    groups: tuple[TileGroup, ...]
    maps: tuple[ViewMap, ...]

    @property
    def size_hw(self) -> tuple[int, int]:
        """Size of the image."""
        return self.borders[0][-1], self.borders[1][-1]

    @property
    def tile_hw(self) -> tuple[int, int]:
        """Size of the largest tile; a smaller one takes as much memory."""
        height, width = (max(end - start for start, end in pairwise(border)) for border in self.borders)
        return height, width

    def areas(self) -> Tensor:
        """Pixels of each tile, int64 [N]."""
        heights, widths = (torch.tensor(border, device=self.rows.device).diff() for border in self.borders)
        return heights[self.rows] * widths[self.columns]

    def reached(self, logits: Sequence[Tensor]) -> Tensor:
        """Tiles where a query may have a pixel above one half, bool [Q,N]; T logits [Q,h,w].

        A pixel's logit lies between those that its tile reads: where the mean of the views' largest probabilities
        is at most one half, so is the mean at every pixel.
        """
        largest = [view.maxima(planes).sigmoid() for view, planes in zip(self.maps, logits)]
        reached = torch.zeros(len(logits[0]), len(self.rows), dtype=torch.bool, device=self.rows.device)
        for group in self.groups:
            tiles = slice(group.start, group.stop)
            total = sum(largest[t][:, self.rows[tiles], self.columns[tiles]] for t in group.views)
            reached[:, tiles] = total > len(group.views) / 2
        return reached

    def fused_probs(self, logits: Sequence[Tensor], tiles: Tensor, *, views: Sequence[int]) -> Tensor:
        """Mean probability over ``views``, those of a group, at N of its tiles; T logits [h,w] to float [N,y,x].

        Exactly one half, and so not inside, where a tile is smaller than the largest one.
        """
        rows, columns = self.rows[tiles], self.columns[tiles]
        return _mean_probs(self.maps[t].paste_back(logits[t], rows, columns) for t in views)

    def strips(self) -> list[list[tuple[TileGroup, Tensor]]]:
        """The tiles of each of the R tile rows, group by group: the group, and their tile columns int64 [n]."""
        rows, strips = self.rows.tolist(), [[] for _ in self.borders[0][1:]]
        for group in self.groups:
            for row, tiles in groupby(range(group.start, group.stop), key=rows.__getitem__):
                strips[row].append((group, self.columns[list(tiles)]))
        return strips

    def strip_probs(self, logits: Mapping[int, Tensor], row: int, columns: Tensor, *, views: Sequence[int]) -> Tensor:
        """``fused_probs`` of Q queries at N tiles of a tile row, from what it reads [Q,r,w] of each view; [N,Q,y,x]."""
        return _mean_probs(self.maps[t].paste_strip(logits[t], row, columns) for t in views)


def _mean_probs(logits: Iterable[Tensor]) -> Tensor:
    """Mean probability over views, in the memory of the first of their logits."""
    first, *others = (values.sigmoid_() for values in logits)
    for probs in others:
        first += probs
    return first.div_(1 + len(others))


def make_tiling(
    views: Views,
    image: int,
    members: Sequence[int],
    *,
    grid_hw: tuple[int, int],
    two_step: bool,
    device: torch.device | None = None,
) -> Tiling:
    """Cut one image along the edges of the views ``members``; the other arguments are those of ``map_view``."""
    boxes = [views.boxes_xyxy[image, t].tolist() for t in members]
    size_hw = views.image_sizes_hw[image].tolist()
    borders = tuple(
        _borders(size_hw[axis], (edge for box in boxes for edge in (box[1 - axis], box[3 - axis]))) for axis in (0, 1)
    )
    maps = tuple(
        map_view(views, image, t, borders=borders, grid_hw=grid_hw, two_step=two_step, device=device) for t in members
    )
    tiles = sorted(
        (_covering(boxes, borders, row, column), row, column)
        for row in range(len(borders[0]) - 1)
        for column in range(len(borders[1]) - 1)
    )
    covering, rows, columns = zip(*tiles)
    groups = tuple(
        TileGroup(covering.index(names), covering.index(names) + covering.count(names), names)
        for names in dict.fromkeys(covering)
        if names
    )
    rows, columns = (torch.tensor(indices, device=device) for indices in (rows, columns))
    return Tiling(borders, rows, columns, groups, maps)


def _borders(size: int, edges: Iterable[int]) -> list[int]:
    """Along one axis: a border at every edge, and in between evenly as many as tiles of the largest side need."""
    borders = [0]
    for start, stop in pairwise(sorted({0, size, *edges})):
        pieces = math.ceil((stop - start) / _TILE_SIDE)
        borders += [start + (stop - start) * (i + 1) // pieces for i in range(pieces)]
    return borders


def _covering(boxes: list[list[int]], borders: tuple[list[int], list[int]], row: int, column: int) -> tuple[int, ...]:
    """The views that a tile is inside of."""
    y, x = borders[0][row], borders[1][column]
    return tuple(t for t, (x0, y0, x1, y1) in enumerate(boxes) if x0 <= x < x1 and y0 <= y < y1)
