"""Pretraining: any sets of entities, one model, Lightning's loop, checkpoints that a later run goes on from."""

from __future__ import annotations

import logging
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger

from cropformer import (
    Architecture,
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
from entitytransfer.evaluators.average_precision import AveragePrecision
from entitytransfer.loaders import DataOptions, training_loader, validation_loader
from entitytransfer.training_progress import Forecast, progress_callback


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
        training_loader(data, model, optimisation, seed=loop.seed, first_step=_step_of(resume)),
        validation_loader(data, settings),
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


def _step_of(checkpoint: Path | None) -> int:
    """Steps that a checkpoint has behind it."""
    if checkpoint is None:
        return 0
    return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"])
