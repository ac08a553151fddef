"""Multi-scale deformable attention in plain PyTorch: every query reads a few points on every level.

Source: Deformable DETR (Zhu et al., 2021), equation 3, as used by Mask2Former's pixel decoder.
Shapes: B batch, S tokens of all levels, Q queries, M heads, D channels of a head, L levels, P points.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def deformable_attention(values: Tensor, sizes_hw: list[tuple[int, int]], locations: Tensor, weights: Tensor) -> Tensor:
    """Sum of ``values`` read bilinearly at ``locations``, weighted; zero outside a level. Differentiable.

    Args:
        values: [B,S,M,D], the levels one after another, each row by row.
        sizes_hw: height and width of each level.
        locations: [B,Q,M,L,P,2], x and y in [0, 1] of the level.
        weights: [B,Q,M,L,P].

    Returns:
        [B,Q,M*D].
    """
    # One gather-and-sum over a table beats grid_sample on the CPU by 2-3x (no temporary of every sampled
    # value); on an accelerator its backward pass sorts indices, and grid_sample is the better of the two.
    sample = _sample_by_bag if values.device.type == "cpu" else _sample_by_grid
    return sample(values, sizes_hw, locations, weights)


def _sample_by_bag(values: Tensor, sizes_hw: list[tuple[int, int]], locations: Tensor, weights: Tensor) -> Tensor:
    """Each (query, head) is a bag of levels x points x 4 corners of rows in the value table."""
    batch, tokens, heads, channels = values.shape
    queries = locations.shape[1]
    indices, corner_weights = _corners(sizes_hw, locations)  # [B,Q,M,L,P,4] each
    offset = torch.arange(batch, dtype=torch.int32).view(batch, 1, 1, 1, 1, 1) * tokens
    head = torch.arange(heads, dtype=torch.int32).view(1, 1, heads, 1, 1, 1)
    rows = ((indices + offset) * heads + head).flatten(0, 2).flatten(1)  # [B,Q,M,L,P,4] -> [BQM,LP4]
    bag_weights = (corner_weights * weights.unsqueeze(-1)).flatten(0, 2).flatten(1)  # likewise
    table = values.reshape(-1, channels)  # [B,S,M,D] -> [BSM,D]
    read = F.embedding_bag(rows, table, mode="sum", per_sample_weights=bag_weights)
    return read.view(batch, queries, heads * channels)  # [BQM,D] -> [B,Q,MD]


def _corners(sizes_hw: list[tuple[int, int]], locations: Tensor) -> tuple[Tensor, Tensor]:
    """Token index and bilinear weight of the four pixels around each location; weight 0 outside the level."""
    sizes_wh = torch.tensor([(w, h) for h, w in sizes_hw], dtype=torch.int32)
    starts = torch.tensor([0, *(h * w for h, w in sizes_hw[:-1])]).cumsum(0).int()
    pixel = locations * sizes_wh[:, None].to(locations.dtype) - 0.5  # [B,Q,M,L,P,2]
    corner = pixel.detach().floor()
    fraction = pixel - corner
    low = corner.int()  # 32 bits: half the traffic, and a table of 2**31 rows is far away
    high = low + 1
    limit = sizes_wh[:, None] - 1
    low_weight = (1 - fraction) * ((low >= 0) & (low <= limit))
    high_weight = fraction * ((high >= 0) & (high <= limit))
    low, high = low.clamp(min=0).minimum(limit), high.clamp(min=0).minimum(limit)
    x = torch.stack((low[..., 0], high[..., 0], low[..., 0], high[..., 0]), dim=-1)  # [B,Q,M,L,P,4]
    y = torch.stack((low[..., 1], low[..., 1], high[..., 1], high[..., 1]), dim=-1)
    (x0, y0), (x1, y1) = low_weight.unbind(-1), high_weight.unbind(-1)
    index = starts.view(-1, 1, 1) + y * sizes_wh[:, 0].view(-1, 1, 1) + x
    return index, torch.stack((x0 * y0, x1 * y0, x0 * y1, x1 * y1), dim=-1)


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
        offsets = self.sampling_offsets(queries).float().unflatten(-1, (*grid, 2))  # [B,Q,C'] -> [B,Q,M,L,P,2]
        weights = self.attention_weights(queries).float().unflatten(-1, (self.heads, -1))  # [B,Q,C'] -> [B,Q,M,LP]
        weights = weights.softmax(-1).unflatten(-1, grid[1:])  # [B,Q,M,LP] -> [B,Q,M,L,P]
        sizes_wh = torch.tensor([(w, h) for h, w in sizes_hw], device=queries.device, dtype=offsets.dtype)
        locations = references.view(1, -1, 1, 1, 1, 2) + offsets / sizes_wh[:, None]
        values = self.value_proj(tokens).float().unflatten(-1, (self.heads, -1))  # [B,S,C] -> [B,S,M,D]
        return self.output_proj(deformable_attention(values, sizes_hw, locations, weights))
