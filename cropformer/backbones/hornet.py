"""HorNet (Rao et al., 2022) as a four-level backbone: recursive gated convolutions, in its late stages with a
filter over the whole image.

Shapes: B batch, C channels, H and W pixels, h and w grid, n order of a gated convolution, c_i its i-th width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of each place.

    No ``nn.LayerNorm``, because weight decay, which spares these, is applied to HorNet's norms as published.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,h,w] to the same, channels last in memory: what follows needs no copy to look along them."""
        places = x.permute(0, 2, 3, 1)  # [B,C,h,w] -> [B,h,w,C]
        return F.layer_norm(places, self.weight.shape, self.weight, self.bias, eps=1e-6).permute(0, 3, 1, 2)


class PatchConv(nn.Conv2d):
    """Convolution of patches that do not overlap; sides they do not divide are padded right and below with zeros."""

    def __init__(self, in_channels: int, channels: int, *, side: int) -> None:
        super().__init__(in_channels, channels, side, stride=side)

    def forward(self, x: Tensor) -> Tensor:
        """[B,C_in,h,w] to [B,C,ceil(h/side),ceil(w/side)]."""
        side = self.stride[0]
        return super().forward(F.pad(x, (0, -x.shape[3] % side, 0, -x.shape[2] % side)))


class GlobalLocalFilter(nn.Module):
    """3x3 convolution of one half of the channels, a learned spectrum for the other, between two norms.

    The spectrum is stored for a square grid of ``spectrum`` places a side and resized for any other.
    """

    def __init__(self, channels: int, *, spectrum: int) -> None:
        super().__init__()
        half = channels // 2
        self.pre_norm = ChannelNorm(channels)
        self.dw = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.complex_weight = nn.Parameter(torch.empty(half, spectrum, spectrum // 2 + 1, 2))
        self.post_norm = ChannelNorm(channels)
        nn.init.trunc_normal_(self.complex_weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,h,w] to the same."""
        local, everywhere = self.pre_norm(x).chunk(2, dim=1)
        halves = (self.dw(local), self.filter_spectrum(everywhere))
        return self.post_norm(torch.stack(halves, dim=2).flatten(1, 2))  # 2 x [B,C/2,h,w] -> interleaved [B,C,h,w]

    def filter_spectrum(self, x: Tensor) -> Tensor:
        """[B,C/2,h,w] to the same: its Fourier transform times the learned spectrum, in float32 in any precision."""
        spectrum = torch.fft.rfft2(x.float(), norm="ortho")
        filtered = spectrum * self.resized_weight(spectrum.shape[2:])
        return torch.fft.irfft2(filtered, s=x.shape[2:], norm="ortho").to(x.dtype)

    def resized_weight(self, size_hw: tuple[int, int]) -> Tensor:
        """The learned spectrum at another size, complex [C/2,*size_hw]."""
        weight = self.complex_weight.float()
        if weight.shape[1:3] != size_hw:
            planes = weight.permute(3, 0, 1, 2)  # [C/2,h,w,2] -> [2,C/2,h,w]
            planes = F.interpolate(planes, size_hw, mode="bilinear", align_corners=True)
            weight = planes.permute(1, 2, 3, 0).contiguous()  # [2,C/2,h,w] -> [C/2,h,w,2]
        return torch.view_as_complex(weight)


class GatedConv(nn.Module):
    """Recursive gated convolution of order n: features meet their neighbourhood in n products, ever wider.

    With ``spectrum`` the neighbourhood is the image, without it 7x7.
    """

    def __init__(self, channels: int, *, order: int, spectrum: int) -> None:
        super().__init__()
        self.widths = [channels // 2 ** (order - 1 - i) for i in range(order)]
        gates = sum(self.widths)
        self.proj_in = nn.Conv2d(channels, self.widths[0] + gates, 1)
        self.dwconv = (
            GlobalLocalFilter(gates, spectrum=spectrum)
            if spectrum
            else nn.Conv2d(gates, gates, 7, padding=3, groups=gates)
        )
        self.pws = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(self.widths, self.widths[1:]))
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,h,w] to the same."""
        x, context = self.proj_in(x).split([self.widths[0], sum(self.widths)], dim=1)
        first, *gates = (self.dwconv(context) / 3).split(self.widths, dim=1)  # n x [B,c_i,h,w]; a third, as published
        x = x * first
        for widen, gate in zip(self.pws, gates):
            x = widen(x) * gate
        return self.proj_out(x)


class HorNetBlock(nn.Module):
    """Pre-norm gated convolution and MLP, each scaled by channel before it is added."""

    def __init__(self, channels: int, *, order: int, spectrum: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.gnconv = GatedConv(channels, order=order, spectrum=spectrum)
        self.norm2 = ChannelNorm(channels)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)
        self.gamma1 = nn.Parameter(torch.full((channels,), 1e-6))
        self.gamma2 = nn.Parameter(torch.full((channels,), 1e-6))
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,h,w] to the same."""
        x = x + self.drop_path(self.gamma1[:, None, None] * self.gnconv(self.norm1(x)))
        places = self.norm2(x).permute(0, 2, 3, 1)  # [B,C,h,w] -> [B,h,w,C]
        places = self.gamma2 * self.pwconv2(F.gelu(self.pwconv1(places)))
        return x + self.drop_path(places.permute(0, 3, 1, 2))  # [B,h,w,C] -> [B,C,h,w]


class HorNet(nn.Module):
    """HorNet with one LayerNorm for each output level.

    Args:
        channels: width of the first stage; it doubles at every stage.
        depths: blocks in each stage.
        orders: order of the gated convolutions of each stage.
        spectra: rows of the stored spectra of each stage; 0 for depthwise 7x7 convolutions in their place.
        drop_path: stochastic depth of the last block; it grows linearly from 0.
    """

    def __init__(
        self,
        channels: int = 192,
        *,
        depths: tuple[int, ...] = (2, 3, 18, 2),
        orders: tuple[int, ...] = (2, 3, 4, 5),
        spectra: tuple[int, ...] = (0, 0, 24, 12),
        drop_path: float = 0.6,
    ) -> None:
        super().__init__()
        rates = torch.linspace(0, drop_path, sum(depths), device="cpu").split(depths)  # also when built on meta
        widths = [channels * 2**i for i in range(len(depths))]
        self.channels = {4 * 2**i: width for i, width in enumerate(widths)}
        stem = nn.Sequential(PatchConv(3, channels, side=4), ChannelNorm(channels))
        halvings = [nn.Sequential(ChannelNorm(a), PatchConv(a, b, side=2)) for a, b in zip(widths, widths[1:])]
        self.downsample_layers = nn.ModuleList([stem, *halvings])
        stages = [
            [HorNetBlock(width, order=order, spectrum=spectrum, drop_path=rate) for rate in stage_rates.tolist()]
            for width, order, spectrum, stage_rates in zip(widths, orders, spectra, rates)
        ]
        self.stages = nn.ModuleList(nn.Sequential(*blocks) for blocks in stages)
        self.norms = nn.ModuleList(ChannelNorm(width) for width in widths)

    def forward(self, pixels: Tensor) -> dict[int, Tensor]:
        """[B,3,H,W] to {stride: [B,C_stride,ceil(H/stride),ceil(W/stride)]} for strides 4, 8, 16, 32."""
        x, features = pixels, {}
        for stride, downsample, stage, norm in zip(self.channels, self.downsample_layers, self.stages, self.norms):
            x = stage(downsample(x))
            features[stride] = norm(x)
        return features
