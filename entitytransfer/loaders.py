"""Loaders: the sets that a run names, opened, mixed, cut and batched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from cropformer import CropType, InputError, Optimisation, TestSettings
from entitytransfer.adapter import Sample
from entitytransfer.datasets import coco
from entitytransfer.feature_cache import CachedSamples
from entitytransfer.sampling import OrientationBatches
from entitytransfer.training_data import TrainingSamples, ValidationSamples, collate


@dataclass(frozen=True)
class SetSource:
    """One set to train on: its folder, its share of what is drawn, and how ``datasets.coco.read`` opens it."""

    root: str
    weight: float = 1.0
    annotations: str | None = None
    panoptic: str | None = None
    images: str = "images"
    exhaustive: bool | None = None


@dataclass(frozen=True)
class DataOptions:
    """Where the samples come from and how they are cut.

    Attributes:
        sets: the training sets.
        validation: folder of the validation set; None trains without validation.
        short_sides: lengths to choose the short side from.
        max_side: bound on the long side.
        crops: crops in training; 0 for a plain Mask2Former.
        crop_type: where they lie: "random", "fixed4" (corners) or "fixed8" (Table 9b).
        crop_ratio: side of a crop over the side of the image (Table 9a).
        batch_size: images in a batch.
        workers: loader processes.
        feature_cache: folder for the features of a frozen backbone; None computes them at every step.
    """

    sets: tuple[SetSource, ...]
    validation: str | None = None
    short_sides: tuple[int, ...] = (640, 672, 704, 736, 768, 800)
    max_side: int = 1333
    crops: int = 1
    crop_type: CropType = "fixed4"
    crop_ratio: float = 0.7
    batch_size: int = 16
    workers: int = 2
    feature_cache: str | None = None


def training_loader(
    data: DataOptions, model: torch.nn.Module, optimisation: Optimisation, *, seed: int, first_step: int
) -> DataLoader:
    sets = [_read_set(source) for source in data.sets]
    samples = [sample for members in sets for sample in members]
    batches = OrientationBatches(
        samples,
        set_sizes=[len(members) for members in sets],
        set_weights=[source.weight for source in data.sets],
        batch_size=data.batch_size,
        steps=optimisation.max_steps,
        first_step=first_step,
        seed=seed,
    )
    sides = {"short_sides": data.short_sides, "max_side": data.max_side}
    crops = {"crops": data.crops, "crop_type": data.crop_type, "crop_ratio": data.crop_ratio}
    items = TrainingSamples(samples, **sides, **crops)
    if data.feature_cache is None:
        return DataLoader(
            items,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=data.workers,
            persistent_workers=data.workers > 0,
        )
    if optimisation.backbone_lr_factor != 0 or len(data.short_sides) != 1 or data.crop_type == "random":
        raise InputError(
            "data.feature_cache keeps the features of a frozen backbone at one size in fixed places; set "
            "optimisation.backbone_lr_factor=0, one value in data.short_sides, and data.crop_type to fixed4 or fixed8, "
            "or leave the cache out"
        )
    cached = CachedSamples(
        samples,
        model.backbone,
        folder=Path(data.feature_cache),
        short_side=data.short_sides[0],
        max_side=data.max_side,
        **crops,
    )
    return DataLoader(cached, sampler=batches, batch_size=None)


def _read_set(source: SetSource) -> Sequence[Sample]:
    samples = coco.read(
        source.root,
        annotations=source.annotations,
        panoptic=source.panoptic,
        images=source.images,
        exhaustive=source.exhaustive,
    )
    if not samples:
        raise InputError(f"{source.root} holds no annotated image; check its annotation file")
    return samples


def validation_loader(data: DataOptions, settings: TestSettings) -> DataLoader | None:
    if data.validation is None:
        return None
    samples = ValidationSamples(
        coco.read(data.validation),
        short_side=settings.short_side,
        max_side=settings.max_side,
        crops=settings.crops,
        crop_ratio=settings.crop_ratio,
    )
    return DataLoader(samples, batch_size=None)
