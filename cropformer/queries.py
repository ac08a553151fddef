"""Queries: what the model says about each entity, with its masks promised rather than stored.

Shapes: B images, T views, Q queries, K classes, C channels, h and w their grid: stride 4, or 2 with a fine level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Queries:
    """Q entity hypotheses for each of B images, shared by its T views.

    Attributes:
        embeddings: float [B,Q,C], decoder state; entities are linked across windows of a clip by it.
        class_logits: float [B,Q,K+1], the last class is "no object".
        mask_embeddings: float [B,Q,C].
        mask_features: float [B,T,C,h,w], shared by all queries.
        intermediate: the prediction sets before this one, first to last, for deep supervision.
        per_view: the image-level queries, with B*T in place of B and T = 1; None when T is 1.
    """

    embeddings: Tensor
    class_logits: Tensor
    mask_embeddings: Tensor
    mask_features: Tensor
    intermediate: tuple[Queries, ...] = ()
    per_view: Queries | None = None

    def class_scores(self) -> Tensor:
        """Probability of the best real class, float [B,Q]."""
        return self.class_logits.softmax(-1)[..., :-1].amax(-1)

    def labels(self) -> Tensor:
        """The best real class, int64 [B,Q]."""
        return self.class_logits[..., :-1].argmax(-1)

    def mask_logits(self, *, size_hw: tuple[int, int] | None = None) -> Tensor:
        """Masks of all queries in all views, float [B,Q,T,h,w]; ``size_hw`` resizes the features first.

        A bilinear resize is linear, so resizing C feature planes gives the same masks as resizing Q of them.
        """
        features = self.mask_features if size_hw is None else resize_features(self.mask_features, size_hw)
        return torch.einsum("bqc,btchw->bqthw", self.mask_embeddings, features)


def join_queries(parts: Sequence[Queries], mask_features: Tensor) -> Queries:
    """Queries of consecutive images as one batch; ``mask_features`` [B,T,C,h,w] are those of all of them."""
    names = ("embeddings", "class_logits", "mask_embeddings")
    joined = Queries(*(torch.cat([getattr(part, name) for part in parts]) for name in names), mask_features)
    steps = zip(*(part.intermediate for part in parts))
    if parts[0].per_view is not None:
        singles = mask_features.flatten(0, 1)[:, None]  # [B,T,C,h,w] -> [BT,1,C,h,w]
        joined = replace(joined, per_view=join_queries([part.per_view for part in parts], singles))
    return replace(joined, intermediate=tuple(join_queries(step, mask_features) for step in steps))


def resize_features(features: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Bilinear resize of the last two axes, [B,T,C,h,w] to [B,T,C,*size_hw]."""
    planes = features.flatten(0, 1)  # [B,T,C,h,w] -> [BT,C,h,w]
    for axis, length in zip((2, 3), size_hw):
        planes = _lines_that_count(planes, axis, length)
    planes = F.interpolate(planes, size=size_hw, mode="bilinear", align_corners=False)
    return planes.unflatten(0, features.shape[:2])  # [BT,C,h,w] -> [B,T,C,h,w]


def _lines_that_count(planes: Tensor, axis: int, length: int) -> Tensor:
    """Planes without the lines along ``axis`` that a bilinear resize to ``length`` lines gives no weight.

    Where blocks of s lines become one, s even, it is the mean of the two in their middle; to leave out the others first
    takes a fraction of the time.
    """
    block, rest = divmod(planes.shape[axis], length)
    if rest or block < 4 or block % 2:
        return planes
    blocks = planes.unflatten(axis, (length, block)).narrow(axis + 1, block // 2 - 1, 2)
    return blocks.flatten(axis, axis + 1)  # [...,length,2,...] -> [...,2*length,...]
