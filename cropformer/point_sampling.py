"""Random points instead of whole masks: reading planes and binary masks at points, and choosing the points.

Source: PointRend (Kirillov et al., 2020) as used by Mask2Former: importance sampling by uncertainty.
Shapes: N planes or masks, C channels, P points; points are x, y in [0, 1].
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

DrawPoints = Callable[[int, int], Tensor]
"""Draws uniform points: (N, P) to float [N,P,2]. Injected, so that a recorded draw can be replayed."""


def uniform_points(device: torch.device) -> DrawPoints:
    """A source of uniform points on ``device``."""
    return lambda count, points: torch.rand(count, points, 2, device=device)


def sample_planes(planes: Tensor, points_xy: Tensor) -> Tensor:
    """Bilinear values of ``planes`` [N,C,h,w] at ``points_xy`` [N,P,2]; float [N,C,P], zero outside."""
    grid = (2 * points_xy - 1)[:, None]  # [N,P,2] -> [N,1,P,2]
    return F.grid_sample(planes, grid, align_corners=False)[:, :, 0]


def sample_masks(masks: Tensor, points_xy: Tensor) -> Tensor:
    """Bilinear values of bool ``masks`` [N,H,W] at ``points_xy`` [N,P,2] or [1,P,2]; float32 [N,P].

    Gathers four bits for each point, so that full-size masks are never converted to float.
    """
    height, width = masks.shape[-2:]
    size = torch.tensor((width, height), device=points_xy.device)
    pixel = points_xy * size - 0.5
    low = pixel.floor()
    fraction = pixel - low
    low = low.long()
    total = torch.zeros(len(masks), points_xy.shape[1], device=points_xy.device)
    flat = masks.flatten(1)  # [N,H,W] -> [N,HW]
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        x, y = low[..., 0] + dx, low[..., 1] + dy
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        index = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).expand(len(masks), -1)
        weight_x = fraction[..., 0] if dx else 1 - fraction[..., 0]
        weight_y = fraction[..., 1] if dy else 1 - fraction[..., 1]
        total += flat.gather(1, index) * (weight_x * weight_y * inside)
    return total


@torch.no_grad()
def uncertain_points(
    mask_logits: Tensor, draw: DrawPoints, *, points: int, oversample: float, importance: float
) -> Tensor:
    """Points where the masks [N,h,w] are least sure, filled up with uniform ones; float [N,P,2].

    Args:
        mask_logits: the masks.
        draw: source of uniform points.
        points: P.
        oversample: candidates drawn for each point kept.
        importance: share of the points chosen by uncertainty, the smallest absolute logit.
    """
    count, chosen = len(mask_logits), int(importance * points)
    candidates = draw(count, int(oversample * points))
    logits = sample_planes(mask_logits[:, None], candidates)[:, 0]
    index = logits.abs().topk(chosen, dim=1, largest=False).indices  # [N,chosen]
    uncertain = candidates.gather(1, index[..., None].expand(-1, -1, 2))
    return torch.cat((uncertain, draw(count, points - chosen)), dim=1)
