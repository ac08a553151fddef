"""Random points instead of whole masks: reading planes, features and binary masks at points, and choosing the points.

Source: PointRend (Kirillov et al., 2020) as used by Mask2Former: importance sampling by uncertainty.
Shapes: N planes or masks, B feature maps, C channels, P points; points are x, y in [0, 1].
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
    """Bilinear values of ``planes`` [N,h,w] at ``points_xy`` [N,P,2]; float [N,P], zero outside."""
    grid = (2 * points_xy - 1)[:, None]  # [N,P,2] -> [N,1,P,2]
    return F.grid_sample(planes[:, None], grid, align_corners=False)[:, 0, 0]  # [N,1,1,P] -> [N,P]


def sample_features(table: Tensor, points_xy: Tensor) -> Tensor:
    """Bilinear values of all channels of ``table`` [B,h,w,C] at ``points_xy`` [B,P,2]; [B,P,C], zero outside.

    Channels come last because a point then reads four rows of memory rather than 4C places far apart.
    """
    corners = _corners(points_xy, table.shape[1:3])
    index = torch.stack([index for index, _ in corners], dim=-1)  # [B,P,4]
    share = torch.stack([share for _, share in corners], dim=-1)
    index += _starts(torch.arange(len(table), device=table.device), table.shape[1:3])[..., None]
    rows = table.flatten(0, 2)  # [B,h,w,C] -> [Bhw,C]
    read = F.embedding_bag(
        index.flatten(0, 1), rows, mode="sum", per_sample_weights=share.flatten(0, 1)
    )  # [B,P,4] -> [BP,4]
    return read.unflatten(0, points_xy.shape[:2])  # [BP,C] -> [B,P,C]


def sample_masks(masks: Tensor, points_xy: Tensor, *, chosen: Tensor) -> Tensor:
    """Bilinear values of the ``chosen`` ones, int64 [N], of bool ``masks`` [...,H,W] at ``points_xy`` [N,P,2].

    Gathers four bits for each point, so that full-size masks are never converted to float.

    Returns:
        float32 [N,P], zero outside.
    """
    first = _starts(chosen, masks.shape[-2:])
    bits = masks.reshape(-1)  # [...,H,W] -> [N'HW]
    total = torch.zeros(points_xy.shape[:2], device=points_xy.device)
    for index, share in _corners(points_xy, masks.shape[-2:]):
        index += first
        total += share * bits.index_select(0, index.flatten()).view_as(share)
    return total


def _starts(planes: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Places where planes of this size begin that lie one after another, int64 [N] to [N,1]."""
    return (planes * (size_hw[0] * size_hw[1]))[:, None]


def _corners(points_xy: Tensor, size_hw: tuple[int, int]) -> list[tuple[Tensor, Tensor]]:
    """The four pixels around each of ``points_xy`` [N,P,2]: place in the plane, int64 [N,P], and bilinear share."""
    (columns, shares_x), (rows, shares_y) = (
        _neighbours(points_xy[..., axis], side) for axis, side in enumerate((size_hw[1], size_hw[0]))
    )
    starts = [row * size_hw[1] for row in rows]
    return [
        (start + column, share_x * share_y)
        for start, share_y in zip(starts, shares_y)
        for column, share_x in zip(columns, shares_x)
    ]


def _neighbours(place: Tensor, side: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The two pixels around each ``place`` in [0, 1] of a side, and their linear shares: nothing outside the side."""
    pixel = (place * side - 0.5).clamp_(-1, side)
    near = pixel.floor()
    share = pixel.sub_(near)
    index = near.long()
    shares = (1 - share) * ((near >= 0) & (near < side)), share * (near < side - 1)
    return (index.clamp(0, side - 1), (index + 1).clamp_(max=side - 1)), shares


@torch.no_grad()
def uncertain_points(
    mask_logits: Tensor, draw: DrawPoints, *, points: int, oversample: float, importance: float
) -> tuple[Tensor, Tensor]:
    """Points where the masks [N,h,w] are least sure, filled up with uniform ones; the masks there.

    Args:
        mask_logits: the masks.
        draw: source of uniform points.
        points: P.
        oversample: candidates drawn for each point kept.
        importance: share of the points chosen by uncertainty, the smallest absolute logit.

    Returns:
        Points, float [N,P,2], and the values of the masks at these, float [N,P].
    """
    count, chosen = len(mask_logits), int(importance * points)
    candidates = draw(count, int(oversample * points))
    logits = sample_planes(mask_logits, candidates)
    index = logits.abs().topk(chosen, dim=1, largest=False, sorted=False).indices  # [N,chosen]
    uncertain = candidates.gather(1, index[..., None].expand(-1, -1, 2))
    fresh = draw(count, points - chosen)
    fresh_logits = sample_planes(mask_logits, fresh)
    return torch.cat((uncertain, fresh), dim=1), torch.cat((logits.gather(1, index), fresh_logits), dim=1)
