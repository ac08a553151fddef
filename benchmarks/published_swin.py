"""Swin evaluated the plain way: every product written out, every mask and index made again at every call.

It takes the weights of our backbone and gives the same features. Source: Swin Transformer (Liu et al., 2021).
Shapes: B views, C channels, H and W tokens, n windows, M heads, w window side.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def dense_swin(swin: nn.Module, pixels: Tensor) -> dict[int, Tensor]:
    """Pixels [B,3,H,W] with sides that 32 divides to {stride: [B,C_stride,h,w]}; all views as one batch."""
    features = {}
    embed = swin.patch_embed
    x = embed.norm(embed.proj(pixels).permute(0, 2, 3, 1))  # [B,C,h,w] -> [B,h,w,C]
    for stride, stage, norm in zip(swin.channels, swin.layers, swin.norms):
        window = stage.blocks[0].window
        mask = window_mask(x, window=window, shift=window // 2)
        for number, block in enumerate(stage.blocks):
            shift = number % 2 * (window // 2)
            x = x + attend(block.attn, block.norm1(x), window=window, shift=shift, mask=mask if shift else None)
            x = x + block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x))))
        features[stride] = norm(x).permute(0, 3, 1, 2).contiguous()  # [B,h,w,C] -> [B,C,h,w]
        x = x if stage.downsample is None else merge(stage.downsample, x)
    return features


def merge(merging: nn.Module, x: Tensor) -> Tensor:
    """Four neighbours become one token, [B,H,W,C] to [B,ceil(H/2),ceil(W/2),2C]."""
    x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
    corners = (x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2])
    return merging.reduction(merging.norm(torch.cat(corners, dim=-1)))


def attend(attention: nn.Module, x: Tensor, *, window: int, shift: int, mask: Tensor | None) -> Tensor:
    """Window attention of the whole plane [B,H,W,C], with its score matrix [Bn,M,ww,ww] in memory."""
    height, width = x.shape[1:3]
    x = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
    padded_hw = x.shape[1:3]
    x = x.roll((-shift, -shift), dims=(1, 2)) if shift else x
    tiles = to_tiles(x, window)  # [Bn,ww,C]
    heads = attention.relative_position_bias_table.shape[1]
    q, k, v = attention.qkv(tiles).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)  # 3 x [Bn,M,ww,c]
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    scores = scores + position_bias(attention.relative_position_bias_table, window)
    if mask is not None:
        scores = scores.unflatten(0, (-1, len(mask))) + mask[:, None]  # [Bn,M,ww,ww] -> [B,n,M,ww,ww]
        scores = scores.flatten(0, 1)  # [B,n,M,ww,ww] -> [Bn,M,ww,ww]
    read = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)  # [Bn,M,ww,c] -> [Bn,ww,C]
    x = from_tiles(attention.proj(read), window, padded_hw)
    x = x.roll((shift, shift), dims=(1, 2)) if shift else x
    return x[:, :height, :width].contiguous()


def position_bias(table: Tensor, window: int) -> Tensor:
    """The learned bias of each pair of tokens, [(2w-1)^2,M] to [M,ww,ww]."""
    side = torch.arange(window, device=table.device)
    place = torch.stack(torch.meshgrid(side, side, indexing="ij")).flatten(1)  # [2,w,w] -> [2,ww]
    row, column = place[:, :, None] - place[:, None] + window - 1
    return table[row * (2 * window - 1) + column].permute(2, 0, 1).contiguous()  # [ww,ww,M] -> [M,ww,ww]


def window_mask(x: Tensor, *, window: int, shift: int) -> Tensor:
    """-100 for pairs in one shifted window that are no neighbours in the plane [B,H,W,C]; float [n,ww,ww]."""
    height, width = (side + -side % window for side in x.shape[1:3])
    region = x.new_zeros(1, height, width, 1)
    cuts = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for number, (rows, columns) in enumerate((rows, columns) for rows in cuts for columns in cuts):
        region[:, rows, columns] = number
    regions = to_tiles(region, window)[..., 0]  # [n,ww,1] -> [n,ww]
    return (regions[:, None] != regions[:, :, None]).to(x.dtype) * -100.0


def to_tiles(x: Tensor, window: int) -> Tensor:
    """[B,H,W,C] to [Bn,ww,C]."""
    tiles = x.unflatten(2, (-1, window)).unflatten(1, (-1, window))  # -> [B,H/w,w,W/w,w,C]
    return tiles.transpose(2, 3).flatten(3, 4).flatten(0, 2)  # -> [Bn,ww,C]


def from_tiles(tiles: Tensor, window: int, size_hw: tuple[int, int]) -> Tensor:
    """The inverse of ``to_tiles``."""
    rows, columns = (side // window for side in size_hw)
    tiles = tiles.unflatten(1, (window, window)).unflatten(0, (-1, rows, columns))  # -> [B,H/w,W/w,w,w,C]
    return tiles.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # -> [B,H,W,C]
