"""The targets of a batch as one: labels padded to the busiest image, masks one after another.

Shapes: B images, T views, N entities of the image that has most, E entities of all images, P points, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .point_sampling import sample_masks
from .views import Target


@dataclass(frozen=True)
class JointTargets:
    """The entities of B images over their T views.

    Attributes:
        counts: entities of each image, B numbers.
        labels: int64 [B,N], 0 behind the entities of an image.
        masks: bool [E,T,H,W], image by image.
        images: int64 [E], the image of each entity.
        slots: int64 [E], the number of each entity within its image.
        exhaustive: bool [B], see ``Target``.
        all_exhaustive: whether all of them are; known without asking an accelerator.
    """

    counts: list[int]
    labels: Tensor
    masks: Tensor
    images: Tensor
    slots: Tensor
    exhaustive: Tensor
    all_exhaustive: bool

    @classmethod
    def join(cls, targets: Sequence[Target]) -> JointTargets:
        """One of B targets with as many views on canvases of one size."""
        counts = [len(target.labels) for target in targets]
        known = [target.exhaustive for target in targets]
        device = targets[0].labels.device
        places = [(image, slot) for image, count in enumerate(counts) for slot in range(count)]
        images, slots = torch.tensor(places, dtype=torch.long).view(-1, 2).T.to(device)
        labels = torch.zeros(len(targets), max(counts), dtype=torch.long, device=device)
        labels[images, slots] = torch.cat([target.labels for target in targets])
        masks = torch.cat([target.masks for target in targets])
        return cls(counts, labels, masks, images, slots, torch.tensor(known, device=device), all(known))

    def at(self, points_xy: Tensor) -> Tensor:
        """The masks at ``points_xy`` [B,P,2] of every view; float [B,N,T*P], first all points of view 0."""
        views = self.masks.shape[1]
        all_planes = torch.arange(len(self.masks) * views, device=self.masks.device)
        own_points = points_xy[self.images].repeat_interleave(views, dim=0)  # [E,P,2] -> [ET,P,2]
        sampled = sample_masks(self.masks, own_points, chosen=all_planes)
        padded = sampled.new_zeros(*self.labels.shape, views * points_xy.shape[1])
        padded[self.images, self.slots] = sampled.view(len(self.masks), padded.shape[2])  # [ET,P] -> [E,TP]
        return padded

    def planes(self, images: Tensor, entities: Tensor) -> Tensor:
        """Places in ``masks`` [ET,H,W] of all views of entities [...,M] of ``images`` [M]; int64 [...,M*T]."""
        views = self.masks.shape[1]
        counts = torch.tensor(self.counts, device=images.device)
        rows = (counts.cumsum(0) - counts)[images] + entities
        return (rows[..., None] * views + torch.arange(views, device=images.device)).flatten(-2)  # [...,M,T]
