"""Multi-scale deformable attention on the GPU: one Triton kernel forward and one backward, no sampled temporaries.

Import it only where triton is installed. Sums are fp32 whatever the values' dtype. The gradient of the values is added
up atomically, so that its last bits change from run to run.
Source of the arithmetic: Deformable DETR (Zhu et al., 2021), equation 3.
Shapes: B images, S tokens of all levels, Q queries, M heads, D channels of a head, L levels, P points. A bag is one
(image, query, head); a program handles BLOCK bags, with LANES >= D lanes each.
"""

from collections.abc import Callable

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import FunctionCtx

_BLOCK_ELEMENTS = 1024  # bags x lanes of a program: 8 values in each thread of 4 warps


@torch.library.custom_op("cropformer::read_bags", mutates_args=())
def read_bags(values: Tensor, sides_wh: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """``deformable_attention`` as an operator that ``torch.compile`` does not look into. Differentiable once.

    Args:
        values: [B,S,M,D], fp32, bf16 or fp16.
        sides_wh: width and height of each level, int32 [L,2] on the same device.
        locations: [B,Q,M,L,P,2], fp32.
        weights: [B,Q,M,L,P], fp32.

    Returns:
        [B,Q,MD] in the dtype of ``values``.
    """
    batch, queries, heads = locations.shape[:3]
    read = values.new_empty(batch, queries, heads * values.shape[3])
    inputs = [tensor.contiguous() for tensor in (values, sides_wh, locations, weights)]
    _launch(_read_kernel, *inputs, read)
    return read


@read_bags.register_fake
def _(values: Tensor, sides_wh: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    return values.new_empty(*locations.shape[:2], locations.shape[2] * values.shape[3])


@torch.library.custom_op("cropformer::read_bags_backward", mutates_args=())
def read_bags_backward(
    values: Tensor, sides_wh: Tensor, locations: Tensor, weights: Tensor, grad_read: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of values, locations and weights, shaped and typed like them, from that of what was read [B,Q,MD]."""
    inputs = [tensor.contiguous() for tensor in (values, sides_wh, locations, weights, grad_read)]
    grad_values = torch.zeros(values.shape, dtype=torch.float32, device=values.device)
    grad_locations, grad_weights = torch.empty_like(inputs[2]), torch.empty_like(inputs[3])
    _launch(_differentiate_kernel, *inputs, grad_values, grad_locations, grad_weights)
    return grad_values.to(values.dtype), grad_locations, grad_weights


@read_bags_backward.register_fake
def _(
    values: Tensor, sides_wh: Tensor, locations: Tensor, weights: Tensor, grad_read: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(tensor.new_empty(tensor.shape) for tensor in (values, locations, weights))


def _save_inputs(ctx: FunctionCtx, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: FunctionCtx, grad_read: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
    grad_values, grad_locations, grad_weights = read_bags_backward(*ctx.saved_tensors, grad_read)
    return grad_values, None, grad_locations, grad_weights


read_bags.register_autograd(_backward, setup_context=_save_inputs)


def _launch(
    kernel: Callable, values: Tensor, sides_wh: Tensor, locations: Tensor, weights: Tensor, *rest: Tensor
) -> None:
    """Run a kernel over all bags; every tensor is contiguous."""
    tokens, _, channels = values.shape[1:]
    batch, queries, heads, levels, points = weights.shape
    bags = batch * queries * heads
    lanes = triton.next_power_of_2(channels)
    block = max(1, _BLOCK_ELEMENTS // lanes)
    if bags == 0:
        return
    with torch.cuda.device_of(values):
        kernel[(triton.cdiv(bags, block),)](
            values,
            sides_wh,
            locations,
            weights,
            *rest,
            bags,
            queries,
            tokens,
            HEADS=heads,
            LEVELS=levels,
            POINTS=points,
            CHANNELS=channels,
            LANES=lanes,
            BLOCK=block,
        )


@triton.jit
def _find_bags(
    bags, queries, tokens, HEADS: tl.constexpr, CHANNELS: tl.constexpr, LANES: tl.constexpr, BLOCK: tl.constexpr
):
    """The program's bags [BLOCK], which exist, and offsets of their first values [BLOCK,LANES], which exist."""
    bag = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    lane = tl.arange(0, LANES)
    is_bag = bag < bags
    image = bag // (queries * HEADS)
    offset = (image * tokens * HEADS + bag % HEADS)[:, None] * CHANNELS + lane[None, :]
    return bag, is_bag, offset, is_bag[:, None] & (lane < CHANNELS)[None, :]


@triton.jit
def _load_sample(locations, weights, sample, is_bag, width, height):
    """Position in pixels and weight of each bag's sample, [BLOCK] each."""
    x = tl.load(locations + 2 * sample, mask=is_bag, other=0.0) * width - 0.5
    y = tl.load(locations + 2 * sample + 1, mask=is_bag, other=0.0) * height - 0.5
    return x, y, tl.load(weights + sample, mask=is_bag, other=0.0)


@triton.jit
def _find_corner(x, y, width, height, start, HEADS: tl.constexpr, CHANNELS: tl.constexpr):
    """Offset [BLOCK,1] of the values of pixel (x, y), and whether it lies inside the level."""
    is_inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    token = start + y.to(tl.int32) * width + x.to(tl.int32)
    return (token * (HEADS * CHANNELS))[:, None], is_inside[:, None]


@triton.jit
def _read_kernel(
    values,
    sides_wh,
    locations,
    weights,
    read,
    bags,
    queries,
    tokens,
    HEADS: tl.constexpr,
    LEVELS: tl.constexpr,
    POINTS: tl.constexpr,
    CHANNELS: tl.constexpr,
    LANES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    bag, is_bag, offset, is_value = _find_bags(bags, queries, tokens, HEADS, CHANNELS, LANES, BLOCK)
    total = tl.zeros([BLOCK, LANES], dtype=tl.float32)
    start = 0
    for level in tl.static_range(LEVELS):
        width = tl.load(sides_wh + 2 * level)
        height = tl.load(sides_wh + 2 * level + 1)
        for point in tl.static_range(POINTS):
            sample = (bag * LEVELS + level) * POINTS + point
            x, y, weight = _load_sample(locations, weights, sample, is_bag, width, height)
            left, top = tl.floor(x), tl.floor(y)
            for corner in tl.static_range(4):
                column, row = left + corner % 2, top + corner // 2
                pixel, is_inside = _find_corner(column, row, width, height, start, HEADS, CHANNELS)
                value = tl.load(values + offset + pixel, mask=is_value & is_inside, other=0.0).to(tl.float32)
                share = weight * (1 - tl.abs(x - column)) * (1 - tl.abs(y - row))
                total += share[:, None] * value
        start += width * height
    lane = tl.arange(0, LANES)
    tl.store(read + bag[:, None] * CHANNELS + lane[None, :], total.to(read.dtype.element_ty), mask=is_value)


@triton.jit
def _differentiate_kernel(
    values,
    sides_wh,
    locations,
    weights,
    grad_read,
    grad_values,
    grad_locations,
    grad_weights,
    bags,
    queries,
    tokens,
    HEADS: tl.constexpr,
    LEVELS: tl.constexpr,
    POINTS: tl.constexpr,
    CHANNELS: tl.constexpr,
    LANES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    bag, is_bag, offset, is_value = _find_bags(bags, queries, tokens, HEADS, CHANNELS, LANES, BLOCK)
    lane = tl.arange(0, LANES)
    grad = tl.load(grad_read + bag[:, None] * CHANNELS + lane[None, :], mask=is_value, other=0.0).to(tl.float32)
    start = 0
    for level in tl.static_range(LEVELS):
        width = tl.load(sides_wh + 2 * level)
        height = tl.load(sides_wh + 2 * level + 1)
        for point in tl.static_range(POINTS):
            sample = (bag * LEVELS + level) * POINTS + point
            x, y, weight = _load_sample(locations, weights, sample, is_bag, width, height)
            left, top = tl.floor(x), tl.floor(y)
            along_x = tl.zeros([BLOCK, LANES], dtype=tl.float32)
            along_y = tl.zeros([BLOCK, LANES], dtype=tl.float32)
            sampled = tl.zeros([BLOCK, LANES], dtype=tl.float32)
            for corner in tl.static_range(4):
                column, row = left + corner % 2, top + corner // 2
                pixel, is_inside = _find_corner(column, row, width, height, start, HEADS, CHANNELS)
                is_read = is_value & is_inside
                value = tl.load(values + offset + pixel, mask=is_read, other=0.0).to(tl.float32)
                share_x, share_y = 1 - tl.abs(x - column), 1 - tl.abs(y - row)
                sampled += (share_x * share_y)[:, None] * value
                along_x += ((2 * (corner % 2) - 1) * share_y)[:, None] * value
                along_y += ((2 * (corner // 2) - 1) * share_x)[:, None] * value
                share = (weight * share_x * share_y)[:, None]
                tl.atomic_add(grad_values + offset + pixel, share * grad, mask=is_read, sem="relaxed")
            tl.store(grad_locations + 2 * sample, weight * tl.sum(along_x * grad, axis=1) * width, mask=is_bag)
            tl.store(grad_locations + 2 * sample + 1, weight * tl.sum(along_y * grad, axis=1) * height, mask=is_bag)
            tl.store(grad_weights + sample, tl.sum(sampled * grad, axis=1), mask=is_bag)
        start += width * height
