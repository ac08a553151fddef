"""Bipartite matching between queries and entities, one for the image level and the batch level alike.

Source: Mask2Former (Cheng et al., 2022), section 3.3. Shapes: Q queries, N entities, P points, T views.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor


@dataclass(frozen=True)
class CostWeights:
    """What a wrong class, a wrong pixel and a wrong overlap cost; also the weights of the losses."""

    classes: float = 2.0
    mask: float = 5.0
    dice: float = 5.0


@torch.no_grad()
def matching_cost(
    class_logits: Tensor, point_logits: Tensor, labels: Tensor, point_targets: Tensor, *, weights: CostWeights
) -> Tensor:
    """Cost of giving each query to each entity, float32 [Q,N].

    Args:
        class_logits: [Q,K+1].
        point_logits: [Q,P'], the masks of the queries at the points of all views, P' = T*P.
        labels: int64 [N].
        point_targets: [N,P'], the masks of the entities at the same points.
        weights: what each term counts.
    """
    point_logits, point_targets = point_logits.float(), point_targets.float()
    class_cost = -class_logits.float().softmax(-1)[:, labels]
    return (
        weights.mask * _pairwise_cross_entropy(point_logits, point_targets)
        + weights.classes * class_cost
        + weights.dice * _pairwise_dice(point_logits, point_targets)
    )


def _pairwise_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy, [Q,P'] and [N,P'] to [Q,N]; softplus(-x) t + softplus(x) (1 - t), expanded."""
    on, off = F.softplus(-logits), F.softplus(logits)
    return (on @ targets.T + off @ (1 - targets).T) / logits.shape[1]


def _pairwise_dice(logits: Tensor, targets: Tensor) -> Tensor:
    """One minus the smoothed dice overlap, [Q,P'] and [N,P'] to [Q,N]."""
    probs = logits.sigmoid()
    overlap = 2 * probs @ targets.T
    total = probs.sum(-1)[:, None] + targets.sum(-1)[None]
    return 1 - (overlap + 1) / (total + 1)


def match(cost: Tensor) -> tuple[Tensor, Tensor]:
    """The cheapest one-to-one assignment of ``cost`` [Q,N]: query indices (ascending) and their entities, int64."""
    rows, columns = linear_sum_assignment(cost.cpu().numpy())
    return torch.as_tensor(rows, device=cost.device), torch.as_tensor(columns, device=cost.device)
