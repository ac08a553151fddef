"""What every benchmark shares: fresh processes, cost of a call, medians, rows with their provenance.

A benchmark is run as ``python -m benchmarks.NAME`` from the root of the repository. It calls ``alternate``, which
starts the same module again with ``--measure CONTENDER`` in a fresh process, so that no cache and no earlier peak helps
or harms it; there the module prints one JSON object of numbers, such as ``cost_of`` returns, as its last line.

Nothing heavy is imported here, and the parent of the fresh processes should import nothing heavy either.
"""

from __future__ import annotations

import csv
import importlib.metadata
import json
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
MEASURES = ("cpu_s", "wall_s", "peak_gib", "extra_gib")
VERSIONS = ("torch", "numpy", "transformers", "openvino", "triton")
Result = TypeVar("Result")


def cpu_seconds() -> float:
    """User and system time of this process and all its threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_gib() -> float:
    """Largest resident memory of this process since its start or the last ``reset_peak``."""
    if Path("/proc/self/status").is_file():  # ru_maxrss also remembers the process that this one was forked from
        return status_gib("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)  # bytes on macOS, KiB elsewhere


def status_gib(field: str) -> float:
    """A memory figure of this process as Linux states it: VmHWM is the peak, VmRSS what is resident now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":")) / 2**20


def reset_peak() -> float:
    """Let the peak start again from what is resident now, and return that in GiB; Linux only, else the peak so far."""
    if not Path("/proc/self/clear_refs").exists():
        return peak_gib()
    Path("/proc/self/clear_refs").write_text("5")
    return status_gib("VmRSS")


def cost_of(call: Callable[[], Result]) -> tuple[Result, dict[str, float]]:
    """Run ``call`` and say what it took: its result and {cpu_s, wall_s, peak_gib, extra_gib}.

    ``peak_gib`` is the whole process's, ``extra_gib`` the part of it above what was resident before the call.
    """
    before_gib = reset_peak()
    cpu, wall = cpu_seconds(), time.perf_counter()
    result = call()
    cost = {"cpu_s": cpu_seconds() - cpu, "wall_s": time.perf_counter() - wall, "peak_gib": peak_gib()}
    return result, cost | {"extra_gib": max(0.0, cost["peak_gib"] - before_gib)}


def alternate(
    module: str, contenders: Sequence[str], arguments: Sequence[str] = (), *, repeats: int
) -> dict[str, list[dict[str, object]]]:
    """Measure contenders in fresh processes, A B A B ..., so that a change of the machine's load meets all of them.

    Args:
        module: ``benchmarks.NAME``, run as ``python -m benchmarks.NAME --measure CONTENDER *arguments``; it must print
            a JSON object as its last line.
        contenders: what to compare, the peer included.
        arguments: the same for every contender.
        repeats: fresh processes for each contender.

    Returns:
        {contender: the objects that its processes printed}.

    Raises:
        subprocess.CalledProcessError: a process failed; what it wrote to stderr has been shown.
    """
    runs: dict[str, list[dict[str, object]]] = {contender: [] for contender in contenders}
    environment = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ  # threads that spin while idle would count as work
    for _ in range(repeats):
        for contender in contenders:
            command = [sys.executable, "-m", module, "--measure", contender, *arguments]
            finished = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, cwd=ROOT, env=environment)
            runs[contender].append(json.loads(finished.stdout.splitlines()[-1]))
    return runs


def has_cuda() -> bool:
    """Whether torch sees a CUDA GPU; asked in a process of its own, because this one must stay small."""
    question = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", question]).returncode == 0


def comparison_rows(
    script: str, case: dict[str, object], runs: dict[str, list[dict[str, object]]], *, peer: str
) -> list[dict[str, object]]:
    """One row for each contender: the case, medians and interquartile ranges, and what the peer's median is of ours.

    Args:
        script: passed to ``provenance``.
        case: what was measured, the first columns of each row.
        runs: as ``alternate`` returns them. What is not in ``MEASURES`` is copied from the first run.
        peer: whose median every ratio divides: cpu_s_ratio 3 means a third of the peer's CPU time. Ratios stay empty
            where the peer could not run.

    Returns:
        The rows, in the order of ``runs``; a measure that a run lacks stays out.
    """
    source = provenance(script)
    rows = []
    for contender, measured in runs.items():
        row = {**case, "contender": contender, "peer": peer, "repeats": len(measured)}
        for name in (name for name in MEASURES if name in measured[0]):
            values = [float(run[name]) for run in measured]
            median = statistics.median(values)
            row[f"{name}_median"] = round(median, 4)
            row[f"{name}_iqr"] = round(interquartile_range(values), 4)
            row[f"{name}_ratio"] = ratio_to_peer(median, [float(run[name]) for run in runs.get(peer, [])])
        rows.append(row | {name: value for name, value in measured[0].items() if name not in MEASURES} | source)
    return rows


def ratio_to_peer(median: float, peer_values: list[float]) -> float | str:
    """The peer's median over ours; empty without a peer, or where ours is nothing."""
    return round(statistics.median(peer_values) / median, 3) if peer_values and median > 0 else ""


def describe(row: dict[str, object]) -> str:
    """A row of ``comparison_rows`` as one line for the terminal."""
    case = " ".join(str(value) for value in list(row.values())[: list(row).index("contender") + 1])
    units = {"cpu_s": "CPU s", "wall_s": "s", "peak_gib": "GiB peak", "extra_gib": "GiB extra"}
    shown = [f"{row[f'{name}_median']:g} {unit}" for name, unit in units.items() if f"{name}_median" in row]
    ratio = row.get("cpu_s_ratio") if row["contender"] != row["peer"] else ""
    return f"{case}: {', '.join(shown)}" + (f"; {ratio:g}x less CPU than {row['peer']}" if ratio else "")


def interquartile_range(values: list[float]) -> float:
    """Third quartile minus first; 0 for a single value."""
    if len(values) < 2:
        return 0.0
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return third - first


def provenance(script: str) -> dict[str, object]:
    """Commit, machine, versions and the command line of ``script``, a module such as ``benchmarks.inference``."""
    git = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return {
        "commit": git.stdout.strip() or "unknown",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version_of(name) for name in VERSIONS},
        "command": shlex.join(["python", "-m", script, *sys.argv[1:]]),
    }


def version_of(package: str) -> str:
    """The installed version, or nothing where the package is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def cpu_model() -> str:
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def append_row(path: Path, row: dict[str, object]) -> None:
    """Append one row, after a header if the file is new.

    Raises:
        ValueError: the file has other columns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    if not is_new:
        with path.open(newline="") as file:
            if next(csv.reader(file), []) != list(row):
                raise ValueError(f"{path} has other columns than this benchmark writes; move it away and run again.")
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def make_photo(size: str) -> np.ndarray:
    """The bundled photo, resized to WIDTHxHEIGHT; uint8 RGB [H,W,3]."""
    import numpy as np
    from PIL import Image

    width, height = (int(side) for side in size.split("x"))
    with Image.open(ROOT / "entitytransfer" / "assets" / "riders.jpg") as photo:
        return np.asarray(photo.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))
