"""Many processes for one command, on this machine or in a Slurm job through submitit.

Training, whose processes talk to each other, goes through ``torchrun``, which ends them all if one fails. The processes
of other commands share the work and know nothing of each other.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cropformer import InputError

if TYPE_CHECKING:
    import submitit

RESTARTS = 1000  # after timeouts: a long run takes as many time limits as it needs
_TRAINING = frozenset({"pretrain", "finetune"})
_TOLD_TO_GO_ON = frozenset({"segment"})  # by --resume; the others go on where they stopped by themselves


@dataclass(frozen=True)
class SlurmOptions:
    """What to ask Slurm for.

    Attributes:
        nodes: machines.
        processes: of each machine; one for each GPU.
        gpus: of each machine.
        cpus: of each process.
        time_min: time limit in minutes, after which the job is queued again and goes on.
        partition: where to queue; None for the default one.
        name: of the job.
        logs: folder for scripts and outputs, seen by all machines; ``%j`` is the number of the job.
    """

    nodes: int = 1
    processes: int = 1
    gpus: int = 1
    cpus: int = 8
    time_min: int = 24 * 60
    partition: str | None = None
    name: str = "entitytransfer"
    logs: Path = Path("outputs/launch/%j")


def launch_here(command: Sequence[str], *, processes: int | None = None) -> int:
    """Run an ``entitytransfer`` command in several processes of this machine; returns its exit code.

    Args:
        command: what follows ``entitytransfer``.
        processes: how many; None is one for each GPU, or one without any.
    """
    import torch

    processes = processes or max(1, torch.cuda.device_count())
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    codes = _run_together(command, processes) if command[0] in _TRAINING else _run_apart(command, processes)
    code = next(filter(None, codes), 0)
    return code if code >= 0 else 128 - code  # a signal, as shells say it


def _run_together(command: Sequence[str], processes: int) -> list[int]:
    """Exit code of the first process that fails."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    try:
        run(parse_args(["--standalone", f"--nproc-per-node={processes}", "--module", "entitytransfer", *command]))
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return [failure.exitcode]
    return []


def _run_apart(command: Sequence[str], processes: int) -> list[int]:
    """Exit code of each process; one that fails, perhaps for a bad clip in its share, stops no other."""
    started = []
    try:
        for rank in range(processes):
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
            typed = [sys.executable, "-m", "entitytransfer", *command]
            started.append(subprocess.Popen(typed, env={**os.environ, **place}))
        return [process.wait() for process in started]
    finally:
        for process in started:
            process.terminate()  # after an interruption; those that have ended are left alone


class Task:
    """One process of a Slurm job: finds the others, runs the command, and runs it again when the job is queued again.

    A command that keeps checkpoints, as pretraining does, goes on from the last one; ``segment`` is told to resume.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = tuple(command)

    def __call__(self) -> None:
        """Run the command; an exit code other than 0 fails the job."""
        from submitit.helpers import TorchDistributedEnvironment

        from entitytransfer.cli import main

        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        code = main(self.command)
        if code:
            raise SystemExit(code)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What submitit queues after a timeout or a preemption: the same again, going on."""
        from submitit.helpers import DelayedSubmission

        name, *arguments = self.command
        must_be_told = name in _TOLD_TO_GO_ON and "--resume" not in arguments
        return DelayedSubmission(Task([name, "--resume", *arguments]) if must_be_told else self)


def submit(command: Sequence[str], options: SlurmOptions, *, cluster: str = "slurm") -> submitit.Job[None]:
    """Queue an ``entitytransfer`` command on many GPUs.

    Args:
        command: what follows ``entitytransfer``.
        options: what to ask for.
        cluster: submitit's name of the queue; "local" runs it on this machine.

    Raises:
        InputError: if submitit is not installed, or this machine knows no Slurm.
    """
    try:
        import submitit
    except ImportError as error:
        raise InputError("--slurm needs submitit: pip install cropformer[slurm]") from error
    try:
        executor = submitit.AutoExecutor(options.logs, cluster=cluster, slurm_max_num_timeout=RESTARTS)
    except RuntimeError as error:
        raise InputError("this machine has no srun; run --slurm where jobs are submitted, or leave it out") from error
    executor.update_parameters(
        name=options.name,
        nodes=options.nodes,
        tasks_per_node=options.processes,
        gpus_per_node=options.gpus,
        cpus_per_task=options.cpus,
        timeout_min=options.time_min,
        **({"slurm_partition": options.partition} if options.partition else {}),
    )
    return executor.submit(Task(command))


def follow(job: submitit.Job[None], *, every_s: float = 5.0) -> int:
    """Print what the job's first process says until the job ends; returns 0, or 1 if it failed."""
    shown = dict.fromkeys((job.paths.stdout, job.paths.stderr), 0)
    done = False
    while not done:
        done = job.done()  # before reading, so that the last words are read
        for path, stream in zip(shown, (sys.stdout, sys.stderr)):
            text = path.read_text(errors="replace") if path.exists() else ""
            print(text[shown[path] :], end="", file=stream, flush=True)
            shown[path] = len(text)
        if not done:
            time.sleep(every_s)
    return 0 if job.exception() is None else 1


def describe_job(job: submitit.Job[None], command: Sequence[str]) -> str:
    """One line for the user."""
    return f"job {job.job_id}: entitytransfer {shlex.join(command)}; its output goes to {job.paths.stdout.parent}"
