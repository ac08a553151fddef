"""A backbone run by OpenVINO on the CPU: the same maps, faster. Needs the extra ``openvino``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..precision import Precision, check_precision

HINTS = {"fp32": "f32", "bf16": "bf16"}


class OpenVINOBackbone(nn.Module):
    """Runs another backbone, converted once for each input size; for inference.

    Args:
        backbone: module from pixels to {stride: map}; with gradients it answers itself.
        precision: of the matrix products.
        max_sizes: how many converted sizes are kept; the one that waited longest goes first.

    Raises:
        InputError: if the package is missing, or there is no such precision.
    """

    def __init__(self, backbone: nn.Module, *, precision: Precision = "fp32", max_sizes: int = 4) -> None:
        super().__init__()
        check_precision(precision)
        try:
            import openvino
        except ImportError as error:
            raise InputError(
                "the OpenVINO backbone needs the package openvino; pip install 'cropformer[openvino]'"
            ) from error
        self.backbone, self.precision, self.max_sizes = backbone, precision, max_sizes
        self.channels = backbone.channels
        self._core = openvino.Core()
        self._converted: dict[torch.Size, Callable] = {}

    def forward(self, pixels: Tensor) -> dict[int, Tensor]:
        """[B,3,H,W] on the CPU to {stride: [B,C_stride,h,w]}, as the backbone."""
        if torch.is_grad_enabled():
            return self.backbone(pixels)
        run = self._converted.pop(pixels.shape, None) or self._convert(pixels)
        self._converted[pixels.shape] = run  # last in, last out
        if len(self._converted) > self.max_sizes:
            self._converted.pop(next(iter(self._converted)))
        maps = run(pixels.numpy())
        return {stride: torch.from_numpy(np.asarray(maps[i])) for i, stride in enumerate(self.channels)}

    def state_dict(
        self, *, destination: dict[str, Tensor] | None = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Tensor]:
        """That of the backbone: saved weights are those of the plain model."""
        return self.backbone.state_dict(destination=destination, prefix=prefix, keep_vars=keep_vars)

    def _convert(self, pixels: Tensor) -> Callable:
        """Compiled model for one input size."""
        import openvino

        self.backbone(pixels)  # constants that the backbone caches must be there before it is exported
        # With gradients the backbone runs straight through, without the loops over parts that suit torch alone.
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False):
            program = torch.export.export(_Maps(self.backbone), (torch.zeros(pixels.shape),))
            model = openvino.convert_model(program)
        hints = {
            "INFERENCE_PRECISION_HINT": HINTS[self.precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        return self._core.compile_model(model, "CPU", hints)


class _Maps(nn.Module):
    """A backbone whose maps come as a tuple, from fine to coarse."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.training = backbone.training

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.backbone(pixels).values())
