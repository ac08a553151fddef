"""Swin Transformer (Liu et al., 2021) as a four-level backbone, for any input size.

Sizes that windows, patches or merges do not divide are padded with zeros right and below, as published.
Shapes: B batch, C channels, H and W pixels or tokens, n windows, M heads, w window side.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from ..layers import in_chunks, token_wise

WINDOWS_AT_ONCE = 32  # their queries, keys and values stay in the cache of a core


class WindowAttention(nn.Module):
    """Self-attention inside windows, with a learned bias for each relative position."""

    def __init__(self, channels: int, *, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, windows: Tensor, *, separate: Tensor | None) -> Tensor:
        """Windows [B,n,w*w,C] to the same; ``separate`` bool [n,w*w,w*w] marks pairs that must not meet."""
        masks = () if separate is None else (separate[None],)
        return in_chunks(self._attend, windows, *masks, size=WINDOWS_AT_ONCE, dim=1)

    def _attend(self, windows: Tensor, separate: Tensor | None = None) -> Tensor:
        """As ``forward``, with ``separate`` [1,n,w*w,w*w]."""
        batch, count, tokens, _ = windows.shape
        qkv = self.qkv(windows).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)  # -> [3,B,n,M,ww,c]
        bias = self._bias()
        if separate is None:  # one bias for all windows: the windows join the batch
            q, k, v = qkv.flatten(1, 2)  # [3,B,n,M,ww,c] -> 3 x [Bn,M,ww,c]
        else:  # one mask for each window: the windows join the heads, the batch shares the mask
            q, k, v = qkv.flatten(2, 3)  # [3,B,n,M,ww,c] -> 3 x [B,nM,ww,c]
            bias = (bias - 100.0 * separate[0, :, None]).flatten(0, 1)[None]  # [n,M,ww,ww] -> [1,nM,ww,ww]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        attended = attended.reshape(batch, count, self.heads, tokens, -1)  # -> [B,n,M,ww,c]
        return self.proj(attended.transpose(2, 3).flatten(3))  # [B,n,M,ww,c] -> [B,n,ww,C]

    def _bias(self) -> Tensor:
        index = relative_position_index(self.window).to(self.relative_position_bias_table.device)
        return self.relative_position_bias_table[index].permute(2, 0, 1)[None]  # [ww,ww,M] -> [1,M,ww,ww]


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def relative_position_index(window: int) -> Tensor:
    """Row of the bias table for each pair of tokens of a window, int64 [w*w, w*w]."""
    place = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
    difference = place[:, :, None] - place[:, None] + window - 1  # [2,ww,ww]
    return difference[0] * (2 * window - 1) + difference[1]


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def separated_pairs(size_hw: tuple[int, int], window: int, shift: int, device: torch.device) -> Tensor:
    """Token pairs that share a shifted window but not a neighbourhood in the image, bool [n, w*w, w*w]."""
    region = torch.zeros(size_hw, device=device)
    cuts = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for i, rows in enumerate(cuts):
        for j, columns in enumerate(cuts):
            region[rows, columns] = 3 * i + j
    regions = to_windows(region[None, :, :, None], window)[0, :, :, 0]  # [1,n,ww,1] -> [n,ww]
    return regions[:, :, None] != regions[:, None]


def to_windows(plane: Tensor, window: int) -> Tensor:
    """[B,H,W,C] with divisible sides to windows [B,n,w*w,C]."""
    tiles = plane.unflatten(2, (-1, window)).unflatten(1, (-1, window))  # [B,H,W,C] -> [B,H/w,w,W/w,w,C]
    return tiles.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # -> [B,n,ww,C]


def from_windows(windows: Tensor, window: int, size_hw: tuple[int, int]) -> Tensor:
    """The inverse of ``to_windows``: [B,n,w*w,C] to [B,H,W,C]."""
    rows, columns = size_hw[0] // window, size_hw[1] // window
    tiles = windows.unflatten(2, (window, window)).unflatten(1, (rows, columns))  # -> [B,H/w,W/w,w,w,C]
    return tiles.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # -> [B,H,W,C]


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[...,C] to [...,C]."""
        return self.fc2(F.gelu(self.fc1(x)))


class SwinBlock(nn.Module):
    """Pre-norm window attention and MLP; every second block shifts its windows by half their side."""

    def __init__(self, channels: int, *, heads: int, window: int, shift: int, drop_path: float) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads=heads, window=window)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels)
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, x: Tensor) -> Tensor:
        """[B,H,W,C] to [B,H,W,C]."""
        x = x + self.drop_path(self._attend(self.norm1(x)))
        return x + self.drop_path(token_wise(self._mix, x))

    def _mix(self, tokens: Tensor) -> Tensor:
        return self.mlp(self.norm2(tokens))

    def _attend(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        x = F.pad(x, (0, 0, 0, -width % self.window, 0, -height % self.window))
        size_hw = (x.shape[1], x.shape[2])
        separate = None
        if self.shift:
            x = x.roll((-self.shift, -self.shift), dims=(1, 2))
            separate = separated_pairs(size_hw, self.window, self.shift, x.device)
        windows = self.attn(to_windows(x, self.window), separate=separate)
        x = from_windows(windows, self.window, size_hw)
        if self.shift:
            x = x.roll((self.shift, self.shift), dims=(1, 2))
        return x[:, :height, :width]


class PatchMerging(nn.Module):
    """Halves the grid: four neighbours become one token of twice the width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B,H,W,C] to [B,ceil(H/2),ceil(W/2),2C]."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        corners = (x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2])
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


class PatchEmbed(nn.Module):
    """4x4 patches to tokens."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, 4, stride=4)
        self.norm = nn.LayerNorm(channels)

    def forward(self, pixels: Tensor) -> Tensor:
        """[B,3,H,W] to [B,ceil(H/4),ceil(W/4),C]."""
        pixels = F.pad(pixels, (0, -pixels.shape[3] % 4, 0, -pixels.shape[2] % 4))
        tokens = self.proj(pixels).permute(0, 2, 3, 1)  # [B,C,h,w] -> [B,h,w,C]
        return self.norm(tokens.float())  # the sums over all blocks stay in fp32 under autocast


class SwinStage(nn.Module):
    """Blocks at one resolution and, except in the last stage, the merge to the next."""

    def __init__(
        self, channels: int, *, depth: int, heads: int, window: int, drop_path: list[float], merge: bool
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinBlock(channels, heads=heads, window=window, shift=(i % 2) * (window // 2), drop_path=drop_path[i])
            for i in range(depth)
        )
        self.downsample = PatchMerging(channels) if merge else None


class Swin(nn.Module):
    """Swin Transformer with one LayerNorm for each output level.

    Args:
        channels: width of the first stage; it doubles at every stage.
        depths: blocks in each stage.
        heads: attention heads in each stage.
        window: window side.
        drop_path: stochastic depth of the last block; it grows linearly from 0.
    """

    def __init__(
        self,
        channels: int = 96,
        *,
        depths: tuple[int, ...] = (2, 2, 6, 2),
        heads: tuple[int, ...] = (3, 6, 12, 24),
        window: int = 7,
        drop_path: float = 0.3,
    ) -> None:
        super().__init__()
        rates = torch.linspace(0, drop_path, sum(depths), device="cpu").split(depths)  # also when built on meta
        widths = [channels * 2**i for i in range(len(depths))]
        self.channels = {4 * 2**i: width for i, width in enumerate(widths)}
        self.patch_embed = PatchEmbed(channels)
        self.layers = nn.ModuleList(
            SwinStage(
                width,
                depth=depths[i],
                heads=heads[i],
                window=window,
                drop_path=rates[i].tolist(),
                merge=i + 1 < len(depths),
            )
            for i, width in enumerate(widths)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)

    def forward(self, pixels: Tensor) -> dict[int, Tensor]:
        """[B,3,H,W] to {stride: [B,C_stride,ceil(H/stride),ceil(W/stride)]} for strides 4, 8, 16, 32."""
        x, features = self.patch_embed(pixels), {}
        for stride, stage, norm in zip(self.channels, self.layers, self.norms):
            for block in stage.blocks:
                x = block(x)
            features[stride] = norm(x).permute(0, 3, 1, 2).contiguous()  # [B,h,w,C] -> [B,C,h,w]
            if stage.downsample is not None:
                x = stage.downsample(x)
        return features
