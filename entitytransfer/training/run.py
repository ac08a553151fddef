"""A training run: Lightning's loop over any sets, from given weights, with checkpoints that a later run goes on from.

Pretraining and fine-tuning are this run; they differ in which model they start with.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import lightning
from lightning.pytorch.callbacks import Callback

from cropformer import (
    CLASS_HEAD,
    Architecture,
    Checkpoint,
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
    merge_low_rank,
    save_checkpoint,
)
from entitytransfer.classes import ENTITY, Classes
from entitytransfer.clip_sample import holds_clips
from entitytransfer.training.adaptation import Adaptation
from entitytransfer.training.clip_training import ClipTraining
from entitytransfer.training.engine import LoopOptions, last_checkpoint, make_trainer, steps_behind
from entitytransfer.training.image_grids import ImageGrids
from entitytransfer.training.loaders import DataOptions, training_loader, validation_loader
from entitytransfer.training.progress import Forecast, progress_callback
from entitytransfer.training.sets import Judgement, TrainingSets
from entitytransfer.training.skipped_steps import SkippedSteps

DRY_STEPS = 2
_LISTED = 3  # classes that are named where they are counted


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """All that a run is but its model.

    Attributes:
        settings: test size and thresholds, for validation and for the weights file.
        data: samples and batches.
        loss: the set loss.
        optimisation: optimiser and schedule.
        loop: checkpoints, validation, precision, processes, seed.
        out: folder of the run.
        adaptation: what of the weights it starts from stays as it is.
        dry_run: stop after two steps, without writing anything.
    """

    settings: TestSettings
    data: DataOptions
    loss: SetLoss
    optimisation: Optimisation
    loop: LoopOptions
    out: Path
    adaptation: Adaptation = Adaptation()
    dry_run: bool = False


def train(
    run: TrainingRun,
    architecture: Architecture,
    sets: TrainingSets,
    *,
    init: Checkpoint | None = None,
    init_backbone: Path | None = None,
) -> Path:
    """Train, and write ``weights.safetensors`` in the folder of the run, with checkpoints and TensorBoard logs.

    A run whose folder holds a checkpoint goes on from it. What the start weights lack starts fresh, and is printed; so
    does a class head that was made for other classes.

    Args:
        run: see there.
        architecture: the model, with as many classes as the sets have.
        sets: its sets, opened.
        init: weights to start from.
        init_backbone: backbone weights to start from, in any known layout.

    Returns:
        The path of the weights.

    Raises:
        InputError: if data, weights or options do not fit together.
        JobError: if too many steps in a row had no finite loss or gradient; the checkpoint is kept.
    """
    _check_fit(architecture, run, sets)
    trainer = _trainer(run, sets)
    lightning.seed_everything(run.loop.seed, verbose=False)
    classes = {name: list(values) for name, values in asdict(sets.classes).items()}
    model = build(architecture, settings=run.settings, classes=classes)
    resume = None if run.dry_run else _resumed(run)
    lines, fresh = _start(model, init=init, init_backbone=init_backbone, classes=sets.classes)
    for line in lines if resume is None else [f"going on from {resume}"]:
        _say(trainer, line)
    module = _prepare(model, run, sets, fresh=fresh)
    _fit(trainer, module, run, sets, resume=resume)
    _say(trainer, _health_line(module.health))
    weights = run.out / "weights.safetensors"
    if trainer.is_global_zero and not run.dry_run:
        state = merge_low_rank(model.state_dict())
        save_checkpoint(weights, state, architecture=architecture, settings=run.settings, classes=classes)
        print(f"The weights are in {weights}")
    return weights


def _check_fit(architecture: Architecture, run: TrainingRun, sets: TrainingSets) -> None:
    clip = " and data.clip.frames=1" if sets.hold_clips else ""
    if architecture.association == "none" and (sets.views(run.data) > 1 or run.settings.crops):
        raise InputError(f"a plain Mask2Former takes one view of an image; set data.crops=0 and test.crops=0{clip}")
    if sets.hold_clips and run.data.feature_cache is not None:
        raise InputError("data.feature_cache keeps the features of images, not of clips; leave it out")
    if architecture.num_classes != len(sets.classes):
        raise InputError(
            f"the model has {architecture.num_classes} classes and the data {len(sets.classes)}; set "
            f"model.num_classes={len(sets.classes)}"
        )


def _trainer(run: TrainingRun, sets: TrainingSets) -> lightning.Trainer:
    return make_trainer(
        run.loop,
        out=run.out,
        steps=DRY_STEPS if run.dry_run else run.optimisation.max_steps,
        validates=sets.judgement is not None,
        callbacks=_callbacks(run, sets),
        dry_run=run.dry_run,
    )


def _callbacks(run: TrainingRun, sets: TrainingSets) -> list[Callback]:
    if run.dry_run:
        numbers = {"steps": run.optimisation.max_steps, "samples": run.data.batch.total}
        kind = "clips" if sets.hold_clips else "images"
        return [Forecast(**numbers, kind=kind, validate_every=run.loop.validate_every)]
    skipped = SkippedSteps(run.out / "non_finite.jsonl", limit=run.loop.max_skipped_steps)
    return [progress_callback(), ImageGrids(), skipped]


def _start(
    model: EntitySegmenter, *, init: Checkpoint | None, init_backbone: Path | None, classes: Classes
) -> tuple[list[str], set[str]]:
    """Fill the model with what the files have of it.

    Returns:
        A line for each file, saying what it lacks; the names of the parameters that no file has.
    """
    lines, fresh = [], {name for name, _ in model.named_parameters()}
    if init is not None:
        report = load_into(model, init, class_head=_class_names(init) == classes.names)
        fresh = {item.name for item in report.reinitialised}
        lines += [f"{init.path}: {report}", *_class_head_line(init, classes, fresh)]
    if init_backbone is not None:
        report = load_backbone(model.backbone, init_backbone)
        fresh -= {f"backbone.{name}" for name in report.loaded}
        lines.append(f"{init_backbone}: {report}")
    return lines or ["init and init_backbone are null: the weights start from random numbers"], fresh


def _class_names(checkpoint: Checkpoint) -> tuple[str, ...] | None:
    """What the class head of a file was made for; None if nobody can tell. One class without a name is the entity."""
    if checkpoint.classes is not None:
        return tuple(checkpoint.classes["names"])
    known = checkpoint.architecture is not None and not checkpoint.is_backbone
    return ENTITY.names if known and checkpoint.architecture.num_classes == len(ENTITY) else None


def _class_head_line(init: Checkpoint, classes: Classes, fresh: Collection[str]) -> list[str]:
    """That the class head of the file is of no use, if that is so."""
    weight = CLASS_HEAD[0]
    if weight not in fresh or weight not in init.state:
        return []
    theirs = _counted(_class_names(init) or (), len(init.state[weight]) - 1)
    ours = _counted(classes.names, len(classes))
    return [f"re-initialised the class head: it was made for {theirs}, and the data has {ours}"]


def _counted(names: Sequence[str], count: int) -> str:
    """How many classes, and the first of their names."""
    listed = ", ".join(map(str, names[:_LISTED])) + (", ..." if len(names) > _LISTED else "")
    return f"{count} {'class' if count == 1 else 'classes'} ({listed or 'names unknown'})"


def _prepare(model: EntitySegmenter, run: TrainingRun, sets: TrainingSets, *, fresh: Collection[str]) -> EntityTraining:
    """The module that trains what is to be trained of the model."""
    if run.loop.checkpoint_activations:
        checkpoint_activations(model)
    if sets.views(run.data) == 1 and model.association is not None:
        model.association.requires_grad_(False)  # nothing reads it, and processes would wait for its gradients
    module = _module(model, run, sets.judgement)
    run.adaptation.apply(model, fresh=fresh)
    return module


def _module(model: EntitySegmenter, run: TrainingRun, judgement: Judgement | None) -> EntityTraining:
    numbers = {"loss": run.loss, "optimisation": run.optimisation}
    if judgement is None:
        return EntityTraining(model, **numbers)
    head, evaluator = judgement.head, judgement.evaluator
    if holds_clips(judgement.samples):
        return ClipTraining(model, **numbers, head=head, evaluator=evaluator)
    return EntityTraining(model, **numbers, predict=head.predict, evaluator=evaluator)


def _fit(
    trainer: lightning.Trainer, module: EntityTraining, run: TrainingRun, sets: TrainingSets, *, resume: Path | None
) -> None:
    share = {"rank": trainer.global_rank, "world_size": trainer.world_size}
    training = training_loader(
        run.data,
        sets.samples,
        module.model,
        steps=run.optimisation.max_steps,
        build_target=sets.build_target,
        first_step=0 if resume is None else steps_behind(resume),
        seed=run.loop.seed,
        **share,
    )
    validation = sets.judgement and validation_loader(
        sets.judgement.samples, run.settings, workers=run.data.workers, **share
    )
    trainer.fit(module, training, validation, ckpt_path=resume)


def _resumed(run: TrainingRun) -> Path | None:
    """The checkpoint that the run goes on from."""
    checkpoint = last_checkpoint(run.out)
    return checkpoint if run.loop.resume and checkpoint.is_file() else None


def _health_line(health: Mapping[str, int]) -> str:
    return "in this run: " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(health.items()))


def _say(trainer: lightning.Trainer, line: str) -> None:
    if trainer.is_global_zero:
        print(line)
