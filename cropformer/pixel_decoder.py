"""Pixel decoder: backbone levels to stride-4 mask features and three encoded levels for the queries.

Source: Mask2Former's multi-scale deformable pixel decoder, which the paper keeps (section 4, P_2).
Shapes: B batch (images x views), C channels, S tokens of the levels at strides 32, 16 and 8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .deformable_attention import DeformableAttention
from .layers import ConvNorm, FeedForwardBlock
from .position import plane_code

ENCODER_STRIDES = (32, 16, 8)  # coarse to fine, the order in which the query decoder reads them


@dataclass(frozen=True)
class PixelFeatures:
    """What the queries read: ``levels`` 3 x [B,C,h,w] at strides 32, 16, 8; ``mask_features``, also of a fine level."""

    levels: tuple[Tensor, ...]
    mask_features: Tensor  # [B,C,H/4,W/4]
    fine_features: Tensor | None = None  # [B,C,H/2,W/2]

    @property
    def finest(self) -> Tensor:
        """The features that masks are made of; queries look at the image through the coarser ones in any case."""
        return self.mask_features if self.fine_features is None else self.fine_features

    def __len__(self) -> int:
        return len(self.mask_features)

    def __getitem__(self, views: slice) -> PixelFeatures:
        """Some of the views, in the same memory."""
        return self._map(lambda planes: planes[views])

    def float(self) -> PixelFeatures:
        """The same in fp32; nothing is copied that is in fp32 already."""
        return self._map(Tensor.float)

    def clone(self) -> PixelFeatures:
        """The same in memory of their own."""
        return self._map(Tensor.clone)

    def empty(self, count: int) -> PixelFeatures:
        """Room in fp32 for ``count`` views of this size."""
        return self._map(lambda like: torch.empty(count, *like.shape[1:], device=like.device))

    def copy_(self, other: PixelFeatures) -> None:
        """Overwrite these features with others of the same shape."""
        for target, source in zip(self._planes(), other._planes()):
            target.copy_(source)

    def _map(self, function: Callable[[Tensor], Tensor]) -> PixelFeatures:
        fine = None if self.fine_features is None else function(self.fine_features)
        return PixelFeatures(tuple(map(function, self.levels)), function(self.mask_features), fine)

    def _planes(self) -> tuple[Tensor, ...]:
        fine = () if self.fine_features is None else (self.fine_features,)
        return (*self.levels, self.mask_features, *fine)


def join_features(parts: Sequence[PixelFeatures]) -> PixelFeatures:
    """Features of consecutive views as those of all of them."""
    levels = tuple(torch.cat(planes) for planes in zip(*(part.levels for part in parts)))
    fine = None if parts[0].fine_features is None else torch.cat([part.fine_features for part in parts])
    return PixelFeatures(levels, torch.cat([part.mask_features for part in parts]), fine)


class EncoderLayer(nn.Module):
    """Deformable self-attention over all levels, then a feed-forward block."""

    def __init__(self, channels: int, *, heads: int, points: int, feedforward: int) -> None:
        super().__init__()
        levels = len(ENCODER_STRIDES)
        self.attention = DeformableAttention(channels, heads=heads, levels=levels, points=points)
        self.norm = nn.LayerNorm(channels)
        self.feedforward = FeedForwardBlock(channels, hidden=feedforward)

    def forward(self, tokens: Tensor, code: Tensor, *, references: Tensor, sizes_hw: list[tuple[int, int]]) -> Tensor:
        """[B,S,C] to [B,S,C]; ``code`` [S,C] tells positions and levels apart."""
        read = self.attention(tokens + code, tokens, references=references, sizes_hw=sizes_hw)
        return self.feedforward(self.norm(tokens + read))


class PixelDecoder(nn.Module):
    """Projects, mixes and upsamples the backbone's levels.

    Args:
        in_channels: channels of the backbone at strides 4, 8, 16 and 32.
        channels: width C of everything behind it.
        layers: deformable encoder layers.
        heads: attention heads.
        points: points that a head reads on each level.
        feedforward: hidden width of the feed-forward blocks.
    """

    def __init__(
        self,
        in_channels: dict[int, int],
        *,
        channels: int = 256,
        layers: int = 6,
        heads: int = 8,
        points: int = 4,
        feedforward: int = 1024,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.input_projections = nn.ModuleList(
            ConvNorm(in_channels[stride], channels, kernel=1, bias=True) for stride in ENCODER_STRIDES
        )
        self.level_embed = nn.Parameter(torch.randn(len(ENCODER_STRIDES), channels))
        self.layers = nn.ModuleList(
            EncoderLayer(channels, heads=heads, points=points, feedforward=feedforward) for _ in range(layers)
        )
        self.lateral = ConvNorm(in_channels[4], channels, kernel=1)
        self.output = ConvNorm(channels, channels, kernel=3, relu=True)
        self.mask_projection = nn.Conv2d(channels, channels, 1)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for projection in self.input_projections:
            nn.init.xavier_uniform_(projection.conv.weight)
            nn.init.zeros_(projection.conv.bias)
        for conv in (self.lateral.conv, self.output.conv, self.mask_projection):
            nn.init.kaiming_uniform_(conv.weight, a=1)
        nn.init.zeros_(self.mask_projection.bias)

    def forward(self, features: dict[int, Tensor]) -> PixelFeatures:
        """Backbone features {stride: [B,C_stride,h,w]} for strides 4, 8, 16, 32."""
        planes = [project(features[stride]) for stride, project in zip(ENCODER_STRIDES, self.input_projections)]
        levels = self._encode(planes)
        fine = self.lateral(features[4])
        fine += F.interpolate(levels[-1], size=fine.shape[-2:], mode="bilinear", align_corners=False)
        return PixelFeatures(tuple(levels), self.mask_projection(self.output(fine)))

    def _encode(self, planes: list[Tensor]) -> list[Tensor]:
        sizes_hw = [(plane.shape[-2], plane.shape[-1]) for plane in planes]
        tokens = torch.cat([plane.flatten(2).transpose(1, 2) for plane in planes], dim=1)  # [B,C,h,w] -> [B,S,C]
        codes = [plane_code(*size, self.channels, tokens.device) for size in sizes_hw]
        code = torch.cat([code + self.level_embed[i] for i, code in enumerate(codes)])
        references = torch.cat([reference_points(size, tokens.device) for size in sizes_hw])
        for layer in self.layers:
            tokens = layer(tokens, code, references=references, sizes_hw=sizes_hw)
        split = tokens.split([h * w for h, w in sizes_hw], dim=1)
        return [part.transpose(1, 2).unflatten(2, size) for part, size in zip(split, sizes_hw)]  # [B,hw,C] -> [B,C,h,w]


@lru_cache(maxsize=12)
@torch.inference_mode(False)
def reference_points(size_hw: tuple[int, int], device: torch.device) -> Tensor:
    """Centres of a level's pixels as x, y in [0, 1], row by row; float [h*w, 2]."""
    y, x = (torch.linspace(0.5, side - 0.5, side, device=device) / side for side in size_hw)
    return torch.stack((x.expand(len(y), -1), y[:, None].expand(-1, len(x))), dim=-1).flatten(0, 1)  # [h,w,2]->[hw,2]
