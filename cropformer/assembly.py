"""Assembly: an architecture's numbers to a model with random weights."""

from __future__ import annotations

from typing import Any

from torch import nn

from .architecture import Architecture, BackboneNumbers, HorNetNumbers, ResNetNumbers, SwinNumbers, TestSettings
from .association import Association
from .fine_level import FineLevel
from .learned_queries import LearnedQueries
from .object_tokens import ObjectTokenDecoder
from .pixel_decoder import PixelDecoder
from .predictor import EntitySegmenter
from .query_decoder import QueryDecoder


def build(
    architecture: Architecture,
    *,
    settings: TestSettings | None = None,
    classes: dict[str, list[Any]] | None = None,
) -> EntitySegmenter:
    """A model with random weights from its numbers; ``settings`` default to the published test size."""
    a = architecture
    backbone = build_backbone(a.backbone_config())
    pixel_decoder = PixelDecoder(
        backbone.channels,
        channels=a.channels,
        layers=a.encoder_layers,
        heads=a.heads,
        points=a.points,
        feedforward=a.encoder_feedforward,
    )
    query_decoder = QueryDecoder(
        a.channels,
        num_queries=a.num_queries,
        num_classes=a.num_classes,
        layers=a.decoder_layers,
        heads=a.heads,
        feedforward=a.decoder_feedforward,
    )
    parts = (backbone, pixel_decoder, query_decoder, build_association(a))
    fine_level = FineLevel(a.channels) if a.fine_level else None
    settings = settings or TestSettings(crops=_default_crops(a))
    return EntitySegmenter(*parts, architecture=a, settings=settings, classes=classes, fine_level=fine_level)


def _default_crops(architecture: Architecture) -> int:
    return 0 if architecture.association == "none" else 4


def build_association(architecture: Architecture) -> nn.Module | None:
    """What turns image-level queries into batch-level ones; None for a plain Mask2Former."""
    a = architecture
    if a.association == "none":
        return None
    if a.association == "learned":
        return LearnedQueries(a.channels, num_queries=a.num_queries)
    if a.association == "object_tokens":
        return ObjectTokenDecoder(
            a.channels,
            num_queries=a.num_queries,
            layers=a.association_layers,
            heads=a.heads,
            feedforward=a.association_feedforward,
        )
    return Association(
        a.channels,
        heads=a.heads,
        feedforward=a.association_feedforward,
        use_self_attention="self" in a.association,
        use_feedforward="feedforward" in a.association,
    )


def build_backbone(numbers: BackboneNumbers) -> nn.Module:
    """The backbone that its numbers describe, randomly initialised.

    Each one is imported where it is built: torchvision and timm take seconds to load.
    """
    if isinstance(numbers, SwinNumbers):
        from .backbones.swin import Swin

        return Swin(
            numbers.channels,
            depths=numbers.depths,
            heads=numbers.heads,
            window=numbers.window,
            drop_path=numbers.drop_path,
        )
    if isinstance(numbers, ResNetNumbers):
        from .backbones.resnet import ResNet

        return ResNet(numbers.depths, stem=numbers.stem, width=numbers.width, channels=numbers.channels)
    if isinstance(numbers, HorNetNumbers):
        from .backbones.hornet import HorNet

        return HorNet(
            numbers.channels,
            depths=numbers.depths,
            orders=numbers.orders,
            spectra=numbers.spectra,
            drop_path=numbers.drop_path,
        )
    from .backbones.timm import TimmBackbone

    return TimmBackbone(numbers.name, dense_last_stage=numbers.dense_last_stage)
