"""Bipartite matching between queries and entities, one for the image level and the batch level alike.

Source: Mask2Former (Cheng et al., 2022), section 3.3.
Shapes: S prediction sets, B images, Q queries, N entities, P' = T*P points of all views, M matched pairs of a set.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
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
    """Cost of giving each query to each entity, float32 [...,Q,N].

    Args:
        class_logits: [...,Q,K+1].
        point_logits: [...,Q,P'], the masks of the queries at the points of all views.
        labels: int64 [...,N].
        point_targets: [...,N,P'], the masks of the entities at the same points.
        weights: what each term counts.
    """
    point_logits, point_targets = point_logits.float(), point_targets.float()
    labels = labels[..., None, :].expand(*class_logits.shape[:-1], -1)  # [...,N] -> [...,Q,N]
    class_cost = -class_logits.float().softmax(-1).gather(-1, labels)
    return (
        weights.mask * _pairwise_cross_entropy(point_logits, point_targets)
        + weights.classes * class_cost
        + weights.dice * _pairwise_dice(point_logits, point_targets)
    )


def _pairwise_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy, [...,Q,P'] and [...,N,P'] to [...,Q,N]; softplus(x) - x t, summed."""
    off = F.softplus(logits).sum(-1, keepdim=True)
    return (off - logits @ targets.mT) / logits.shape[-1]


def _pairwise_dice(logits: Tensor, targets: Tensor) -> Tensor:
    """One minus the smoothed dice overlap, [...,Q,P'] and [...,N,P'] to [...,Q,N]."""
    probs = logits.sigmoid()
    overlap = 2 * probs @ targets.mT
    total = probs.sum(-1, keepdim=True) + targets.sum(-1)[..., None, :]
    return 1 - (overlap + 1) / (total + 1)


def match_sets(cost: Tensor, *, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The cheapest one-to-one assignments of all prediction sets and images, after one transfer to the CPU.

    Args:
        cost: [S,B,Q,N]; what is not finite comes from a step that is lost anyway, and is taken for any number.
        counts: entities of each image, B numbers up to N; what stands behind them is not looked at.

    Returns:
        Queries (ascending in each image) and their entities, int64 [S,M], image by image, on the device of ``cost``.
    """
    sets = cost.nan_to_num().cpu().numpy()
    pairs = [[linear_sum_assignment(image[:, :n]) for image, n in zip(images, counts)] for images in sets]
    joined = np.array([np.concatenate(images, axis=1) for images in pairs])  # [S,2,M]
    return torch.from_numpy(joined).to(cost.device).unbind(1)


def match(cost: Tensor) -> tuple[Tensor, Tensor]:
    """The cheapest one-to-one assignment of ``cost`` [Q,N]: query indices (ascending) and their entities, int64."""
    queries, entities = match_sets(cost[None, None], counts=[cost.shape[1]])
    return queries[0], entities[0]
