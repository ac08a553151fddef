"""Our own names: a whole model, or one of its backbones alone, with or without ``backbone.``."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from .renaming import Translation

NAME = "ours"
# What no other layout calls like this, of a Swin or HorNet, a ResNet, and a timm model.
_BACKBONES = ("norms.0.", "stages.0.0.conv1.conv.", "body.")


def recognises(names: Collection[str]) -> bool:
    """Whether these are the names of such a file."""
    whole = any(name.startswith("query_decoder.") for name in names)
    return whole or any(name.removeprefix("backbone.").startswith(_BACKBONES) for name in names)


def to_ours(tensors: Mapping[str, Tensor]) -> Translation:
    """The tensors of a file, those of a lone backbone after ``backbone.``."""
    alone = any(name.startswith(_BACKBONES) for name in tensors)
    return Translation({f"backbone.{name}" if alone else name: tensor for name, tensor in tensors.items()})
