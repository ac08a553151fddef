"""Multi-scale deformable attention: every query reads a few points on every level.

Source: Deformable DETR (Zhu et al., 2021), equation 3, as used by Mask2Former's pixel decoder.
Shapes: B batch, S tokens of all levels, Q queries, M heads, D channels of a head, L levels, P points.
"""

import importlib.util
import math
import os
import shutil
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .deformable_bag import BagAttention


def deformable_attention(values: Tensor, sizes_hw: list[tuple[int, int]], locations: Tensor, weights: Tensor) -> Tensor:
    """Sum of ``values`` read bilinearly at ``locations``, weighted; zero outside a level. Differentiable once.

    Args:
        values: [B,S,M,D], the levels one after another, each row by row; any float dtype. Sums are not rounded to it
            before the end.
        sizes_hw: height and width of each level.
        locations: [B,Q,M,L,P,2], x and y in [0, 1] of the level; float32, or float64 for exactness.
        weights: [B,Q,M,L,P], in the dtype of ``locations``.

    Returns:
        [B,Q,M*D] in the dtype of ``values``.
    """
    if _suits_triton(values, locations):
        from .deformable_triton import read_bags

        return read_bags(values, level_sides(tuple(sizes_hw), values.device), locations, weights)
    # One gather-and-sum over a table beats grid_sample on the CPU several times over (no temporary of every sampled
    # value), and it is deterministic; on an accelerator it sorts indices, and grid_sample is the better of the two.
    is_bag = values.device.type == "cpu" or torch.are_deterministic_algorithms_enabled()
    sample = BagAttention.apply if is_bag else _sample_by_grid
    return sample(values.to(locations.dtype), sizes_hw, locations, weights).to(values.dtype)


def _suits_triton(values: Tensor, locations: Tensor) -> bool:
    """Whether the GPU kernels, whose sums are fp32 and in no fixed order, can and may be used."""
    is_single = locations.dtype == torch.float32 and values.dtype != torch.float64
    return values.is_cuda and is_single and not torch.are_deterministic_algorithms_enabled() and has_triton()


@lru_cache(maxsize=1)
@torch.compiler.assume_constant_result
def has_triton() -> bool:
    """Whether triton is installed, with the C compiler that it starts kernels with."""
    has_compiler = "CC" in os.environ or any(shutil.which(name) for name in ("gcc", "clang", "cc"))
    return has_compiler and importlib.util.find_spec("triton") is not None


@lru_cache(maxsize=12)
@torch.inference_mode(False)
def level_sides(sizes_hw: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
    """Width and height of each level, int32 [L,2]; kept, because the copy to a device would wait for the device."""
    return torch.tensor([(w, h) for h, w in sizes_hw], dtype=torch.int32, device=device)


def _sample_by_grid(values: Tensor, sizes_hw: list[tuple[int, int]], locations: Tensor, weights: Tensor) -> Tensor:
    """One ``grid_sample`` for each level, accumulated so that only one level's samples exist at a time."""
    batch, _, heads, channels = values.shape
    queries = locations.shape[1]
    grids = (2 * locations - 1).transpose(1, 2).flatten(0, 1)  # [B,Q,M,L,P,2] -> [BM,Q,L,P,2]
    point_weights = weights.transpose(1, 2).flatten(0, 1)[:, None]  # [B,Q,M,L,P] -> [BM,1,Q,L,P]
    total = values.new_zeros(batch * heads, channels, queries)
    for level, value in enumerate(values.split([h * w for h, w in sizes_hw], dim=1)):
        plane = value.permute(0, 2, 3, 1).reshape(batch * heads, channels, *sizes_hw[level])  # [B,hw,M,D]->[BM,D,h,w]
        read = F.grid_sample(plane, grids[:, :, level], align_corners=False)  # [BM,D,Q,P]
        total = total + (read * point_weights[:, :, :, level]).sum(-1)
    return total.view(batch, heads * channels, queries).transpose(1, 2).contiguous()  # [BM,D,Q] -> [B,Q,MD]


def _softmax_of_few(logits: Tensor) -> Tensor:
    """Softmax over a short last dimension."""
    if logits.device.type != "cpu":
        return logits.softmax(-1)
    # There a dozen numbers in a row are taken one by one, but rows of a dozen planes many at once: ten times faster.
    return logits.movedim(-1, 0).contiguous().softmax(0).movedim(0, -1)


class DeformableAttention(nn.Module):
    """Predicts points and weights from each query and reads the levels there."""

    def __init__(self, channels: int, *, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(channels, heads * levels * points * 2)
        self.attention_weights = nn.Linear(channels, heads * levels * points)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        """Heads start by looking in different directions, points at growing distance, all weighted equally."""
        angle = torch.arange(self.heads) * (2 * math.pi / self.heads)
        direction = torch.stack((angle.cos(), angle.sin()), dim=-1)  # [M,2]
        direction = direction / direction.abs().amax(-1, keepdim=True)
        distance = torch.arange(1, self.points + 1).view(1, 1, -1, 1)
        offsets = direction[:, None, None] * distance.expand(-1, self.levels, -1, -1)  # [M,L,P,2]
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.flatten())
        for constant in (
            self.sampling_offsets.weight,
            self.attention_weights.weight,
            self.attention_weights.bias,
        ):
            nn.init.zeros_(constant)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(
        self, queries: Tensor, tokens: Tensor, *, references: Tensor, sizes_hw: list[tuple[int, int]]
    ) -> Tensor:
        """Read ``tokens`` [B,S,C] for ``queries`` [B,Q,C] around ``references`` [Q,2] (x, y in [0, 1])."""
        grid = (self.heads, self.levels, self.points)
        # Positions and sums stay in fp32 under autocast: half a pixel is more than bf16 can tell on a long side.
        offsets = self.sampling_offsets(queries).float()  # [B,Q,MLP2]
        sides_wh = level_sides(tuple(sizes_hw), queries.device)
        offsets = offsets.div_(sides_wh[:, None].expand(*grid, 2).flatten())  # in place: the largest tensor here
        locations = offsets.unflatten(-1, (-1, 2)).add_(references[:, None]).unflatten(2, grid)  # [B,Q,M,L,P,2]
        logits = self.attention_weights(queries).float().unflatten(-1, (self.heads, -1))  # [B,Q,C'] -> [B,Q,M,LP]
        weights = _softmax_of_few(logits).unflatten(-1, grid[1:])  # [B,Q,M,LP] -> [B,Q,M,L,P]
        values = self.value_proj(tokens).unflatten(-1, (self.heads, -1))  # [B,S,C] -> [B,S,M,D]
        return self.output_proj(deformable_attention(values, sizes_hw, locations, weights))
