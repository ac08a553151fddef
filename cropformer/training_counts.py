"""What a training step is made of: the entities that its losses are divided by, and what its data lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from .losses import Normalisers, entity_counts
from .training_views import TrainingBatch


@dataclass(frozen=True)
class StepCounts:
    """Sums over the groups of a step.

    Attributes:
        groups: groups.
        entities_per_view: entities of all views, each view counted alone.
        entities: entities of all images.
        entities_lost: entities that have pixels in their image but in no view.
        images_without_entities: images that have none to learn from.
        entities_beyond_queries: entities for which the model has no query.
    """

    groups: int
    entities_per_view: int
    entities: int
    entities_lost: int
    images_without_entities: int
    entities_beyond_queries: int

    @classmethod
    def of(cls, groups: Sequence[TrainingBatch], *, num_queries: int) -> StepCounts:
        """The counts of the groups of one process."""
        per_group = [entity_counts(group.targets) for group in groups]
        per_image = [len(target.labels) for group in groups for target in group.targets]
        return cls(
            groups=len(groups),
            entities_per_view=sum(count for count, _ in per_group),
            entities=sum(count for _, count in per_group),
            entities_lost=sum(group.lost for group in groups),
            images_without_entities=per_image.count(0),
            entities_beyond_queries=sum(max(0, count - num_queries) for count in per_image),
        )

    def summed(self, add_up: Callable[[Tensor], Tensor], *, device: torch.device) -> StepCounts:
        """The counts of all processes; ``add_up`` sums a tensor over them."""
        return StepCounts(*add_up(torch.tensor(astuple(self), device=device)).tolist())

    @property
    def normalisers(self) -> Normalisers:
        """Mean entity counts of a group, at least 1: what one GPU of the published training divides by."""
        return Normalisers(
            view=max(1.0, self.entities_per_view / self.groups),
            fused=max(1.0, self.entities / self.groups),
        )

    @property
    def health(self) -> dict[str, int]:
        """What should not go unnoticed, by name."""
        return {
            "entities_lost": self.entities_lost,
            "images_without_entities": self.images_without_entities,
            "entities_beyond_queries": self.entities_beyond_queries,
        }
