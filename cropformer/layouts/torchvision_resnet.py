"""ResNet as torchvision stores it, and timm, whose names are the same."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from torch import Tensor

from .renaming import NameTable, Translation, translate_names

NAME = "torchvision ResNet"
_BLOCK, _OUR_BLOCK = "layer{+1}.{}.", "backbone.stages.{}.{}."
NAMES = NameTable(
    (
        ("conv1.weight", "backbone.stem.conv.weight"),
        ("bn1.", "backbone.stem.norm."),
        (_BLOCK + "conv{}.", _OUR_BLOCK + "conv{}.conv."),
        (_BLOCK + "bn{}.", _OUR_BLOCK + "conv{}.norm."),
        (_BLOCK + "downsample.0.", _OUR_BLOCK + "shortcut.conv."),
        (_BLOCK + "downsample.1.", _OUR_BLOCK + "shortcut.norm."),
        ("", "backbone."),
    )
)
_IGNORED = re.compile(r"fc\.|.*num_batches_tracked$")


def recognises(names: Collection[str]) -> bool:
    """Whether these are the names of such a file."""
    return {"bn1.running_mean", "layer1.0.conv1.weight"} <= set(names)


def to_ours(tensors: Mapping[str, Tensor]) -> Translation:
    """The tensors of a file under our names."""
    return translate_names(tensors, NAMES.to_ours, ignored=_IGNORED)
