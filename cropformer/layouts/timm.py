"""Any other model of the timm library, a classifier or a pyramid, under the names of ``TimmBackbone``."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from torch import Tensor

from .renaming import NameTable, Translation, translate_names

NAME = "timm"
# A pyramid numbers its stages by an underscore, because timm takes the container around them apart.
NAMES = NameTable(
    (
        ("stem.{}.", "backbone.body.stem_{}."),
        ("stages.{}.", "backbone.body.stages_{}."),
        ("layers.{}.", "backbone.body.layers_{}."),
        ("", "backbone.body."),
    )
)
_STEMS = ("stem.", "stem_", "patch_embed.", "conv_stem.", "conv1.")
_STAGES = ("stages.", "stages_", "layers.", "layers_", "blocks.", "layer1.", "s1.")
_IGNORED = re.compile(r"(head|fc|classifier|norm)\.")


def recognises(names: Collection[str]) -> bool:
    """Whether these look like the names of such a file: a stem and stages."""
    return any(name.startswith(_STEMS) for name in names) and any(name.startswith(_STAGES) for name in names)


def to_ours(tensors: Mapping[str, Tensor]) -> Translation:
    """The tensors of a file under our names."""
    return translate_names(tensors, NAMES.to_ours, ignored=_IGNORED)
