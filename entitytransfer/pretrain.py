"""Pretraining: any sets of entities, one model, Lightning's loop, checkpoints that a later run goes on from."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from cropformer import (
    Architecture,
    CropType,
    EntitySegmenter,
    EntityTraining,
    InputError,
    Optimisation,
    SetLoss,
    TestSettings,
    build,
    load_backbone,
    load_into,
    read_checkpoint,
    save_checkpoint,
    weights_path,
)
from entitytransfer.adapter import Sample
from entitytransfer.datasets import coco
from entitytransfer.evaluators.average_precision import AveragePrecision
from entitytransfer.feature_cache import CachedSamples
from entitytransfer.training_data import OrientationBatches, TrainingSamples, ValidationSamples, collate
from entitytransfer.training_progress import Forecast, progress_callback


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


@dataclass(frozen=True)
class LoopOptions:
    """How the loop runs: steps between checkpoints and validations, precision, device, seed."""

    checkpoint_every: int = 5000
    validate_every: int = 5000
    precision: str = "32-true"
    accelerator: str = "auto"
    clip_norm: float = 0.01
    seed: int = 0
    resume: bool = True


def pretrain(
    architecture: Architecture,
    *,
    settings: TestSettings,
    data: DataOptions,
    loss: SetLoss,
    optimisation: Optimisation,
    loop: LoopOptions,
    out: Path,
    init: str | Path | None = None,
    init_backbone: Path | None = None,
    dry_run: bool = False,
) -> Path:
    """Train and write ``weights.safetensors`` in ``out``, with checkpoints and TensorBoard logs beside it.

    A run whose ``out`` holds a checkpoint goes on from it. ``dry_run`` builds everything and takes two steps.

    Args:
        architecture: the model.
        settings: test size and thresholds, for validation and for the weights file.
        data: samples and batches.
        loss: the set loss.
        optimisation: optimiser and schedule.
        loop: checkpoints, validation, precision, seed.
        out: folder of the run.
        init: weights to start from, "nano" or a path: of this model, or of one that lacks parts of it or has other
            classes or queries, as a Mask2Former trained on COCO. What they lack starts fresh, and is printed.
        init_backbone: backbone weights to start from, in any known layout.
        dry_run: stop after two steps, without writing weights.

    Returns:
        The path of the weights.

    Raises:
        InputError: if data, weights or options do not fit together.
    """
    _check_crops(architecture, data, settings)
    _silence_known_warnings()
    lightning.seed_everything(loop.seed, verbose=False)
    model = build(architecture, settings=settings)
    if init is not None:
        _start_from(model, init)
    if init_backbone is not None:
        print(f"{init_backbone}: {load_backbone(model.backbone, init_backbone)}")
    module = EntityTraining(model, loss=loss, optimisation=optimisation, evaluator=AveragePrecision())
    checkpoint = out / "checkpoints" / "last.ckpt"
    resume = checkpoint if loop.resume and checkpoint.is_file() else None
    trainer = _trainer(loop, optimisation, out=out, validates=data.validation is not None, dry_run=dry_run)
    trainer.fit(
        module,
        _training_loader(data, model, optimisation, seed=loop.seed, first_step=_step_of(resume)),
        _validation_loader(data, settings),
        ckpt_path=resume,
    )
    weights = out / "weights.safetensors"
    if not dry_run:
        save_checkpoint(weights, model.state_dict(), architecture=architecture, settings=settings)
    return weights


def _start_from(model: EntitySegmenter, init: str | Path) -> None:
    """Fill the model with what ``init`` has of it; what it lacks, as a Mask2Former the association, stays fresh."""
    print(f"{init}: {load_into(model, read_checkpoint(weights_path(init)))}")


def _check_crops(architecture: Architecture, data: DataOptions, settings: TestSettings) -> None:
    if architecture.association == "none" and (data.crops or settings.crops):
        raise InputError("a plain Mask2Former takes one view of an image; set data.crops=0 and test.crops=0")


def _silence_known_warnings() -> None:
    """Keep Lightning from warning of what is meant: exact resuming by our sampler, a frozen backbone, short runs."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        ".*dataloader is not resumable.*",
        ".*in eval mode at the start of training.*",
        ".*isinstance.treespec.*",
        ".*does not have many workers.*",
        ".*no `val_dataloader`.*",
        ".*smaller than the logging interval.*",
        ".*checkpoint directory.*not empty.*",
    ):
        warnings.filterwarnings("ignore", message)


def _trainer(
    loop: LoopOptions, optimisation: Optimisation, *, out: Path, validates: bool, dry_run: bool
) -> lightning.Trainer:
    checkpoints = ModelCheckpoint(
        out / "checkpoints", every_n_train_steps=loop.checkpoint_every, save_last=True, save_top_k=0
    )
    return lightning.Trainer(
        max_steps=2 if dry_run else optimisation.max_steps,
        accelerator=loop.accelerator,
        precision=loop.precision,
        gradient_clip_val=loop.clip_norm,
        logger=False if dry_run else TensorBoardLogger(out, name="", version="log"),
        callbacks=[Forecast(steps=optimisation.max_steps)]
        if dry_run
        else [progress_callback(), checkpoints, LearningRateMonitor("step")],
        enable_checkpointing=not dry_run,
        val_check_interval=loop.validate_every if validates else None,
        check_val_every_n_epoch=None if validates else 1,
        limit_val_batches=1.0 if validates and not dry_run else 0,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        use_distributed_sampler=False,
        enable_model_summary=False,
        enable_progress_bar=not dry_run and sys.stderr.isatty(),
    )


def _training_loader(
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


def _validation_loader(data: DataOptions, settings: TestSettings) -> DataLoader | None:
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


def _step_of(checkpoint: Path | None) -> int:
    """Steps that a checkpoint has behind it."""
    if checkpoint is None:
        return 0
    return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"])
