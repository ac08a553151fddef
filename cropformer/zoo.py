"""The zoo: every model of the paper as a plain function of numbers."""

from __future__ import annotations

from dataclasses import asdict

from .architecture import Architecture, BackboneNumbers, HorNetNumbers, ResNetNumbers, SwinNumbers, TimmNumbers
from .assembly import build
from .association import with_association
from .errors import InputError
from .predictor import EntitySegmenter


def cropformer_nano(*, num_queries: int = 100, num_classes: int = 1) -> Architecture:
    """TinyViT-5M with a 128-channel decoder, 7.5 M parameters: the bundled model."""
    return Architecture(
        "timm",
        asdict(TimmNumbers("tiny_vit_5m_224", dense_last_stage=True)),
        channels=128,
        num_queries=num_queries,
        num_classes=num_classes,
        encoder_layers=3,
        encoder_feedforward=512,
        decoder_layers=5,
        decoder_feedforward=512,
        association_feedforward=512,
        heads=4,
        points=2,
    )


def cropformer_r50(*, num_queries: int = 100, num_classes: int = 1) -> Architecture:
    """ResNet-50, 45.5 M parameters."""
    return _published("resnet", ResNetNumbers(), num_queries, num_classes)


def cropformer_swin_t(*, num_queries: int = 100, num_classes: int = 1) -> Architecture:
    """Swin-T, 49.0 M parameters."""
    return _published("swin", SwinNumbers(), num_queries, num_classes)


def cropformer_swin_s(*, num_queries: int = 100, num_classes: int = 1) -> Architecture:
    """Swin-S, 70.3 M parameters."""
    return _published("swin", SwinNumbers(depths=(2, 2, 18, 2)), num_queries, num_classes)


def cropformer_swin_b(*, num_queries: int = 100, num_classes: int = 1) -> Architecture:
    """Swin-B with window 7, 108.3 M parameters."""
    return _published("swin", SwinNumbers(128, depths=(2, 2, 18, 2), heads=(4, 8, 16, 32)), num_queries, num_classes)


def cropformer_swin_b_w12(*, num_queries: int = 100, num_classes: int = 1) -> Architecture:
    """Swin-B with window 12, 108.5 M parameters."""
    return _published(
        "swin", SwinNumbers(128, depths=(2, 2, 18, 2), heads=(4, 8, 16, 32), window=12), num_queries, num_classes
    )


def cropformer_swin_l(*, num_queries: int = 100, num_classes: int = 1) -> Architecture:
    """Swin-L with window 7, 216.8 M parameters."""
    return _published("swin", SwinNumbers(192, depths=(2, 2, 18, 2), heads=(6, 12, 24, 48)), num_queries, num_classes)


def cropformer_swin_l_w12(*, num_queries: int = 100, num_classes: int = 1) -> Architecture:
    """Swin-L with window 12, 217.0 M parameters."""
    return _published(
        "swin", SwinNumbers(192, depths=(2, 2, 18, 2), heads=(6, 12, 24, 48), window=12), num_queries, num_classes
    )


def cropformer_hornet_l(*, num_queries: int = 200, num_classes: int = 1) -> Architecture:
    """HorNet-L with global filters, 222.2 M parameters; published with 200 queries."""
    return _published("hornet", HorNetNumbers(), num_queries, num_classes)


def _published(backbone: str, numbers: BackboneNumbers, num_queries: int, num_classes: int) -> Architecture:
    return Architecture(backbone, asdict(numbers), num_queries=num_queries, num_classes=num_classes)


def mask2former_r50(*, num_queries: int = 100, num_classes: int = 1) -> Architecture:
    """Plain Mask2Former on ResNet-50, 43.9 M parameters."""
    return with_association(cropformer_r50(num_queries=num_queries, num_classes=num_classes), "none")


def mask2former_swin_t(*, num_queries: int = 100, num_classes: int = 1) -> Architecture:
    """Plain Mask2Former on Swin-T, 47.4 M parameters."""
    return with_association(cropformer_swin_t(num_queries=num_queries, num_classes=num_classes), "none")


def mask2former_swin_s(*, num_queries: int = 100, num_classes: int = 1) -> Architecture:
    """Plain Mask2Former on Swin-S, 68.7 M parameters."""
    return with_association(cropformer_swin_s(num_queries=num_queries, num_classes=num_classes), "none")


def mask2former_swin_b(*, num_queries: int = 100, num_classes: int = 1) -> Architecture:
    """Plain Mask2Former on Swin-B with window 7, 106.7 M parameters."""
    return with_association(cropformer_swin_b(num_queries=num_queries, num_classes=num_classes), "none")


def mask2former_swin_b_w12(*, num_queries: int = 100, num_classes: int = 1) -> Architecture:
    """Plain Mask2Former on Swin-B with window 12, 106.9 M parameters."""
    return with_association(cropformer_swin_b_w12(num_queries=num_queries, num_classes=num_classes), "none")


def mask2former_swin_l(*, num_queries: int = 100, num_classes: int = 1) -> Architecture:
    """Plain Mask2Former on Swin-L with window 7, 215.2 M parameters."""
    return with_association(cropformer_swin_l(num_queries=num_queries, num_classes=num_classes), "none")


def mask2former_swin_l_w12(*, num_queries: int = 100, num_classes: int = 1) -> Architecture:
    """Plain Mask2Former on Swin-L with window 12, 215.5 M parameters."""
    return with_association(cropformer_swin_l_w12(num_queries=num_queries, num_classes=num_classes), "none")


def mask2former_hornet_l(*, num_queries: int = 200, num_classes: int = 1) -> Architecture:
    """Plain Mask2Former on HorNet-L, 220.6 M parameters, with 200 queries."""
    return with_association(cropformer_hornet_l(num_queries=num_queries, num_classes=num_classes), "none")


_MODELS = (
    cropformer_nano,
    cropformer_r50,
    cropformer_swin_t,
    cropformer_swin_s,
    cropformer_swin_b,
    cropformer_swin_b_w12,
    cropformer_swin_l,
    cropformer_swin_l_w12,
    cropformer_hornet_l,
    mask2former_r50,
    mask2former_swin_t,
    mask2former_swin_s,
    mask2former_swin_b,
    mask2former_swin_b_w12,
    mask2former_swin_l,
    mask2former_swin_l_w12,
    mask2former_hornet_l,
)
ARCHITECTURES = {model.__name__.removeprefix("cropformer_"): model for model in _MODELS}


def named_architecture(name: str, *, num_queries: int | None = None, num_classes: int = 1) -> Architecture:
    """The numbers of a model.

    Args:
        name: as its function, such as "cropformer_swin_t" or "mask2former_r50"; "cropformer_" may be left out.
        num_queries: Q; None for the published number.
        num_classes: K.

    Raises:
        InputError: if no model has that name.
    """
    model = ARCHITECTURES.get(name.removeprefix("cropformer_"))
    if model is None:
        raise InputError(f"there is no model {name!r}; the models are {', '.join(ARCHITECTURES)}")
    counts = {} if num_queries is None else {"num_queries": num_queries}
    return model(num_classes=num_classes, **counts)


def build_model(name: str, *, num_queries: int | None = None, num_classes: int = 1) -> EntitySegmenter:
    """A model with random weights; arguments and errors as in ``named_architecture``."""
    return build(named_architecture(name, num_queries=num_queries, num_classes=num_classes))
