"""The rows of ``results/*.csv`` as Markdown: tables of measurements, targets, and where we lose."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.common import RESULTS, VERSIONS

Row = dict[str, str]
HEADINGS = {"cpu_s": "CPU s", "wall_s": "wall s", "peak_gib": "peak GiB", "extra_gib": "extra GiB"}
NOTES = {
    "relative_error": "relative error of the masks",
    "max_difference": "largest difference",
    "images_per_s": "images/s, first run",
    "floor_s": "memory floor s",
    "entities": "entities",
    "weights": "weights",
    "growth": "growth, in that of the id map",
    "gpu": "GPU",
    "measured_on": "measured on",
    "frames_run": "frames run",
    "memory_gib": "memory GiB",
    "files_gib": "files GiB",
    "growth_of_files": "memory growth, in that of the files",
    "peak_growth": "peak, in that of the first",
    "frames_per_s": "frames/s",
    "decoding_share": "decoding",
    "network_share": "network",
    "head_share": "head",
    "linking_share": "linking",
    "writing_share": "writing",
    "tracks": "tracks",
}
MACHINE = ("commit", "date", "cpu", "cores", "threads", "python", *VERSIONS)
NOT_MEASURED = "Not measured yet."


@dataclass(frozen=True)
class Target:
    """A promise about one number of one row: ``column`` is at least, or else at most, ``bound``."""

    what: str
    file: str
    selection: Row
    column: str
    bound: float
    unit: str = "x"
    at_least: bool = True

    def cells(self, rows: list[Row]) -> list[str]:
        """What was promised, what was measured, and whether it holds."""
        promise = f"{'≥' if self.at_least else '≤'} {self.bound:g} {self.unit}"
        found = select(rows, self.selection)
        if not found or not found[-1].get(self.column):
            return [self.what, promise, "not measured", ""]
        value = float(found[-1][self.column])
        reached = value >= self.bound if self.at_least else value <= self.bound
        return [self.what, promise, f"{value:.3g} {self.unit}", "yes" if reached else "**no**"]


@dataclass(frozen=True)
class Section:
    """One generated table: the rows of a file that a selection keeps, without the columns that say nothing."""

    name: str
    file: str
    selection: Row = field(default_factory=dict)
    hidden: tuple[str, ...] = ()


def read_rows(path: Path) -> list[Row]:
    """The newest row of each case and contender, in the order in which cases first came; none without the file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        names = case_columns(reader.fieldnames or [])
        return list({tuple(row[name] for name in [*names, "contender"]): row for row in reader}.values())


def read_all(folder: Path = RESULTS) -> dict[str, list[Row]]:
    """Every file of results by its stem."""
    return {path.stem: read_rows(path) for path in sorted(folder.glob("*.csv"))}


def case_columns(names: Sequence[str]) -> list[str]:
    """The columns that say what was measured; they stand before the contender."""
    return list(names)[: list(names).index("contender")]


def select(rows: list[Row], selection: Row) -> list[Row]:
    """The rows that agree with every column of the selection."""
    return [row for row in rows if all(row.get(name) == value for name, value in selection.items())]


def markdown(header: list[str], lines: list[list[str]]) -> str:
    """A Markdown table."""
    ruled = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in ruled)


def measurements(rows: list[Row], *, hidden: tuple[str, ...] = ()) -> str:
    """Case, contender, median (interquartile range) of each measure, and how many times less than the peer's."""
    if not rows:
        return NOT_MEASURED
    names = [name for name in case_columns(list(rows[0])) if name not in hidden]
    measures = [name for name in HEADINGS if f"{name}_median" in rows[0]]
    ratios = [name for name in measures if name != "wall_s" or "cpu_s" not in measures]
    notes = [name for name in NOTES if any(row.get(name) for row in rows)]
    header = [*names, "contender", *(HEADINGS[name] for name in measures)]
    header += [f"{HEADINGS[name]}, peer / ours" for name in ratios] + [NOTES[name] for name in notes]
    lines = [
        [
            *(row[name] for name in (*names, "contender")),
            *(f"{float(row[f'{name}_median']):.3g} ({float(row[f'{name}_iqr']):.2g})" for name in measures),
            *(f"{float(row[f'{name}_ratio']):.2f}" if row[f"{name}_ratio"] else "" for name in ratios),
            *(row[name] for name in notes),
        ]
        for row in rows
    ]
    return markdown(header, lines)


def targets(results: dict[str, list[Row]], promised: Sequence[Target]) -> str:
    """What was promised, measured, reached."""
    lines = [target.cells(results.get(target.file, [])) for target in promised]
    return markdown(["what", "target", "measured", "reached"], lines)


def losses(results: dict[str, list[Row]]) -> str:
    """Every measurement in which the peer is better than we are."""
    lines = []
    for file, rows in results.items():
        for row in rows:
            worse = [name for name in HEADINGS if 0 < float(row.get(f"{name}_ratio") or 0) < 1]
            case = ", ".join(row[name] for name in case_columns(list(row)) if row[name])
            if row["contender"] != row["peer"]:
                lines += [
                    [file, case, row["contender"], row["peer"], HEADINGS[name], row[f"{name}_ratio"]] for name in worse
                ]
    header = ["benchmark", "case", "contender", "peer", "measure", "peer / ours"]
    return markdown(header, lines) if lines else "Nowhere in what was measured."


def machines(results: dict[str, list[Row]]) -> str:
    """Commit, machine and versions behind each file of results."""
    lines = []
    for file, rows in results.items():
        seen = dict.fromkeys(tuple(row.get(name, "") for name in MACHINE) for row in rows)
        lines += [[file, *values] for values in seen]
    return markdown(["benchmark", *MACHINE], lines) if lines else NOT_MEASURED


def commands(results: dict[str, list[Row]]) -> str:
    """The command lines that wrote the rows."""
    seen = dict.fromkeys(row["command"] for rows in results.values() for row in rows if row.get("command"))
    return "\n".join(f"    {command}" for command in seen) or NOT_MEASURED
