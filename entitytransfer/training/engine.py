"""The engine of a training run: processes, devices and precision, averaged weights, checkpoints that survive a kill."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint, EMAWeightAveraging, LearningRateMonitor
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.environments import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only

from cropformer import InputError, atomic_path

DRY_VALIDATION_IMAGES = 2
PRECISIONS = ("bf16-mixed", "32-true")


@dataclass(frozen=True)
class LoopOptions:
    """How the loop runs.

    Attributes:
        checkpoint_every: steps between checkpoints.
        validate_every: steps between validations.
        precision: one of ``PRECISIONS``.
        accelerator: what to compute on, as Lightning names it.
        devices: processes on this machine; "auto" takes every GPU. ``torchrun`` has its own say.
        nodes: machines; likewise.
        checkpoint_activations: recompute activations in the backward pass instead of keeping them.
        ema_decay: decay of the moving average of the weights that is validated and kept; None keeps the last weights.
        max_skipped_steps: steps in a row without a finite loss and gradient after which the run stops.
        seed: start of all random numbers.
        resume: go on from the checkpoint in the folder of the run.

    Raises:
        InputError: if there is no such precision.
    """

    checkpoint_every: int = 5000
    validate_every: int = 5000
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: int | str = "auto"
    nodes: int = 1
    checkpoint_activations: bool = False
    ema_decay: float | None = None
    max_skipped_steps: int = 10
    seed: int = 0
    resume: bool = True

    def __post_init__(self) -> None:
        """Refuse what Lightning would explain at length."""
        if self.precision not in PRECISIONS:
            raise InputError(f"there is no precision {self.precision!r}; use {' or '.join(PRECISIONS)}")


def make_trainer(
    loop: LoopOptions,
    *,
    out: Path,
    steps: int,
    validates: bool,
    callbacks: list[Callback],
    dry_run: bool,
) -> lightning.Trainer:
    """Lightning's trainer for ``steps`` steps; a dry run writes nothing.

    One process computes by itself, several average their gradients over NCCL on GPUs and over gloo on CPUs.
    """
    _silence_known_warnings()
    devices, nodes = _devices(loop)
    written = (
        [] if dry_run else [LearningRateMonitor("step"), LastCheckpoint(last_checkpoint(out), loop.checkpoint_every)]
    )
    trainer = lightning.Trainer(
        max_steps=steps,
        accelerator=loop.accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy=_strategy(loop, devices, nodes),
        plugins=[AtomicCheckpoints(), *([TorchElasticEnvironment()] if _under_torchrun() else [])],
        precision=loop.precision,
        logger=False if dry_run else TensorBoardLogger(out, name="", version="log"),
        callbacks=[*callbacks, *written],
        enable_checkpointing=not dry_run,
        val_check_interval=(steps if dry_run else loop.validate_every) if validates else None,
        check_val_every_n_epoch=None if validates else 1,
        limit_val_batches=(DRY_VALIDATION_IMAGES if dry_run else 1.0) if validates else 0,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        use_distributed_sampler=False,
        enable_model_summary=False,
        enable_progress_bar=not dry_run and sys.stderr.isatty(),
    )
    if loop.ema_decay is not None:
        average = EMAWeightAveraging(trainer.strategy.root_device, decay=loop.ema_decay)
        trainer.callbacks.insert(0, average)  # first: a checkpoint must see the average of its own step
    return trainer


def last_checkpoint(out: Path) -> Path:
    """Where a run keeps the checkpoint that it can go on from."""
    return out / "checkpoints" / "last.ckpt"


def steps_behind(checkpoint: Path) -> int:
    """Steps that a checkpoint has behind it.

    Raises:
        InputError: if the checkpoint cannot be read.
    """
    try:
        return int(torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["global_step"])
    except Exception as error:
        raise InputError(f"{checkpoint} is no checkpoint of a run; remove it or set trainer.resume=false") from error


class LastCheckpoint(Checkpoint):
    """Keeps one checkpoint, of the latest multiple of ``every`` steps, and in the end of the last step.

    With the step it holds all that a run needs to go on exactly: samples and random numbers follow from seed and step.
    """

    def __init__(self, path: Path, every: int) -> None:
        self.path, self.every = path, every

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Write the checkpoint when it is time."""
        if trainer.global_step % self.every == 0 or trainer.global_step == trainer.max_steps:
            trainer.save_checkpoint(self.path)


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes checkpoints whole or not at all: Lightning moves its own in from another disk, which a kill can cut."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write ``checkpoint`` to ``path``; the one before it stays until this one is complete."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        for cut_off in path.parent.glob(f".*{path.suffix}"):  # what a kill left behind
            cut_off.unlink()
        with atomic_path(path) as temporary:
            torch.save(checkpoint, temporary)


def is_first_process() -> bool:
    """Whether this process is the one that writes and speaks for all; known before there is a trainer."""
    return rank_zero_only.rank == 0


def _under_torchrun() -> bool:
    """Whether ``torchrun``, or ``entitytransfer launch`` in its manner, started this process as one of several."""
    return {"RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"} <= set(os.environ)


def _devices(loop: LoopOptions) -> tuple[int | str, int]:
    """Devices of a machine, and machines."""
    if not _under_torchrun():
        return loop.devices, loop.nodes
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    return local, int(os.environ["WORLD_SIZE"]) // local


def _strategy(loop: LoopOptions, devices: int | str, nodes: int) -> DDPStrategy | str:
    on_cpu = loop.accelerator == "cpu" or not torch.cuda.is_available()
    available = 1 if on_cpu else torch.cuda.device_count()
    if nodes * (available if devices == "auto" else int(devices)) == 1:
        return "auto"
    return DDPStrategy(broadcast_buffers=False)  # none changes; and validation takes another number of steps everywhere


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
        ".*recommended to use .*sync_dist=True.*",
        ".*broadcast_buffers. is deprecated.*",
    ):
        warnings.filterwarnings("ignore", message)
