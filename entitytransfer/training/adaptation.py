"""Adaptation: how much of a trained model a training changes, down to what one small GPU has memory for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from cropformer import CLASS_HEAD, EntitySegmenter, InputError, add_low_rank

PARTS = ("backbone", "pixel_decoder", "query_decoder", "association", "fine_level")


@dataclass(frozen=True)
class Adaptation:
    """What of the weights stays as it is. The class head, and what has no weights yet, is trained in any case.

    Attributes:
        frozen: parts of the model that do not change at all, of ``PARTS``. A backbone is frozen by
            ``Optimisation.backbone_lr_factor`` = 0 too.
        low_rank: rank of the updates that take the place of changes to the matrices of all other parts, see
            ``cropformer.add_low_rank``; None changes these parts as a whole.

    Raises:
        InputError: if there is no such part.
    """

    frozen: tuple[str, ...] = ()
    low_rank: int | None = None

    def __post_init__(self) -> None:
        """Refuse parts that no model has."""
        unknown = [part for part in self.frozen if part not in PARTS]
        if unknown:
            raise InputError(f"a model has no part {unknown[0]!r} to freeze; choose from {', '.join(PARTS)}")

    def apply(self, model: EntitySegmenter, *, fresh: Collection[str]) -> None:
        """Freeze and update the model accordingly; ``fresh`` names the parameters that start from random numbers."""
        for name, parameter in model.named_parameters():
            if name.partition(".")[0] in self.frozen and name not in {*fresh, *CLASS_HEAD}:
                parameter.requires_grad_(False)
        if self.low_rank is not None:
            add_low_rank(model, rank=self.low_rank, fresh=fresh)
