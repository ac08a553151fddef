"""How the stride-4 logits of one view lie in its image, a tile of pixels at a time.

A tile reads a small window of the logits, and resizing it is two small matrix products.

Shapes: Q queries, N tiles, R tile rows, C tile columns, y and x pixels of a tile, h and w the stride-4 grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .resampling import view_weights
from .views import Views


@dataclass(frozen=True)
class Windows:
    """How the R tiles along one axis of the image read the logits of a view.

    Attributes:
        reads: int64 [R,r], consecutive grid positions for each tile.
        weights: float [R,y,r]; zero outside the view, and in the pixels that a tile is smaller than the largest one.
    """

    reads: Tensor
    weights: Tensor


@dataclass(frozen=True)
class ViewMap:
    """One view: its box in the image, and how each tile row and each tile column reads its logits [h,w]."""

    box_xyxy: tuple[int, int, int, int]
    rows: Windows
    columns: Windows

    def paste_back(self, logits: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Logits [h,w] at the pixels of N tiles, int64 [N] row and column of each; float [N,y,x].

        The inverse of ``cut_view``; zero where a tile has no pixel of the view.
        """
        window = logits[self.rows.reads[rows][:, :, None], self.columns.reads[columns][:, None]]  # [N,r,c]
        return self.rows.weights[rows] @ window @ self.columns.weights[columns].mT

    def paste_strip(self, logits: Tensor, row: int, columns: Tensor) -> Tensor:
        """``paste_back`` for Q queries at N tiles of one tile row; its logits [Q,r,w] to float [N,Q,y,x]."""
        windows = logits[:, :, self.columns.reads[columns]].permute(2, 0, 1, 3)  # [Q,r,N,c] -> [N,Q,r,c]
        wide = windows.flatten(1, 2) @ self.columns.weights[columns].mT  # [N,Q,r,c] -> [N,Qr,c]; [N,Qr,x]
        return self.rows.weights[row] @ wide.unflatten(1, logits.shape[:2])  # [N,Qr,x] -> [N,Q,r,x]

    def maxima(self, logits: Tensor) -> Tensor:
        """The largest of the logits [Q,h,w] that each tile reads, float [Q,R,C]: no pixel of the tile is above it."""
        by_row = logits[:, self.rows.reads].amax(2)  # [Q,R,r,w] -> [Q,R,w]
        return by_row[:, :, self.columns.reads].amax(3)  # [Q,R,C,c] -> [Q,R,C]


def map_view(
    views: Views,
    image: int,
    view: int,
    *,
    borders: tuple[Sequence[int], Sequence[int]],
    grid_hw: tuple[int, int],
    two_step: bool,
    device: torch.device | None = None,
) -> ViewMap:
    """One view of one image.

    Args:
        views: the views of all images.
        image: which image.
        view: which of its views.
        borders: where the tile rows and the tile columns of the image begin, and the last one ends; a border lies on
            each edge of the view.
        grid_hw: size of the logits.
        two_step: see ``view_weights``.
        device: where the logits are.
    """
    box = tuple(views.boxes_xyxy[image, view].tolist())
    windows = []
    for axis in (0, 1):
        start, stop = box[1 - axis], box[3 - axis]
        weights = view_weights(
            grid_hw[axis],
            padded=views.pixels.shape[axis - 2],
            valid=int(views.sizes_hw[image, view, axis]),
            target=stop - start,
            two_step=two_step,
        )
        windows.append(_cut(weights, torch.tensor(borders[axis]) - start, device=device))
    return ViewMap(box, *windows)


def _cut(weights: Tensor, borders: Tensor, *, device: torch.device | None) -> Windows:
    """Cut a resize [target, source] at ``borders``, counted from the first target pixel; some lie outside."""
    target, source = weights.shape
    step = int(borders.diff().max())
    pixels = borders[:-1, None] + torch.arange(step)  # [R,y]
    inside = (pixels >= 0) & (pixels < target) & (pixels < borders[1:, None])
    dense = weights[pixels.clamp(0, target - 1)] * inside[..., None]  # [R,y,source]
    used = dense.amax(1) > 0
    first = used.byte().argmax(1)
    width = int(((source - used.flip(1).byte().argmax(1)) - first)[used.any(1)].max())
    reads = first.clamp(max=source - width)[:, None] + torch.arange(width)  # [R,r]
    windows = dense.gather(2, reads[:, None].expand(-1, step, -1))  # [R,y,source] -> [R,y,r]
    return Windows(reads.to(device), windows.to(device))
