"""ResNet with bottleneck blocks (He et al., 2016) and frozen batch norm, stride in the 3x3 convolution."""

from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d


class ConvFrozenNorm(nn.Module):
    """Convolution without bias, then batch norm with fixed statistics."""

    def __init__(self, in_channels: int, channels: int, *, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.norm = FrozenBatchNorm2d(channels)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """[B,C_in,h,w] to [B,C,h/stride,w/stride]."""
        return self.norm(self.conv(x))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a residual; a projection on the shortcut where shapes change."""

    def __init__(self, in_channels: int, channels: int, *, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvFrozenNorm(in_channels, width, kernel=1)
        self.conv2 = ConvFrozenNorm(width, width, kernel=3, stride=stride)
        self.conv3 = ConvFrozenNorm(width, channels, kernel=1)
        changes = in_channels != channels or stride != 1
        self.shortcut = ConvFrozenNorm(in_channels, channels, kernel=1, stride=stride) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[B,C_in,h,w] to [B,C,h/stride,w/stride]."""
        residual = self.conv3(self.conv2(self.conv1(x).relu()).relu())
        return (residual + self.shortcut(x)).relu()


class ResNet(nn.Module):
    """ResNet as a four-level backbone.

    Args:
        depths: blocks in each stage; (3, 4, 6, 3) is ResNet-50.
        stem: channels of the stem.
        width: inner width of the first stage's blocks; it doubles at every stage.
        channels: outer width of the first stage; it doubles at every stage.
    """

    def __init__(
        self, depths: tuple[int, ...] = (3, 4, 6, 3), *, stem: int = 64, width: int = 64, channels: int = 256
    ) -> None:
        super().__init__()
        self.stem = ConvFrozenNorm(3, stem, kernel=7, stride=2)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.channels = {4 * 2**i: channels * 2**i for i in range(len(depths))}
        stages, before = [], stem
        for i, (depth, after) in enumerate(zip(depths, self.channels.values())):
            blocks = [
                Bottleneck(after if j else before, after, width=width * 2**i, stride=2 if i and not j else 1)
                for j in range(depth)
            ]
            stages.append(nn.Sequential(*blocks))
            before = after
        self.stages = nn.ModuleList(stages)

    def forward(self, pixels: Tensor) -> dict[int, Tensor]:
        """[B,3,H,W] to {stride: [B,C_stride,h,w]} for strides 4, 8, 16, 32."""
        x, features = self.pool(self.stem(pixels).relu()), {}
        for stride, stage in zip(self.channels, self.stages):
            x = stage(x)
            features[stride] = x
        return features
