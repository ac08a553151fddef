"""Swin as Microsoft publishes it, trained to classify ImageNet; detectron2's conversions of it have the same names.

It has no output norms.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from torch import Tensor

from .renaming import Translation, translate_names

NAME = "Microsoft Swin"
_IGNORED = re.compile(r"(norm|head)\.|.*\.(attn_mask|relative_position_index|relative_coords_table)$")


def recognises(names: Collection[str]) -> bool:
    """Whether these are the names of such a file: each stage but the last ends by merging patches."""
    return {"patch_embed.proj.weight", "layers.0.downsample.reduction.weight"} <= set(names)


def to_ours(tensors: Mapping[str, Tensor]) -> Translation:
    """The tensors of a file under our names."""
    return translate_names(tensors, lambda name: f"backbone.{name}", ignored=_IGNORED)
