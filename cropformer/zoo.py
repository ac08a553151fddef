"""The zoo: every model as a plain function of numbers, and ``load`` for weights by name or path."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from torch import nn

from .architecture import (
    Architecture,
    BackboneNumbers,
    ResNetNumbers,
    SwinNumbers,
    TestSettings,
    TimmNumbers,
)
from .association import Association
from .checkpoint import LoadReport, load_into, read_checkpoint
from .errors import InputError
from .pixel_decoder import PixelDecoder
from .predictor import EntitySegmenter
from .query_decoder import QueryDecoder

NANO_WEIGHTS = Path(__file__).parent / "assets" / "cropformer_nano.safetensors"


def cropformer_nano(*, num_queries: int = 100) -> Architecture:
    """TinyViT-5M with a 128-channel decoder, 7 M parameters: the bundled model."""
    return Architecture(
        "timm",
        asdict(TimmNumbers("tiny_vit_5m_224", dense_last_stage=True)),
        channels=128,
        num_queries=num_queries,
        encoder_layers=3,
        encoder_feedforward=512,
        decoder_layers=5,
        decoder_feedforward=512,
        association_feedforward=512,
        heads=4,
        points=2,
    )


def cropformer_r50(*, num_queries: int = 100) -> Architecture:
    """ResNet-50, 45.5 M parameters."""
    return Architecture("resnet", asdict(ResNetNumbers()), num_queries=num_queries)


def cropformer_swin_t(*, num_queries: int = 100) -> Architecture:
    """Swin-T, 49.0 M parameters."""
    return Architecture("swin", asdict(SwinNumbers()), num_queries=num_queries)


def cropformer_swin_l(*, num_queries: int = 100) -> Architecture:
    """Swin-L with window 7, 216.8 M parameters."""
    numbers = SwinNumbers(192, depths=(2, 2, 18, 2), heads=(6, 12, 24, 48))
    return Architecture("swin", asdict(numbers), num_queries=num_queries)


ARCHITECTURES = {
    "nano": cropformer_nano,
    "r50": cropformer_r50,
    "swin_t": cropformer_swin_t,
    "swin_l": cropformer_swin_l,
}


def build_model(name: str, *, num_queries: int = 100) -> EntitySegmenter:
    """A model with random weights.

    Args:
        name: "nano", "r50", "swin_t" or "swin_l".
        num_queries: Q.

    Raises:
        InputError: if no model has that name.
    """
    return build(named_architecture(name, num_queries=num_queries))


def named_architecture(name: str, *, num_queries: int = 100) -> Architecture:
    """The numbers of a model by its name; raises InputError as ``build_model`` does."""
    if name not in ARCHITECTURES:
        raise InputError(f"there is no model {name!r}; the models are {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name](num_queries=num_queries)


def build(architecture: Architecture, *, settings: TestSettings | None = None) -> EntitySegmenter:
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
    association = None
    if a.association_feedforward:
        association = Association(a.channels, heads=a.heads, feedforward=a.association_feedforward)
    parts = (backbone, pixel_decoder, query_decoder, association)
    return EntitySegmenter(*parts, architecture=a, settings=settings or TestSettings())


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
    from .backbones.timm import TimmBackbone

    return TimmBackbone(numbers.name, dense_last_stage=numbers.dense_last_stage)


def load(weights: str | Path = "nano") -> EntitySegmenter:
    """A trained model in evaluation mode.

    Args:
        weights: "nano" for the bundled weights, or a path: our ``.safetensors``, or a published checkpoint.

    Raises:
        InputError: if the file is missing, damaged, of another kind, or does not fill the model.
    """
    return load_with_report(weights)[0]


def load_with_report(weights: str | Path) -> tuple[EntitySegmenter, LoadReport]:
    """``load``, with the account of what was loaded and ignored."""
    path = NANO_WEIGHTS if str(weights) == "nano" else Path(weights)
    checkpoint = read_checkpoint(path)
    model = build(checkpoint.architecture, settings=checkpoint.settings)
    report = load_into(model, checkpoint)
    if report.missing or report.unexpected:
        names = ", ".join((report.missing + report.unexpected)[:3])
        raise InputError(f"{path} does not fit the model its shapes describe: {names} missing or unexpected")
    return model.eval(), report
