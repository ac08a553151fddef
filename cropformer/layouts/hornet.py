"""HorNet as its authors publish it, trained to classify ImageNet. It has no output norms."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from torch import Tensor

from .renaming import Translation, translate_names

NAME = "HorNet"
_IGNORED = re.compile(r"(norm|head)\.")


def recognises(names: Collection[str]) -> bool:
    """Whether these are the names of such a file."""
    return {"downsample_layers.0.0.weight", "stages.0.0.gnconv.proj_in.weight"} <= set(names)


def to_ours(tensors: Mapping[str, Tensor]) -> Translation:
    """The tensors of a file under our names."""
    return translate_names(tensors, lambda name: f"backbone.{name}", ignored=_IGNORED)
