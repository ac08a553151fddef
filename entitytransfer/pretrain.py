"""Pretraining: any sets of entities, one model, Lightning's loop, checkpoints that a later run goes on from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import lightning
from lightning.pytorch.callbacks import Callback

from cropformer import (
    Architecture,
    EntitySegmenter,
    EntityTraining,
    InputError,
    Optimisation,
    SetLoss,
    TestSettings,
    build,
    checkpoint_activations,
    load_backbone,
    load_into,
    read_checkpoint,
    save_checkpoint,
    weights_path,
)
from entitytransfer.engine import LoopOptions, last_checkpoint, make_trainer, steps_behind
from entitytransfer.evaluators.average_precision import AveragePrecision
from entitytransfer.image_grids import ImageGrids
from entitytransfer.loaders import DataOptions, training_loader, validation_loader
from entitytransfer.skipped_steps import SkippedSteps
from entitytransfer.training_progress import Forecast, progress_callback

DRY_STEPS = 2


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
        loop: checkpoints, validation, precision, processes, seed.
        out: folder of the run.
        init: weights to start from, "nano" or a path: of this model, or of one that lacks parts of it or has other
            classes or queries, as a Mask2Former trained on COCO. What they lack starts fresh, and is printed.
        init_backbone: backbone weights to start from, in any known layout.
        dry_run: stop after two steps, without writing anything.

    Returns:
        The path of the weights.

    Raises:
        InputError: if data, weights or options do not fit together.
        JobError: if too many steps in a row had no finite loss or gradient; the checkpoint is kept.
    """
    _check_crops(architecture, data, settings)
    trainer = make_trainer(
        loop,
        out=out,
        steps=DRY_STEPS if dry_run else optimisation.max_steps,
        validates=data.validation is not None,
        callbacks=_callbacks(loop, data, optimisation, out=out, dry_run=dry_run),
        dry_run=dry_run,
    )
    lightning.seed_everything(loop.seed, verbose=False)
    model = build(architecture, settings=settings)
    resume = None if dry_run else _resumed(loop, out)
    start = _start(model, init=init, init_backbone=init_backbone)
    for line in start if resume is None else [f"going on from {resume}"]:
        _say(trainer, line)
    _prepare(model, views=1 + data.crops, recompute=loop.checkpoint_activations)
    module = EntityTraining(model, loss=loss, optimisation=optimisation, evaluator=AveragePrecision())
    trainer.fit(
        module,
        training_loader(
            data,
            model,
            steps=optimisation.max_steps,
            first_step=0 if resume is None else steps_behind(resume),
            seed=loop.seed,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
        ),
        validation_loader(data, settings, rank=trainer.global_rank, world_size=trainer.world_size),
        ckpt_path=resume,
    )
    _say(trainer, _health_line(module.health))
    weights = out / "weights.safetensors"
    if trainer.is_global_zero and not dry_run:
        save_checkpoint(weights, model.state_dict(), architecture=architecture, settings=settings)
        print(f"The weights are in {weights}")
    return weights


def _check_crops(architecture: Architecture, data: DataOptions, settings: TestSettings) -> None:
    if architecture.association == "none" and (data.crops or settings.crops):
        raise InputError("a plain Mask2Former takes one view of an image; set data.crops=0 and test.crops=0")


def _callbacks(
    loop: LoopOptions, data: DataOptions, optimisation: Optimisation, *, out: Path, dry_run: bool
) -> list[Callback]:
    if dry_run:
        steps, images = optimisation.max_steps, data.batch.total
        return [Forecast(steps=steps, images=images, validate_every=loop.validate_every)]
    return [progress_callback(), ImageGrids(), SkippedSteps(out / "non_finite.jsonl", limit=loop.max_skipped_steps)]


def _start(model: EntitySegmenter, *, init: str | Path | None, init_backbone: Path | None) -> list[str]:
    """Fill the model with what the files have of it; returns one line for each, saying what it lacks."""
    lines = []
    if init is not None:
        lines.append(f"{init}: {load_into(model, read_checkpoint(weights_path(init)))}")
    if init_backbone is not None:
        lines.append(f"{init_backbone}: {load_backbone(model.backbone, init_backbone)}")
    return lines or ["init and init_backbone are null: the weights start from random numbers"]


def _prepare(model: EntitySegmenter, *, views: int, recompute: bool) -> None:
    if recompute:
        checkpoint_activations(model)
    if views == 1 and model.association is not None:
        model.association.requires_grad_(False)  # nothing reads it, and processes would wait for its gradients


def _resumed(loop: LoopOptions, out: Path) -> Path | None:
    """The checkpoint that the run goes on from."""
    checkpoint = last_checkpoint(out)
    return checkpoint if loop.resume and checkpoint.is_file() else None


def _health_line(health: Mapping[str, int]) -> str:
    return "in this run: " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(health.items()))


def _say(trainer: lightning.Trainer, line: str) -> None:
    if trainer.is_global_zero:
        print(line)
