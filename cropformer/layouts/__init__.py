"""Layouts: under which names others store the tensors of our models. One file for each, told apart by the names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

from torch import Tensor

from ..errors import InputError
from . import (
    hornet,
    hugging_face,
    lightning,
    microsoft_swin,
    official,
    ours,
    timm,
    timm_swin,
    torchvision_resnet,
)
from .renaming import Translation


class Layout(Protocol):
    """What each of the files offers."""

    NAME: str

    def recognises(self, names: Collection[str]) -> bool:
        """Whether a file with these tensor names has this layout."""

    def to_ours(self, tensors: Mapping[str, Tensor]) -> Translation:
        """The tensors of such a file under our names."""


_BACKBONES: tuple[Layout, ...] = (microsoft_swin, timm_swin, torchvision_resnet, hornet)  # of our own backbones
LAYOUTS: tuple[Layout, ...] = (ours, lightning, official, hugging_face, *_BACKBONES, timm)  # the first that fits


def translate(
    tensors: Mapping[str, Tensor], path: str | Path, *, timm_backbone: bool = False
) -> tuple[str, Translation]:
    """The name of the layout of a file, and its tensors under our names.

    Args:
        tensors: all tensors of the file.
        path: where they came from, for the error message.
        timm_backbone: they are for a ``TimmBackbone``: timm's ResNet and Swin are read as such, not as ours.

    Raises:
        InputError: if no layout fits the names.
    """
    for layout in LAYOUTS:
        if not (timm_backbone and layout in _BACKBONES) and layout.recognises(tensors.keys()):
            return layout.NAME, layout.to_ours(tensors)
    known = ", ".join(layout.NAME for layout in LAYOUTS)
    raise InputError(
        f"{path} is not a CropFormer or Mask2Former checkpoint, nor one of their backbones; understood are: {known}"
    )
