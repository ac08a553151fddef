"""The network evaluated as the published pipeline evaluates it: dense, and all views of an image as one batch.

It takes our model's weights and gives the same queries, and shows what our way of evaluating them saves. As published:
every prediction set keeps its masks at stride 4, attention masks are resized from those and expanded over the heads,
attention makes its weight matrices, deformable attention stacks every sampled value, position codes are made anew.

Shapes: B images, T views, Q queries, C channels, M heads, D channels of a head, L levels, P points, S tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.published_swin import dense_swin
from cropformer import EntitySegmenter

STRIDES = (32, 16, 8)


@dataclass
class PredictionSets:
    """Everything that one pass through the decoder predicts; the last of each list is the result."""

    states: list[Tensor] = field(default_factory=list)  # [B,Q,C]
    class_logits: list[Tensor] = field(default_factory=list)  # [B,Q,K+1]
    masks: list[Tensor] = field(default_factory=list)  # [B,Q,T,h,w], at stride 4


@dataclass
class PublishedOutput:
    """The image-level sets, for each view alone, and the batch-level sets, for all views together."""

    per_view: PredictionSets
    fused: PredictionSets


def published_network(model: EntitySegmenter, pixels: Tensor) -> PublishedOutput:
    """Pixels [B,T,3,H,W] to all prediction sets of both decoders; of the first one alone when T is 1."""
    views = pixels.shape[1]
    is_swin = hasattr(model.backbone, "patch_embed") and hasattr(model.backbone, "norms")
    batch = pixels.flatten(0, 1)  # [B,T,3,H,W] -> [BT,3,H,W]
    levels, mask_features = encode(model, dense_swin(model.backbone, batch) if is_swin else model.backbone(batch))
    decoder = model.query_decoder
    start = decoder.query_features.weight.expand(len(mask_features), -1, -1)
    per_view = decode(decoder, levels, mask_features, start, views=1)
    if views == 1:
        return PublishedOutput(per_view, per_view)
    states = per_view.states[-1].unflatten(0, (-1, views))  # [BT,Q,C] -> [B,T,Q,C]
    start = model.association(states, query_code=decoder.query_positions.weight)
    return PublishedOutput(per_view, decode(decoder, levels, mask_features, start, views=views))


# --- pixel decoder


def encode(model: EntitySegmenter, features: dict[int, Tensor]) -> tuple[list[Tensor], Tensor]:
    """Backbone features to the levels [BT,C,h,w] at strides 32, 16, 8 and the mask features at stride 4."""
    part = model.pixel_decoder
    planes = [conv_norm(project, features[stride]) for stride, project in zip(STRIDES, part.input_projections)]
    sizes_hw = [tuple(plane.shape[-2:]) for plane in planes]
    codes = [plane_codes(plane) + embed.view(1, -1, 1, 1) for plane, embed in zip(planes, part.level_embed)]
    tokens, code = (torch.cat([item.flatten(2).mT for item in group], dim=1) for group in (planes, codes))  # [BT,S,C]
    references = torch.cat([pixel_centres(plane) for plane in planes], dim=1)
    for layer in part.layers:
        read = deform(layer.attention, tokens + code, tokens, references=references, sizes_hw=sizes_hw)
        tokens = feed_forward(layer.feedforward, layer.norm(tokens + read))
    split = tokens.split([h * w for h, w in sizes_hw], dim=1)
    levels = [piece.mT.unflatten(2, size).contiguous() for piece, size in zip(split, sizes_hw)]  # -> [BT,C,h,w]
    fine = conv_norm(part.lateral, features[4])
    fine = fine + F.interpolate(levels[-1], size=fine.shape[-2:], mode="bilinear", align_corners=False)
    return levels, part.mask_projection(F.relu(conv_norm(part.output, fine)))


def conv_norm(part: nn.Module, plane: Tensor) -> Tensor:
    """Convolution and norm of [B,C,h,w]."""
    return part.norm(part.conv(plane))


def feed_forward(block: nn.Module, tokens: Tensor) -> Tensor:
    """Two linear layers of [B,S,C], residual and norm, of all tokens at once."""
    return block.norm(tokens + block.linear2(F.relu(block.linear1(tokens))))


def deform(
    attention: nn.Module, queries: Tensor, tokens: Tensor, *, references: Tensor, sizes_hw: list[tuple[int, int]]
) -> Tensor:
    """Deformable attention by one ``grid_sample`` for each level, all samples stacked before they are summed."""
    heads, levels, points = attention.heads, attention.levels, attention.points
    offsets = attention.sampling_offsets(queries).unflatten(-1, (heads, levels, points, 2))  # [B,S,M,L,P,2]
    weights = attention.attention_weights(queries).unflatten(-1, (heads, -1)).softmax(-1)  # [B,S,M,LP]
    sizes_wh = offsets.new_tensor([(w, h) for h, w in sizes_hw])
    grids = 2 * (references[:, :, None, None, None] + offsets / sizes_wh[:, None]) - 1
    values = attention.value_proj(tokens).unflatten(-1, (heads, -1))  # [B,S,C] -> [B,S,M,D]
    samples = []
    for level, value in enumerate(values.split([h * w for h, w in sizes_hw], dim=1)):
        plane = value.permute(0, 2, 3, 1).flatten(0, 1).unflatten(2, sizes_hw[level])  # [B,hw,M,D] -> [BM,D,h,w]
        grid = grids[:, :, :, level].transpose(1, 2).flatten(0, 1)  # [B,S,M,P,2] -> [BM,S,P,2]
        samples.append(F.grid_sample(plane, grid, padding_mode="zeros", align_corners=False))  # [BM,D,S,P]
    stacked = torch.stack(samples, dim=-2).flatten(-2)  # -> [BM,D,S,L,P] -> [BM,D,S,LP]
    weighted = stacked * weights.transpose(1, 2).flatten(0, 1)[:, None]  # [B,S,M,LP] -> [BM,1,S,LP]
    read = weighted.sum(-1).unflatten(0, (-1, heads)).flatten(1, 2)  # [BM,D,S] -> [B,MD,S]
    return attention.output_proj(read.mT.contiguous())


def pixel_centres(plane: Tensor) -> Tensor:
    """Centres of the pixels of [B,C,h,w] as x, y in [0, 1], row by row; float [B,hw,2]."""
    y, x = (torch.arange(0.5, side, device=plane.device) / side for side in plane.shape[-2:])
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)  # [h,w,2]
    return grid.flatten(0, 1).expand(len(plane), -1, -1)


# --- position codes, for every view though they are all the same


def plane_codes(plane: Tensor) -> Tensor:
    """Row and column codes for [B,C,h,w], of the same shape."""
    ones = torch.ones_like(plane[:, 0])
    y, x = (sine_code(ones.cumsum(axis), channels=plane.shape[1] // 2, axis=axis) for axis in (1, 2))
    return torch.cat((y, x), dim=-1).permute(0, 3, 1, 2).contiguous()  # [B,h,w,C] -> [B,C,h,w]


def sine_code(position: Tensor, *, channels: int, axis: int) -> Tensor:
    """Sines and cosines of positions 1..n along ``axis``, scaled to one turn; [...] to [...,channels]."""
    last = position.narrow(axis, -1, 1)
    turn = position / (last + 1e-6) * 2 * math.pi
    frequency = 10_000.0 ** (2 * (torch.arange(channels, device=position.device) // 2) / channels)
    angle = turn[..., None] / frequency
    return torch.stack((angle[..., 0::2].sin(), angle[..., 1::2].cos()), dim=-1).flatten(-2)  # [...,c/2,2] -> [...,c]


def volume_codes(volume: Tensor) -> Tensor:
    """Codes for [B,T,C,h,w]: those of the plane and, for more than one view, that of the view on top."""
    code = plane_codes(volume.flatten(0, 1)).unflatten(0, volume.shape[:2])
    if volume.shape[1] == 1:
        return code
    number = torch.ones_like(volume[:, :, 0]).cumsum(1)
    return code + sine_code(number, channels=volume.shape[2], axis=1).permute(0, 1, 4, 2, 3)  # -> [B,T,C,h,w]


# --- query decoder


def decode(
    decoder: nn.Module, levels: list[Tensor], mask_features: Tensor, start: Tensor, *, views: int
) -> PredictionSets:
    """One pass: ``views`` = T consecutive views share their queries [B,Q,C]."""
    mask_features = mask_features.unflatten(0, (-1, views))  # [BT,C,h,w] -> [B,T,C,h,w]
    volumes = [level.unflatten(0, (-1, views)) for level in levels]
    codes = [volume_codes(volume).transpose(1, 2).flatten(2).mT for volume in volumes]  # [B,T,C,h,w] -> [B,S,C]
    values = [
        volume.transpose(1, 2).flatten(2).mT + embed for volume, embed in zip(volumes, decoder.level_embed.weight)
    ]  # [B,T,C,h,w] -> [B,S,C]
    sets, state = PredictionSets(), start
    predict(decoder, sets, state, mask_features)
    for i, layer in enumerate(decoder.layers):
        level = i % len(levels)
        blocked = blocked_keys(sets.masks[-1], levels[level].shape[-2:], heads=layer.cross_attention.heads)
        query_code = decoder.query_positions.weight.expand_as(state)
        queries, keys = state + query_code, values[level] + codes[level]
        state = multi_head(layer.cross_attention, state, queries, keys, values[level], blocked=blocked)
        queries = state + query_code
        state = multi_head(layer.self_attention, state, queries, queries, state)
        state = feed_forward(layer.feedforward, state)
        predict(decoder, sets, state, mask_features)
    return sets


def predict(decoder: nn.Module, sets: PredictionSets, state: Tensor, mask_features: Tensor) -> None:
    """Append the prediction set of ``state`` [B,Q,C], masks at stride 4 included."""
    normed = decoder.norm(state)
    sets.states.append(state)
    sets.class_logits.append(decoder.class_head(normed))
    sets.masks.append(torch.einsum("bqc,btchw->bqthw", decoder.mask_head(normed), mask_features))


@torch.no_grad()
def blocked_keys(masks: Tensor, size_hw: tuple[int, int], *, heads: int) -> Tensor:
    """Keys that a query may not read, from its masks [B,Q,T,h,w]; bool [BM,Q,S], none where all would be blocked."""
    small = F.interpolate(masks.flatten(0, 1), size=tuple(size_hw), mode="bilinear", align_corners=False)
    small = small.unflatten(0, masks.shape[:2]).flatten(2)  # [BQ,T,h,w] -> [B,Q,S]
    blocked = (small.sigmoid()[:, None].repeat(1, heads, 1, 1) < 0.5).flatten(0, 1)  # -> [BM,Q,S]
    blocked[blocked.all(-1)] = False
    return blocked


def multi_head(
    block: nn.Module, state: Tensor, queries: Tensor, keys: Tensor, values: Tensor, *, blocked: Tensor | None = None
) -> Tensor:
    """``nn.MultiheadAttention`` with its defaults on [B,Q,C], then residual and norm."""
    read, _ = F.multi_head_attention_forward(
        *(source.transpose(0, 1) for source in (queries, keys, values)),  # [B,S,C] -> [S,B,C]
        state.shape[-1],
        block.heads,
        block.in_proj_weight,
        block.in_proj_bias,
        None,
        None,
        False,
        0.0,
        block.out_proj.weight,
        block.out_proj.bias,
        training=False,
        need_weights=True,
        attn_mask=blocked,
    )
    return block.norm(state + read.transpose(0, 1))  # [Q,B,C] -> [B,Q,C]
