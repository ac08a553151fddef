"""Sine position codes: rows and columns inside a view, and the number of the view. Constant, hence cached.

The cached tensors are made outside inference mode, so that a later training step may use them.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

TEMPERATURE = 10_000.0


def sine_code(count: int, channels: int) -> Tensor:
    """Code of the positions 1..count scaled to one turn, sine and cosine interleaved; float [count, channels]."""
    position = torch.arange(1, count + 1, dtype=torch.float32) / (count + 1e-6) * 2 * math.pi
    frequency = TEMPERATURE ** (2 * (torch.arange(channels) // 2) / channels)
    angle = position[:, None] / frequency
    return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=2).flatten(1)  # [n,c/2,2] -> [n,c]


@lru_cache(maxsize=12)
@torch.inference_mode(False)
def plane_code(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """Position code of a feature map, float [height * width, channels]: half the channels row, half column."""
    rows = sine_code(height, channels // 2)[:, None].expand(-1, width, -1)
    columns = sine_code(width, channels // 2)[None].expand(height, -1, -1)
    return torch.cat((rows, columns), dim=2).flatten(0, 1).to(device)  # [h,w,c] -> [hw,c]


@lru_cache(maxsize=12)
@torch.inference_mode(False)
def view_code(views: int, channels: int, device: torch.device) -> Tensor:
    """Code of the view number, float [views, channels], added to the plane code in the batch decoder.

    It depends on the number of views, so training (T = 2) and testing (T = 5) see different codes for the
    same crop. Published weights were trained that way.
    """
    return sine_code(views, channels).to(device)
