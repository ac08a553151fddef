"""A pretraining run of seconds on four photos, for this process or as a script for others, which can be killed.

python -m tests.entitytransfer.tiny_run OUT [--kill-at-step N | --kill-in-checkpoint N]
"""

import argparse
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from cropformer import Architecture, EntityTraining, Optimisation, SetLoss, TestSettings
from cropformer.architecture import SwinNumbers
from entitytransfer.pretrain import pretrain
from entitytransfer.set_source import SetSource
from entitytransfer.training.engine import LoopOptions
from entitytransfer.training.loaders import DataOptions
from entitytransfer.training.run import TrainingRun
from entitytransfer.training.sampling import BatchSize

ROOT = Path(__file__).parents[2]
PHOTOS = ROOT / "tests" / "data" / "coco_tiny"
STEPS = 6
ARCHITECTURE = Architecture(
    "swin",
    asdict(SwinNumbers(16, depths=(1, 1, 2, 1), heads=(2, 4, 8, 8), window=4, drop_path=0.3)),
    channels=32,
    num_queries=8,
    encoder_layers=1,
    encoder_feedforward=32,
    decoder_layers=2,
    decoder_feedforward=32,
    association_feedforward=32,
    heads=4,
)


def run(out: Path) -> Path:
    """Six steps of four groups of one photo, a checkpoint after every second one, and a validation in the middle."""
    torch.set_num_threads(1)  # sums in one order
    photos = SetSource(str(PHOTOS))
    training = TrainingRun(
        settings=TestSettings(short_side=64, max_side=96, crops=0, min_score=0.1),
        data=DataOptions(
            (photos,), photos, BatchSize(total=4, at_once=1), short_sides=(64, 80), max_side=96, workers=0
        ),
        loss=SetLoss(points=64),
        optimisation=Optimisation(lr=1e-3, max_steps=STEPS),
        loop=LoopOptions(accelerator="cpu", checkpoint_every=2, validate_every=4, ema_decay=0.5, seed=3),
        out=out,
    )
    return pretrain(ARCHITECTURE, training)


def run_apart(out: Path, *options: str, processes: int = 1) -> int:
    """The same in processes of its own; returns the exit code."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    module = ["-m", "tests.entitytransfer.tiny_run", str(out), *options]
    command = [sys.executable, *(torchrun if processes > 1 else []), *module]
    ended = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=ROOT, capture_output=True)
    print(ended.stderr.decode())  # for pytest to show when a test fails
    return ended.returncode


def kill() -> None:
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at_step(number: int) -> None:
    """End this process in its ``number``-th step, after the gradients are known and before they are used."""
    original, calls = EntityTraining.on_before_optimizer_step, []

    def dying(module: EntityTraining, optimizer: torch.optim.Optimizer) -> None:
        calls.append(optimizer)
        if len(calls) == number and module.global_rank == 0:
            kill()
        original(module, optimizer)

    EntityTraining.on_before_optimizer_step = dying


def kill_in_checkpoint(number: int) -> None:
    """End this process when half of its ``number``-th checkpoint is on the disk."""
    original, calls = torch.save, []

    def dying(content: object, path: Path) -> None:
        calls.append(path)
        original(content, path)
        if len(calls) == number:
            with path.open("r+b") as file:
                file.truncate(path.stat().st_size // 2)
            kill()

    torch.save = dying


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--kill-at-step", type=int)
    parser.add_argument("--kill-in-checkpoint", type=int)
    arguments = parser.parse_args()
    if arguments.kill_at_step:
        kill_at_step(arguments.kill_at_step)
    if arguments.kill_in_checkpoint:
        kill_in_checkpoint(arguments.kill_in_checkpoint)
    run(arguments.out)
