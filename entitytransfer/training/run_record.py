"""What a run was made with: versions, commit, machine and settings, noted at every start."""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only

from cropformer import InputError
from entitytransfer.predictions import write_json

PACKAGES = ("lightning", "numpy", "cropformer")


@rank_zero_only
def save_run_record(out: Path, config: Mapping[str, Any]) -> None:
    """Add this start of the run to ``run.json`` in ``out``: a resumed run has one entry for each of its starts.

    Of several processes that were started together, the first one writes.

    Args:
        out: folder of the run; it must exist.
        config: the resolved settings, which a later start may change.

    Raises:
        InputError: an earlier ``run.json`` is damaged, or the file cannot be written.
    """
    path = out / "run.json"
    start = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": sys.argv,
        "versions": versions(),
        "git": git_state(Path(__file__).parent),
        "machine": machine(),
        "config": config,
    }
    write_json(path, {"starts": [*_earlier_starts(path), start]})


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide what a run computes; torch's names its build too."""
    installed = {name: version(name) for name in PACKAGES}
    return {"python": platform.python_version(), "torch": str(torch.__version__), **installed}


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of the source tree that ``folder`` belongs to, and whether it was changed since; None without one.

    A package that is installed somewhere inside another repository is not part of it.
    """
    if shutil.which("git") is None or not _git(folder, "ls-files", "."):
        return None
    return {"commit": _git(folder, "rev-parse", "HEAD") or None, "dirty": bool(_git(folder, "status", "--porcelain"))}


def machine() -> dict[str, Any]:
    """What the speed depends on: processor, cores, GPUs and the number of processes; nothing that names the host."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "processes": int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS") or 1),
    }


def _earlier_starts(path: Path) -> list[Any]:
    try:
        return json.loads(path.read_bytes())["starts"]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not the record of a run; move it away.") from error


def _git(folder: Path, *arguments: str) -> str:
    """What git says, nothing if it fails."""
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
