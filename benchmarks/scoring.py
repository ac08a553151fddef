"""What `score` costs for masks and tracks, next to the official tools on the same generated files.

Every run is a fresh process, the contenders in turns; it counts the whole call, with reading and checking of the files,
but not the imports. The official way of tracks is measured on ``--peer-videos`` and its seconds are multiplied up; the
column measured_on says so. The numbers of both are compared on the files that both read. The memory of ours, beside
the size of the files, is that above the imported modules. One row for each contender goes to ``results/scoring.csv``.

With ``--memory`` only the peak memory of ours is measured, at two sizes of each task, and how much it grows for each
byte by which the files grow. These rows go to ``results/scoring_memory.csv``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.common import RESULTS, alternate, append_row, comparison_rows, cost_of, describe

MODULE = "benchmarks.scoring"
TOLERANCE = 1e-12


@dataclass(frozen=True)
class Case:
    """A task and its number of images or videos."""

    task: str
    units: int

    @property
    def peer(self) -> str:
        """The official tool."""
        return "COCOeval" if self.task == "entity" else "YTVOSeval"

    @property
    def unit(self) -> str:
        """What there are so many of."""
        return "images" if self.task == "entity" else "videos"

    def write(self, folder: Path) -> Path:
        """Generate the files, unless they are there already, in a folder of their own."""
        from benchmarks.scoring_sets import write_images, write_videos

        path = folder / f"{self.task}{self.units}"
        if not path.exists():
            path.mkdir()
            if self.task == "entity":
                write_images(path, images=self.units, truths=15, predictions=100, size_hw=(480, 640))
            else:
                write_videos(path, videos=self.units, frames=90, truths=13, predictions=100, size_hw=(720, 1280))
        return path


CASES = (Case("entity", 250), Case("entity", 1000), Case("uvo", 8), Case("uvo", 30))
MEMORY_CASES = (Case("entity", 200), Case("entity", 1000)), (Case("uvo", 10), Case("uvo", 40))


def main() -> None:
    """Measure every case, print the numbers and append them to the results."""
    arguments = parse_arguments()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, Path(arguments.folder))))
        return
    with nullcontext(arguments.files) if arguments.files else tempfile.TemporaryDirectory() as folder:
        for row in measure_memory(Path(folder)) if arguments.memory else measure_all(arguments, Path(folder)):
            print(f"{describe(row)}; {row['memory_gib']} GiB, files {row['files_gib']} GiB")
            if not arguments.dry_run:
                append_row(arguments.out or RESULTS / f"scoring{'_memory' if arguments.memory else ''}.csv", row)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", help='one case instead of all, such as {"task": "uvo", "units": 30}')
    parser.add_argument("--repeats", type=int, default=3, help="fresh processes for each case and contender")
    parser.add_argument("--peer-videos", type=int, default=2, help="videos that YTVOSeval is measured on")
    parser.add_argument("--files", type=Path, help="folder that keeps the generated files for another run")
    parser.add_argument("--memory", action="store_true", help="measure only how peak memory grows")
    parser.add_argument("--out", type=Path, help="CSV to append to")
    parser.add_argument("--dry-run", action="store_true", help="print only; write no row")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # the fresh process
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def measure_all(arguments: argparse.Namespace, folder: Path) -> Iterator[dict[str, object]]:
    """The rows of all cases, or of the one that was asked for."""
    for case in CASES if arguments.case is None else [Case(**json.loads(arguments.case))]:
        yield from measure_case(case, folder, repeats=arguments.repeats, peer_videos=arguments.peer_videos)


def measure_memory(
    folder: Path, pairs: Sequence[tuple[Case, Case]] = MEMORY_CASES, *, repeats: int = 1
) -> Iterator[dict[str, object]]:
    """The rows of two sizes of each task; the larger one says by how many bytes the peak grows for one of the files."""
    for pair in pairs:
        runs = [alternate(MODULE, ["ours"], ["--folder", str(case.write(folder))], repeats=repeats) for case in pair]
        few, many = (of_case["ours"][0] for of_case in runs)
        growth = (many["extra_gib"] - few["extra_gib"]) / (many["files_gib"] - few["files_gib"])
        for case, run, grown in zip(pair, (few, many), ("", round(growth, 3))):
            row = finish(run, 1.0, "", 0.0) | {"growth_of_files": grown}
            kept = {name: row[name] for name in ("cpu_s", "memory_gib", "files_gib", "growth_of_files")}
            yield from comparison_rows(MODULE, asdict(case), {"ours": [kept]}, peer="")


def measure_case(case: Case, folder: Path, *, repeats: int, peer_videos: int) -> list[dict[str, object]]:
    """The rows of one case.

    Raises:
        RuntimeError: the two have other numbers.
    """
    few = case if case.task == "entity" else replace(case, units=min(peer_videos, case.units))
    files, few_files = (["--folder", str(one.write(folder))] for one in (case, few))
    if few == case:
        runs = alternate(MODULE, ["ours", case.peer], files, repeats=repeats)
        compared = runs["ours"][0]["metrics"]
    else:
        runs = {"ours": [], case.peer: []}
        for _ in range(repeats):
            runs["ours"] += alternate(MODULE, ["ours"], files, repeats=1)["ours"]
            runs[case.peer] += alternate(MODULE, [case.peer], few_files, repeats=1)[case.peer]
        (alone,) = alternate(MODULE, ["ours"], few_files, repeats=1)["ours"]
        compared = alone["metrics"]
    difference = largest_difference(compared, runs[case.peer][0]["metrics"])
    factor = case.units / few.units
    finished = {
        "ours": [finish(run, 1.0, f"{case.units} {case.unit}", difference) for run in runs["ours"]],
        case.peer: [finish(run, factor, f"{few.units} {case.unit}", difference) for run in runs[case.peer]],
    }
    return comparison_rows(MODULE, asdict(case), finished, peer=case.peer)


def finish(run: dict[str, object], factor: float, measured_on: str, difference: float) -> dict[str, object]:
    """What a row takes from a run that did one ``factor``-th of the case; its memory is not multiplied."""
    return {
        "cpu_s": run["cpu_s"] * factor,
        "wall_s": run["wall_s"] * factor,
        "measured_on": measured_on + (", multiplied up" if factor > 1 else ""),
        "memory_gib": round(run["extra_gib"], 4),
        "files_gib": round(run["files_gib"], 3),
        "max_difference": difference,
    }


def largest_difference(ours: list[float | None], theirs: list[float]) -> float:
    """Between the twelve numbers; what we call None is -1 there.

    Raises:
        RuntimeError: it is above what rounding explains.
    """
    differences = [abs((-1 if one is None else one) - other) for one, other in zip(ours, theirs, strict=True)]
    if max(differences) > TOLERANCE:
        raise RuntimeError(f"Our numbers {ours} are not the official ones {theirs}.")
    return max(differences)


def measure(contender: str, folder: Path) -> dict[str, object]:
    """Score the files of a folder in this process, and say what it took and what came out."""
    import entitytransfer.scoring.entity
    import entitytransfer.scoring.uvo  # noqa: F401  # imported here, so that no import is measured
    from benchmarks.official_scoring import official_entity_ap, official_track_ap
    from entitytransfer.score_task import score

    files = {"ground_truth": folder / "gt.json", "predictions": folder / "pred.json"}
    calls = {
        "COCOeval": lambda: official_entity_ap(**files),
        "YTVOSeval": lambda: official_track_ap(**files),
        "ours": lambda: list(ours(**files).values()),
    }

    def ours(**files: Path) -> dict[str, float | None]:
        is_video = folder.name.startswith("uvo")
        return score("uvo", **files) if is_video else score("entity", **files, boundary=False)

    metrics, cost = cost_of(calls[contender])
    size = sum(path.stat().st_size for path in files.values()) / 2**30
    return cost | {"metrics": metrics, "files_gib": size}


if __name__ == "__main__":
    main()
