"""Multi-scale deformable attention for the CPU: index arithmetic that stays in cache, gathers without copies.

It is deterministic on every device.

A sample is one (query, head, level, point). It lies in a cell of four table rows; cells end where their level ends, and
the bilinear weight ``max(0, 1 - distance)`` of a row is then zero for samples outside the level with no further test.
Source of the arithmetic: Deformable DETR (Zhu et al., 2021), equation 3.
Shapes: B images, S tokens, M heads, D channels of a head, L levels, P points, N samples of a query (MLP), Q queries,
q queries of a chunk, R rows of an image's table (SM). Pairs are near and far row, or x and y.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

_CHUNK_SAMPLES = 2**16  # for each thread: temporaries of 256 KiB, a few of which fit into a core's cache


class BagAttention(torch.autograd.Function):
    """``deformable_attention`` for tensors of one dtype; keeps nothing but its inputs for the backward pass."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, values: Tensor, sizes_hw: list[tuple[int, int]], locations: Tensor, weights: Tensor
    ) -> Tensor:
        """[B,S,M,D], L x (h, w), [B,Q,M,L,P,2], [B,Q,M,L,P] -> [B,Q,MD]."""
        ctx.save_for_backward(values, locations, weights)
        ctx.sizes_hw = sizes_hw
        grid = _make_grid(sizes_hw, locations)
        read = values.new_empty(*locations.shape[:3], values.shape[-1])  # [B,Q,M,D]
        for image, value in enumerate(values):
            table = value.reshape(-1, value.shape[-1])  # [S,M,D] -> [R,D]
            for chunk in _chunks(locations[image]):
                _read(table, grid, locations[image, chunk], weights[image, chunk], out=read[image, chunk])
        return read.flatten(2)  # [B,Q,M,D] -> [B,Q,MD]

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_read: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
        """The cells are found again, which costs less than keeping them."""
        values, locations, weights = ctx.saved_tensors
        grid = _make_grid(ctx.sizes_hw, locations)
        grad_read = grad_read.reshape(*locations.shape[:3], -1)  # [B,Q,MD] -> [B,Q,M,D]
        grads = [tensor.new_empty(tensor.shape) for tensor in (values, locations, weights)]
        for image in range(len(values)):
            inputs = [tensor[image] for tensor in (values, locations, weights, grad_read)]
            _differentiate(grid, *inputs, out=[grad[image] for grad in grads])
        return grads[0], None, grads[1], grads[2]


class _Grid(NamedTuple):
    """The levels, as constants for each sample of a query."""

    scale: Tensor  # pixels along x and y, [2,1,N]
    limit: Tensor  # the last cell along x and y, int32 [2,1,N]
    gap: Tensor  # pixels from a cell to its near and far row along x and y, [2,2,1,N]
    first: Tensor  # table row of the level's first pixel, int32 [N]
    strides: Tensor  # table rows from a pixel to the next along x and y, int32 [2,N]
    corners: Tensor  # table rows from a cell to its four: near, next in x, next in y, far; int32 [4,N]
    level_corners: list[list[int]]  # the same, [4][L]
    level_rows: list[int]  # table rows of each level, [L]


def _make_grid(sizes_hw: list[tuple[int, int]], locations: Tensor) -> _Grid:
    """``locations`` [B,Q,M,L,P,2] tell heads, points and dtype."""
    heads, levels, points = locations.shape[2:5]

    def per_sample(constants: Tensor) -> Tensor:  # [..,L] -> [..,N]
        spread = constants.unflatten(-1, (1, levels, 1)).expand(*constants.shape[:-1], heads, levels, points)
        return spread.flatten(-3)

    sides = torch.tensor([(w, h) for h, w in sizes_hw], dtype=torch.int32, device=locations.device).T  # [2,L]
    strides = heads * torch.stack((torch.ones_like(sides[0]), sides[0]))
    right, down = strides * (sides > 1)  # a side of one pixel has no far row: it weighs nothing and reads the near one
    corners = torch.stack((torch.zeros_like(right), right, down, right + down))
    far = torch.where(sides > 1, 1.0, math.inf).to(locations.dtype)
    rows = heads * sides.prod(0, dtype=torch.int32)
    head = torch.arange(heads, dtype=torch.int32, device=sides.device).repeat_interleave(levels * points)
    return _Grid(
        scale=per_sample(sides)[:, None].to(locations.dtype),
        limit=per_sample((sides - 2).clamp(min=0))[:, None],
        gap=per_sample(torch.stack((torch.zeros_like(far), far)))[:, :, None],
        first=per_sample(rows.cumsum(0, dtype=torch.int32) - rows) + head,
        strides=per_sample(strides),
        corners=per_sample(corners),
        level_corners=corners.tolist(),
        level_rows=rows.tolist(),
    )


def _chunks(locations: Tensor) -> Iterator[slice]:
    """Slices of the queries of ``locations`` [Q,M,L,P,2] whose samples fit into the caches of all threads."""
    size = max(1, _CHUNK_SAMPLES * torch.get_num_threads() // math.prod(locations.shape[1:4]))
    return (slice(start, start + size) for start in range(0, len(locations), size))


def _find_cells(grid: _Grid, locations: Tensor) -> tuple[Tensor, Tensor]:
    """Table rows of the cells, int32 [q,N], and pixels from their near and far rows to the samples, [2,2,q,N]."""
    places = locations.flatten(1, 3).movedim(-1, 0)  # [q,M,L,P,2] -> [2,q,N]
    position = places.new_empty(places.shape)  # x apart from y, so that what follows is vectorised
    torch.mul(places, grid.scale, out=position).sub_(0.5)
    # Limits come after the cut to integers because NaN would pass them; 32 bits are half the traffic of 64.
    cell = torch.clamp(position.int(), torch.zeros_like(grid.limit), grid.limit)
    rows = torch.addcmul(grid.first, cell[1], grid.strides[1]).addcmul_(cell[0], grid.strides[0])
    return rows, position.sub_(cell) - grid.gap


def _linear_weights(distance: Tensor) -> Tensor:
    """Weight of a row at this distance in pixels."""
    return distance.abs().neg_().add_(1).clamp_(min=0)


def _linear_slopes(distance: Tensor) -> Tensor:
    """What one pixel to the right or down adds to ``_linear_weights``."""
    piece = distance.floor()
    return (piece == -1).to(piece.dtype) - (piece == 0).to(piece.dtype)


def _read(table: Tensor, grid: _Grid, locations: Tensor, weights: Tensor, *, out: Tensor) -> None:
    """Read a chunk of queries from the table [R,D] into ``out`` [q,M,D]."""
    rows, distance = _find_cells(grid, locations)
    (near_x, near_y), (far_x, far_y) = _linear_weights(distance)
    attention = weights.flatten(1)  # [q,M,L,P] -> [q,N]
    out = out.flatten(0, 1).zero_()  # [q,M,D] -> [qM,D]
    for offset, x, y in zip(grid.corners, (near_x, far_x, near_x, far_x), (near_y, near_y, far_y, far_y)):
        bags = (rows + offset).view(len(out), -1)  # [q,N] -> [qM,LP]
        share = (x * y).mul_(attention).view_as(bags)
        out += F.embedding_bag(bags, table, mode="sum", per_sample_weights=share)


def _differentiate(
    grid: _Grid, values: Tensor, locations: Tensor, weights: Tensor, grad_read: Tensor, *, out: list[Tensor]
) -> None:
    """Gradients of one image for values [S,M,D], locations [Q,M,L,P,2] and weights [Q,M,L,P] into ``out``."""
    table = values.reshape(-1, values.shape[-1])  # [S,M,D] -> [R,D]
    grad_values, grad_locations, grad_weights = out
    rows = torch.empty(weights.shape, dtype=torch.int32, device=weights.device).flatten(1)  # [Q,N]
    shares = weights.new_empty(*rows.shape, 4)  # of a cell's rows in what is read
    for chunk in _chunks(locations):
        rows[chunk], distance = _find_cells(grid, locations[chunk])
        linear, slope = _linear_weights(distance), _linear_slopes(distance)
        attention = weights[chunk].flatten(1)  # [q,M,L,P] -> [q,N]
        bilinear = (linear[:, None, 1] * linear[None, :, 0]).flatten(0, 1)  # y [2,1,q,N] * x [1,2,q,N] -> [4,q,N]
        torch.mul(bilinear.movedim(0, -1), attention[..., None], out=shares[chunk])
        dots = _dot_corners(table, rows[chunk], grad_read[chunk], grid=grid)
        along_x, along_y = (dots * linear[:, 0]).sum(1), (dots * linear[:, None, 1]).sum(0)
        grad_weights[chunk] = (along_x * linear[:, 1]).sum(0).view_as(grad_weights[chunk])
        grad_place = torch.stack(((along_y * slope[:, 0]).sum(0), (along_x * slope[:, 1]).sum(0)))  # [2,q,N]
        grad_place *= grid.scale * attention
        grad_locations[chunk] = grad_place.movedim(0, -1).view_as(grad_locations[chunk])
    grad_values.copy_(_scatter(rows, shares, grad_read, grid).view_as(grad_values))


def _dot_corners(table: Tensor, rows: Tensor, grad_read: Tensor, *, grid: _Grid) -> Tensor:
    """Products of the cells' rows with the gradient [q,M,D] of what they were summed to; y and x [2,2,q,N]."""
    dots = table.new_empty(4, *rows.shape)
    for offset, dot in zip(grid.corners, dots):
        read = table.index_select(0, (rows + offset).flatten())
        read = read.view(*grad_read.shape[:2], -1, table.shape[1])  # [qN,D] -> [q,M,LP,D]
        torch.sum(read.mul_(grad_read[:, :, None]), -1, out=dot.view(read.shape[:3]))
    return dots.unflatten(0, (2, 2))


def _scatter(rows: Tensor, shares: Tensor, grad_read: Tensor, grid: _Grid) -> Tensor:
    """Gradient of the table [R,D]: the rows of each cell [Q,N] get their shares [Q,N,4] of the gradient [Q,M,D].

    Sorted by cell, the samples of a cell are a bag of gradients. In a level all bags of one corner are as many rows
    behind their cells, so that one sort serves the four corners.
    """
    grad_bags = grad_read.flatten(0, 1)  # [Q,M,D] -> [QM,D]
    order = rows.flatten().argsort()
    counts = torch.bincount(rows.flatten(), minlength=sum(grid.level_rows))
    shares = shares.view(-1, 4).index_select(0, order).T.contiguous()  # [Q,N,4] -> [4,QN]
    bags = order.div_(rows.numel() // len(grad_bags), rounding_mode="floor")  # the row of grad_bags of each sample
    total = grad_bags.new_zeros(len(counts), grad_bags.shape[1])
    for share, shifts in zip(shares, grid.level_corners):
        read = F.embedding_bag(bags, grad_bags, counts.cumsum(0) - counts, mode="sum", per_sample_weights=share)
        for shift, part, level in zip(shifts, read.split(grid.level_rows), total.split(grid.level_rows)):
            level[shift:] += part[: len(part) - shift]
    return total
