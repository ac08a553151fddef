"""Fine level: mask features at stride 2, for outlines that a grid of every fourth pixel cannot hold.

Our addition; the paper has none. Shapes: B batch (images x views), C channels, H and W pixels.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ConvNorm


class FineLevel(nn.Module):
    """Mask features at twice their resolution: resized, plus what the pixels tell beside them.

    A fresh one has nothing to add, so the masks of trained weights are only resized until it has learnt.

    Args:
        channels: width C of the mask features.
        width: of the layers at stride 2; divisible by 32.
    """

    def __init__(self, channels: int, *, width: int = 64) -> None:
        super().__init__()
        self.edges = ConvNorm(3, width, kernel=3, stride=2)
        self.context = nn.Conv2d(channels, width, 1)
        self.mix = ConvNorm(width, width, kernel=3, relu=True)
        self.output = nn.Conv2d(width, channels, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, mask_features: Tensor, pixels: Tensor) -> Tensor:
        """Mask features [B,C,H/4,W/4] and the pixels [B,3,H,W] that they are of to [B,C,H/2,W/2]."""
        detail = self.edges(pixels)
        size_hw = detail.shape[-2:]
        detail += _resize(self.context(mask_features), size_hw)  # before the resize a 1x1 convolution is cheaper
        detail = self.mix(F.relu(detail, inplace=True))
        fine = _resize(mask_features, size_hw)
        fine += self.output(detail)
        return fine


def _resize(planes: Tensor, size_hw: tuple[int, int]) -> Tensor:
    return F.interpolate(planes, size=size_hw, mode="bilinear", align_corners=False)
