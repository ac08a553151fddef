"""A backbone compiled by ``torch.compile``, for a bounded number of input sizes."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn


class CompiledBackbone(nn.Module):
    """Runs another backbone, compiled for the first few input sizes that come; for inference.

    Where compilation fails, as without a C++ compiler, one warning says so and the backbone runs as it is.

    Args:
        backbone: module from pixels to {stride: map}; with gradients it answers itself.
        max_sizes: how many input sizes are compiled; others run as they are.
    """

    def __init__(self, backbone: nn.Module, *, max_sizes: int = 4) -> None:
        super().__init__()
        self.backbone, self.max_sizes = backbone, max_sizes
        self.channels = backbone.channels
        self._compiled: dict[torch.Size, Callable[[Tensor], dict[int, Tensor]]] = {}

    def forward(self, pixels: Tensor) -> dict[int, Tensor]:
        """[B,3,H,W] to {stride: [B,C_stride,h,w]}, as the backbone."""
        if torch.is_grad_enabled():
            return self.backbone(pixels)
        run = self._compiled.get(pixels.shape)
        if run is None:
            run = self._compile(pixels)
        return run(pixels)

    def state_dict(
        self, *, destination: dict[str, Tensor] | None = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Tensor]:
        """That of the backbone: saved weights are those of the plain model."""
        return self.backbone.state_dict(destination=destination, prefix=prefix, keep_vars=keep_vars)

    def _compile(self, pixels: Tensor) -> Callable[[Tensor], dict[int, Tensor]]:
        if len(self._compiled) >= self.max_sizes:
            return self.backbone
        self.backbone(pixels)  # constants that the backbone caches must be there before the compiler looks
        # Each size has a function of its own: recompilations of one function are limited.
        compiled = torch.compile(lambda given: self.backbone(given), dynamic=False)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it looks through the caches of constants, as it may
                compiled(pixels)
        except Exception as error:  # whatever the compiler cannot do, the backbone can
            cause = str(error).strip().splitlines()[0]
            warnings.warn(f"the backbone could not be compiled and runs as it is: {cause}", stacklevel=2)
            self.max_sizes = 0
            return self.backbone
        self._compiled[pixels.shape] = compiled
        return compiled
