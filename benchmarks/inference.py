"""What ``segment`` costs from photo to entities: CPU seconds, wall seconds and peak memory.

Every repeat runs in a fresh process, so that no cache and no earlier peak helps or harms it. Loading the model is
not counted in the seconds and is counted in the memory. One row of medians and interquartile ranges for each model
and size is appended to ``results/inference.csv``.
"""

from __future__ import annotations

import argparse
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
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the parent stays small: on Linux a child's peak starts at the size of the process it came from
    import numpy as np

RESULTS = Path(__file__).parent / "results" / "inference.csv"
CROPS = 4
SWIN_T_LIMIT_GIB = 4.0  # for one photo of 1200x1800; the published code needs 14.6
MEASURES = ("cpu_s", "wall_s", "peak_gib")


def main() -> None:
    """Measure every model at every size, print the numbers and append them to the results."""
    arguments = parse_arguments()
    if arguments.measure:
        print(json.dumps(measure_once(arguments.models[0], arguments.sizes[0])))
        return
    for model in arguments.models:
        for size in arguments.sizes:
            row = measure_case(model, size, repeats=arguments.repeats)
            print(describe(row))
            if not arguments.dry_run:
                append_row(arguments.out, row)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["nano", "swin_t"], help="names in the zoo")
    parser.add_argument("--sizes", nargs="+", default=["640x480", "1200x1800"], help="WIDTHxHEIGHT of the photo")
    parser.add_argument("--repeats", type=int, default=5, help="fresh processes for each model and size")
    parser.add_argument("--out", type=Path, default=RESULTS, help="CSV to append to")
    parser.add_argument("--dry-run", action="store_true", help="print only; write no row")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)  # the fresh process
    return parser.parse_args()


def measure_once(model_name: str, size: str) -> dict[str, float | int | str]:
    """Segment one photo in this process and say what it took."""
    import torch

    import cropformer

    try:
        model, weights = cropformer.load(model_name), "trained"
    except cropformer.InputError:  # nothing is bundled under this name
        torch.manual_seed(0)
        model, weights = cropformer.build_model(model_name).eval(), "random"
    photo = make_photo(size)
    cpu, wall = cpu_seconds(), time.perf_counter()
    entities = model.segment(photo, crops=CROPS, min_score=0.0)  # 0: every query is fused, the costliest case
    return {
        "cpu_s": cpu_seconds() - cpu,
        "wall_s": time.perf_counter() - wall,
        "peak_gib": peak_gib(),
        "weights": weights,
        "short_side": model.settings.short_side,
        "max_side": model.settings.max_side,
        "entities": len(entities),
        "threads": torch.get_num_threads(),
    }


def make_photo(size: str) -> np.ndarray:
    """A smooth colourful picture, uint8 RGB [H,W,3]."""
    import numpy as np
    from PIL import Image

    width, height = (int(side) for side in size.split("x"))
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def cpu_seconds() -> float:
    """User and system time of this process and all its threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_gib() -> float:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)  # bytes on macOS, KiB elsewhere


def measure_case(model: str, size: str, *, repeats: int) -> dict[str, object]:
    """Median and interquartile range over fresh processes, with everything needed to repeat them."""
    command = [sys.executable, __file__, "--measure", "--models", model, "--sizes", size]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    runs = []
    for _ in range(repeats):
        finished = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=environment)
        runs.append(json.loads(finished.stdout.splitlines()[-1]))
    row: dict[str, object] = {"model": model, "size": size, "crops": CROPS, "repeats": repeats}
    row |= {name: runs[0][name] for name in ("weights", "short_side", "max_side", "entities")}
    for name in MEASURES:
        values = [run[name] for run in runs]
        row[f"{name}_median"] = round(statistics.median(values), 3)
        row[f"{name}_iqr"] = round(interquartile_range(values), 3)
    return row | {"threads": runs[0]["threads"]} | provenance()


def interquartile_range(values: list[float]) -> float:
    """Third quartile minus first; 0 for a single value."""
    if len(values) < 2:
        return 0.0
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return third - first


def provenance() -> dict[str, object]:
    """Commit, machine, versions and the command line."""
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return {
        "commit": git.stdout.strip() or "unknown",
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
        "numpy": importlib.metadata.version("numpy"),
        "command": shlex.join(["python", "benchmarks/inference.py", *sys.argv[1:]]),
    }


def cpu_model() -> str:
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def describe(row: dict[str, object]) -> str:
    """One line for the terminal; the promised bound where the row is about it."""
    text = (
        f"{row['model']} ({row['weights']} weights, short side {row['short_side']}) at {row['size']}: "
        f"{row['cpu_s_median']} CPU s, {row['wall_s_median']} s, {row['peak_gib_median']} GiB"
    )
    if (row["model"], row["size"]) == ("swin_t", "1200x1800"):
        kept = row["peak_gib_median"] < SWIN_T_LIMIT_GIB
        text += f"; {'below' if kept else 'ABOVE'} the bound of {SWIN_T_LIMIT_GIB:g} GiB"
    return text


def append_row(path: Path, row: dict[str, object]) -> None:
    """Append one row, after a header if the file is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if is_new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
