"""Architecture: the numbers that define a model, read off the shapes of its tensors where no file states them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from .errors import InputError

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class SwinNumbers:
    """Swin: width of the first stage, blocks, heads and window; stochastic depth when training."""

    channels: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: int = 7
    drop_path: float = 0.3


@dataclass(frozen=True)
class ResNetNumbers:
    """ResNet: blocks, stem width, inner and outer width of the first stage."""

    depths: tuple[int, ...] = (3, 4, 6, 3)
    stem: int = 64
    width: int = 64
    channels: int = 256


@dataclass(frozen=True)
class HorNetNumbers:
    """HorNet: width of the first stage; blocks, order and spectrum height (0: local filter only) of each stage."""

    channels: int = 192
    depths: tuple[int, ...] = (2, 3, 18, 2)
    orders: tuple[int, ...] = (2, 3, 4, 5)
    spectra: tuple[int, ...] = (0, 0, 24, 12)
    drop_path: float = 0.6


@dataclass(frozen=True)
class TimmNumbers:
    """A timm model by name, see ``TimmBackbone``."""

    name: str = "tiny_vit_5m_224"
    dense_last_stage: bool = False


BackboneNumbers = SwinNumbers | ResNetNumbers | HorNetNumbers | TimmNumbers
BACKBONE_KINDS = {"swin": SwinNumbers, "resnet": ResNetNumbers, "hornet": HorNetNumbers, "timm": TimmNumbers}
AssociationKind = Literal[
    "none", "cross", "cross+self", "cross+feedforward", "cross+self+feedforward", "learned", "object_tokens"
]


@dataclass(frozen=True)
class Architecture:
    """Everything needed to build a model; plain numbers, so that a weights file can carry them as JSON.

    Attributes:
        backbone: "swin", "resnet", "hornet" or "timm".
        backbone_numbers: the fields of its dataclass.
        channels: width C of the pixel decoder and the query decoder.
        num_queries: Q.
        num_classes: K.
        encoder_layers: deformable encoder layers.
        encoder_feedforward: their hidden width.
        decoder_layers: query decoder layers.
        decoder_feedforward: their hidden width.
        association: how image-level queries become batch-level ones: the parts of the association module (Table
            9c), or what takes its place (Table 7): "learned" queries as in video Mask2Former, "object_tokens" as in
            VITA. "none" is a plain Mask2Former, which takes one view per image.
        association_feedforward: hidden width of the association module; 0 where it has no feed-forward part.
        association_layers: layers of the object token decoder; the other kinds have one.
        batch_layers: decoder layers that the batch-level queries go through; None for all, 0 to predict straight
            from the object tokens as VITA does.
        heads: attention heads, the same everywhere.
        points: points that a head reads on a level.
        fine_level: whether masks are made at stride 2 rather than 4, see ``FineLevel``.
    """

    backbone: str
    backbone_numbers: dict
    channels: int = 256
    num_queries: int = 100
    num_classes: int = 1
    encoder_layers: int = 6
    encoder_feedforward: int = 1024
    decoder_layers: int = 9
    decoder_feedforward: int = 2048
    association: AssociationKind = "cross+self+feedforward"
    association_feedforward: int = 2048
    association_layers: int = 1
    batch_layers: int | None = None
    heads: int = 8
    points: int = 4
    fine_level: bool = False

    def __post_init__(self) -> None:
        """Refuse an association that nobody can build."""
        if self.association not in get_args(AssociationKind):
            raise InputError(
                f"there is no association {self.association!r}; choose from {', '.join(get_args(AssociationKind))}"
            )

    def backbone_config(self) -> BackboneNumbers:
        """The backbone's numbers as their dataclass."""
        numbers = {k: tuple(v) if isinstance(v, list) else v for k, v in self.backbone_numbers.items()}
        return BACKBONE_KINDS[self.backbone](**numbers)


@dataclass(frozen=True)
class TestSettings:
    """How the weights are meant to be tested: input size, crops, and the score below which nothing is shown.

    ``crop_ratio`` is the side of a crop over the side of the image.
    """

    __test__ = False  # not a test case, whatever its name suggests to pytest

    short_side: int = 800
    max_side: int = 1333
    crops: int = 4
    min_score: float = 0.5
    crop_ratio: float = 0.7


def infer_architecture(shapes: Shapes, path: str | Path) -> Architecture:
    """Read the architecture off tensor shapes under our names.

    Heads and points of the transformers leave no trace in shapes; the published 8 and 4 are assumed.

    Args:
        shapes: name to shape.
        path: where the tensors came from, for the error message.

    Raises:
        InputError: if the names are not those of a CropFormer or Mask2Former with a known backbone.
    """
    try:
        backbone, numbers = infer_backbone(shapes)
        channels = shapes["pixel_decoder.mask_projection.weight"][0]
        return Architecture(
            backbone,
            numbers,
            channels=channels,
            num_queries=shapes["query_decoder.query_features.weight"][0],
            num_classes=shapes["query_decoder.class_head.weight"][0] - 1,
            encoder_layers=_count(shapes, r"pixel_decoder\.layers\.(\d+)\."),
            encoder_feedforward=shapes["pixel_decoder.layers.0.feedforward.linear1.weight"][0],
            decoder_layers=_count(shapes, r"query_decoder\.layers\.(\d+)\."),
            decoder_feedforward=shapes["query_decoder.layers.0.feedforward.linear1.weight"][0],
            fine_level="fine_level.output.weight" in shapes,
            **_infer_association(shapes),
        )
    except KeyError as error:
        raise InputError(f"{path} is not a CropFormer or Mask2Former checkpoint: it has no tensor {error}") from error


def infer_backbone(shapes: Shapes) -> tuple[str, dict]:
    """Kind and numbers of the backbone in tensors under our names.

    Raises:
        KeyError: if they do not make a backbone whose numbers can be read off.
    """
    if "backbone.patch_embed.proj.weight" in shapes:
        return "swin", _infer_swin(shapes)
    if "backbone.stem.conv.weight" in shapes:
        return "resnet", _infer_resnet(shapes)
    if "backbone.stages.0.0.gnconv.proj_in.weight" in shapes:
        return "hornet", _infer_hornet(shapes)
    raise KeyError("backbone.patch_embed.proj.weight, backbone.stem.conv1.weight or backbone.stages.0.0.gnconv.*")


def _infer_association(shapes: Shapes) -> dict:
    """Kind, width and layers of what makes batch-level queries; none of it in a plain Mask2Former."""
    if not any(name.startswith("association.") for name in shapes):
        return {"association": "none", "association_feedforward": 0}
    if "association.queries.weight" in shapes:
        layers = _count(shapes, r"association\.layers\.(\d+)\.")
        width = shapes.get("association.layers.0.feedforward.linear1.weight", (0,))[0]
        kind = "object_tokens" if layers else "learned"
        return {"association": kind, "association_feedforward": width, "association_layers": layers or 1}
    width = shapes.get("association.feedforward.linear1.weight", (0,))[0]
    parts = [
        "cross",
        "self" if "association.self_attention.in_proj_weight" in shapes else "",
        "feedforward" if width else "",
    ]
    return {"association": "+".join(filter(None, parts)), "association_feedforward": width}


def _infer_swin(shapes: Shapes) -> dict:
    stages = range(_count(shapes, r"backbone\.layers\.(\d+)\."))
    depths = [_count(shapes, rf"backbone\.layers\.{i}\.blocks\.(\d+)\.") for i in stages]
    table = "backbone.layers.{}.blocks.0.attn.relative_position_bias_table"
    return {
        "channels": shapes["backbone.patch_embed.proj.weight"][0],
        "depths": tuple(depths),
        "heads": tuple(shapes[table.format(i)][1] for i in stages),
        "window": (math.isqrt(shapes[table.format(0)][0]) + 1) // 2,
    }


def _infer_resnet(shapes: Shapes) -> dict:
    stages = range(_count(shapes, r"backbone\.stages\.(\d+)\."))
    return {
        "depths": tuple(_count(shapes, rf"backbone\.stages\.{i}\.(\d+)\.") for i in stages),
        "stem": shapes["backbone.stem.conv.weight"][0],
        "width": shapes["backbone.stages.0.0.conv1.conv.weight"][0],
        "channels": shapes["backbone.stages.0.0.conv3.conv.weight"][0],
    }


def _infer_hornet(shapes: Shapes) -> dict:
    stages = range(_count(shapes, r"backbone\.stages\.(\d+)\."))
    spectrum = "backbone.stages.{}.0.gnconv.dwconv.complex_weight"
    return {
        "channels": shapes["backbone.downsample_layers.0.0.weight"][0],
        "depths": tuple(_count(shapes, rf"backbone\.stages\.{i}\.(\d+)\.") for i in stages),
        "orders": tuple(_count(shapes, rf"backbone\.stages\.{i}\.0\.gnconv\.pws\.(\d+)\.") + 1 for i in stages),
        "spectra": tuple(shapes.get(spectrum.format(i), (0, 0))[1] for i in stages),
    }


def _count(shapes: Shapes, pattern: str) -> int:
    """How many different numbers the group of ``pattern`` takes over all names."""
    return len({match[1] for name in shapes if (match := re.match(pattern, name))})
