"""Any pyramid of the timm library as a four-level backbone."""

import timm
import torch.nn.functional as F
from torch import Tensor, nn


class TimmBackbone(nn.Module):
    """A timm model's feature maps at strides 4, 8, 16 and 32, batch norm statistics frozen.

    Args:
        name: timm model name; it must offer ``features_only``.
        dense_last_stage: keep the last stage at stride 16, as encoders distilled from SAM are trained. Its
            map is then both the stride-16 level and, average-pooled, the stride-32 level.
    """

    def __init__(self, name: str, *, dense_last_stage: bool = False) -> None:
        super().__init__()
        self.name, self.dense_last_stage = name, dense_last_stage
        self.body = timm.create_model(name, pretrained=False, features_only=True)
        widths = self.body.feature_info.channels()[-4:]
        if dense_last_stage:
            self.body.stages_3.downsample.conv2.conv.stride = (1, 1)
            widths[2] = widths[3]
        self.channels = dict(zip((4, 8, 16, 32), widths))
        self.train()  # a fresh module is in training mode, batch norm too, before anybody asks for a mode

    def forward(self, pixels: Tensor) -> dict[int, Tensor]:
        """[B,3,H,W] with sides divisible by 32 to {stride: [B,C_stride,h,w]}."""
        maps = self.body(pixels)[-4:]
        if self.dense_last_stage:
            maps = [*maps[:2], maps[3], F.avg_pool2d(maps[3], 2)]
        return dict(zip(self.channels, maps))

    def train(self, mode: bool = True) -> "TimmBackbone":
        """Set training mode, except for batch norm: small batches would ruin its statistics."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self
