"""Swin as the timm library stores it, whole or as a pyramid: each stage but the first begins by merging patches.

It has no output norms.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from torch import Tensor

from .renaming import NameTable, Translation, translate_names

NAME = "timm Swin"
NAMES = NameTable(
    (
        ("layers.{+1}.downsample.", "backbone.layers.{}.downsample."),
        ("layers_{+1}.downsample.", "backbone.layers.{}.downsample."),
        ("layers_{}.", "backbone.layers.{}."),
        ("", "backbone."),
    )
)
_IGNORED = re.compile(r"(norm|head)\.|.*\.(attn_mask|relative_position_index)$")


def recognises(names: Collection[str]) -> bool:
    """Whether these are the names of such a file."""
    merges = {"layers.3.downsample.reduction.weight", "layers_3.downsample.reduction.weight"}
    return "patch_embed.proj.weight" in names and not merges.isdisjoint(names)


def to_ours(tensors: Mapping[str, Tensor]) -> Translation:
    """The tensors of a file under our names."""
    return translate_names(tensors, NAMES.to_ours, ignored=_IGNORED)
