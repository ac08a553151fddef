"""Loaders: the sets that a run names, opened, drawn from, cut and batched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from cropformer import (
    CropType,
    InputError,
    TestSettings,
    draw_scale_jitter,
    draw_semantic_crop,
    draw_training_crop,
)
from entitytransfer.adapter import Sample, SampleSet, labelled_masks
from entitytransfer.clip_sample import holds_clips, kind_of
from entitytransfer.set_source import SetSource
from entitytransfer.training.augmentations import Augmentation
from entitytransfer.training.clip_data import BuildClipTarget, ClipFrames, TrainingClips
from entitytransfer.training.data import BuildTarget, TrainingSamples, ValidationSamples
from entitytransfer.training.feature_cache import CachedSamples
from entitytransfer.training.sampling import BatchSize, EpochOrder, Order, Steps, WeightedOrder

AugmentationName = Literal["crops", "scale_jitter", "semantic_crop"]


@dataclass(frozen=True)
class DataOptions:
    """Where the samples come from and how they are cut and batched.

    Attributes:
        sets: the training sets.
        validation: the validation set; None trains without validation.
        batch: images in a step and in a group.
        augmentation: what is shown of an image: the full view and its "crops", a square canvas at a random scale
            ("scale_jitter"), or a square window with several categories ("semantic_crop").
        short_sides: lengths to choose the short side from; for crops and semantic_crop.
        max_side: bound on the long side; for crops and semantic_crop.
        crops: crops in training; 0 for a plain Mask2Former.
        crop_type: where they lie: "random", "fixed4" (corners) or "fixed8" (Table 9b).
        crop_ratio: side of a crop over the side of the image (Table 9a).
        canvas: side of the square; for scale_jitter and semantic_crop.
        scales: smallest and largest size of the image over the canvas; for scale_jitter.
        clip: frames of a clip that a step sees, each as its one view, or with its crops; of sets of clips.
        color_jitter: change brightness, contrast, saturation and hue at random.
        reduced_decode: decode photos at a fraction of their size where every view is smaller still.
        workers: loader processes.
        feature_cache: folder for the features of a frozen backbone; None computes them at every step.

    Raises:
        InputError: if there is no such augmentation.
    """

    sets: tuple[SetSource, ...]
    validation: SetSource | None = None
    batch: BatchSize = BatchSize()
    augmentation: AugmentationName = "crops"
    short_sides: tuple[int, ...] = (640, 672, 704, 736, 768, 800)
    max_side: int = 1333
    crops: int = 1
    crop_type: CropType = "fixed4"
    crop_ratio: float = 0.7
    canvas: int = 1024
    scales: tuple[float, float] = (0.1, 2.0)
    clip: ClipFrames = ClipFrames()
    color_jitter: bool = False
    reduced_decode: bool = True
    workers: int = 2
    feature_cache: str | None = None

    def __post_init__(self) -> None:
        """Refuse augmentations that there are not."""
        names = get_args(AugmentationName)
        if self.augmentation not in names:
            raise InputError(f"there is no augmentation {self.augmentation!r}; choose from {', '.join(names)}")
        if self.augmentation != "crops" and self.crops:
            raise InputError(f"data.augmentation={self.augmentation} shows one view of an image; set data.crops=0")


def training_loader(
    data: DataOptions,
    sets: Sequence[SampleSet],
    model: torch.nn.Module,
    *,
    steps: int,
    build_target: BuildTarget | BuildClipTarget = labelled_masks,
    first_step: int = 0,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader:
    """For each step from ``first_step`` on, this process's groups: a list of ``TrainingBatch``.

    Args:
        data: how the sets are drawn from and cut.
        sets: its sets, opened.
        model: whose backbone's features are cached, where ``data`` wants that.
        steps: steps of the whole run.
        build_target: what is learnt of a sample.
        first_step: number of the step to start with.
        seed: of everything that is drawn.
        rank: number of this process.
        world_size: number of processes.

    Raises:
        InputError: if the options do not fit together.
    """
    samples = ConcatDataset(sets)
    shown = [_with_entities(members) for members in sets]
    if rank == 0:
        _report_empty(data.sets, sets, shown)
    order = _order(data, sets, shown, seed=seed)
    numbers = {"steps": steps, "first_step": first_step, "rank": rank, "world_size": world_size}
    groups = Steps(order, batch=data.batch, seed=seed, **numbers)
    if data.feature_cache is not None:
        cached = _cached(data, samples, model, build_target=build_target)
        return DataLoader(cached, sampler=groups, batch_size=None)
    options = {"build_target": build_target, "reduced_decode": data.reduced_decode}
    if any(map(holds_clips, sets)):
        items = TrainingClips(samples, augmentation(data), frames=data.clip, **options)
    else:
        items = TrainingSamples(samples, augmentation(data), **options)
    return _loader(items, groups, workers=data.workers)


def validation_loader(
    samples: SampleSet, settings: TestSettings, *, workers: int, rank: int = 0, world_size: int = 1
) -> DataLoader:
    """This process's share of a validation set, sample ``rank`` and every ``world_size``-th after it.

    Images come as views; clips come as they are, because their frames are read window by window.

    Args:
        samples: the set.
        settings: test size and crops.
        workers: loader processes.
        rank: number of this process.
        world_size: number of processes.

    Raises:
        InputError: if the set holds less than one sample for each process.
    """
    kind = kind_of(samples)
    if len(samples) < world_size:
        raise InputError(
            f"there are {len(samples)} {kind} to validate on for {world_size} processes; use fewer processes, or set "
            "data.validation.root=null"
        )
    share = range(rank, len(samples), world_size)
    if kind == "clips":
        return _loader(samples, share, workers=0)
    items = ValidationSamples(
        samples,
        short_side=settings.short_side,
        max_side=settings.max_side,
        crops=settings.crops,
        crop_ratio=settings.crop_ratio,
    )
    return _loader(items, share, workers=workers)


def augmentation(data: DataOptions) -> Augmentation:
    """What the options say about cutting and colours.

    Raises:
        InputError: if an image cannot have such crops, or there are no such scales.
    """
    sides = {"short_sides": data.short_sides, "max_side": data.max_side}
    if data.augmentation == "crops":
        crops = {"crops": data.crops, "crop_type": data.crop_type, "ratio": data.crop_ratio}
        return Augmentation(partial(draw_training_crop, **sides, **crops), color_jitter=data.color_jitter)
    if data.augmentation == "scale_jitter":
        draw = partial(draw_scale_jitter, scales=data.scales, side=data.canvas)
    else:
        draw = partial(draw_semantic_crop, **sides, side=data.canvas)
    return Augmentation(draw, canvas_side=data.canvas, color_jitter=data.color_jitter)


def _order(data: DataOptions, sets: Sequence[Sequence[Sample]], shown: Sequence[np.ndarray], *, seed: int) -> Order:
    """The order of the images shown of each set: epochs, or draws by weight."""
    sizes_hw = np.concatenate([_sizes_hw(members) for members in sets])
    portrait = sizes_hw[:, 0] > sizes_hw[:, 1]
    starts = accumulate(map(len, sets), initial=0)
    indices = [start + members for start, members in zip(starts, shown)]
    weights = [source.weight for source in data.sets if source.weight is not None]
    if not weights:
        return EpochOrder(portrait, indices=np.concatenate(indices), at_once=data.batch.at_once, seed=seed)
    if len(weights) < len(sets):
        raise InputError("some sets of data.sets have a weight and others have none; give every set one, or none")
    return WeightedOrder(portrait, sets=indices, weights=weights, at_once=data.batch.at_once, seed=seed)


def _sizes_hw(samples: Sequence[Sample]) -> np.ndarray:
    """Height and width of every sample, int64 [samples,2]: at once where the index of the set has them."""
    kept = getattr(samples, "sizes_hw", None)
    return np.array([sample.size_hw for sample in samples]) if kept is None else kept


def _with_entities(samples: Sequence[Sample]) -> np.ndarray:
    """Samples to train on: those with an entity, where the index of the set tells."""
    counts = getattr(samples, "entity_counts", None)
    return np.arange(len(samples)) if counts is None else np.flatnonzero(counts)


def _report_empty(sources: Sequence[SetSource], sets: Sequence[Sequence[Sample]], shown: Sequence[np.ndarray]) -> None:
    for source, members, kept in zip(sources, sets, shown):
        if len(kept) < len(members):
            kind = kind_of(members)
            print(f"{source.root}: {len(members) - len(kept)} of {len(members)} {kind} have no entity; left out")


def _cached(
    data: DataOptions, samples: Sequence[Sample], model: torch.nn.Module, *, build_target: BuildTarget
) -> CachedSamples:
    if model.fine_level is not None:
        raise InputError(
            "data.feature_cache keeps features without their pixels, which the fine level reads; leave the cache out, "
            "or set model.fine_level=false"
        )
    frozen = not any(parameter.requires_grad for parameter in model.backbone.parameters())
    fixed = data.augmentation == "crops" and data.crop_type != "random" and not data.color_jitter
    if not frozen or not fixed or len(data.short_sides) != 1:
        raise InputError(
            "data.feature_cache keeps the features of a frozen backbone at one size in fixed places; set "
            "optimisation.backbone_lr_factor=0, one value in data.short_sides, data.augmentation=crops, "
            "data.color_jitter=false, and data.crop_type to fixed4 or fixed8, or leave the cache out"
        )
    return CachedSamples(
        samples,
        model.backbone,
        folder=Path(data.feature_cache),
        short_side=data.short_sides[0],
        max_side=data.max_side,
        crops=data.crops,
        crop_type=data.crop_type,
        crop_ratio=data.crop_ratio,
        build_target=build_target,
    )


def _loader(items: Dataset, order: Iterable[Any], *, workers: int) -> DataLoader:
    """A loader whose every item is a batch already, made ahead by processes that live as long as it does."""
    return DataLoader(
        items,
        sampler=order,
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
