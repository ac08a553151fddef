"""Checkpoints of ``EntityTraining``: our names after ``model.``; numbers and settings stand beside the tensors."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from ..low_rank import merge_low_rank
from .renaming import Translation

NAME = "Lightning checkpoint of ours"


def recognises(names: Collection[str]) -> bool:
    """Whether these are the names of such a file."""
    return any(name.startswith("model.query_decoder.") for name in names)


def to_ours(tensors: Mapping[str, Tensor]) -> Translation:
    """The tensors of a file under our names, with low-rank updates merged into their matrices."""
    return Translation(merge_low_rank({name.removeprefix("model."): tensor for name, tensor in tensors.items()}))
