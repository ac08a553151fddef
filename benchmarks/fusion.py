"""What fusion alone costs, next to the published way that holds every mask of every query at image size.

The queries are those of the bundled model on the bundled photo, made once for each layout of views and kept in a
folder of their own; the photo's size enters only when masks are placed in it. Views have the published 800 pixels.
Every run is a fresh process, the contenders in turns. Where the dense way would need more than ``--memory`` GiB it
runs with as many of the queries as fit; the column queries_used says how many, and its seconds and memory are then
multiplied up. One row for each contender goes to ``results/fusion.csv``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.common import RESULTS, alternate, append_row, comparison_rows, cost_of, describe, make_photo

if TYPE_CHECKING:
    import cropformer

MODULE = "benchmarks.fusion"
DENSE_BYTES = 20  # for each query and pixel: four planes and a view's part of them at a time
CONTENDERS = ("ours", "ours official", "dense")


@dataclass(frozen=True)
class Case:
    """One photo: ``size`` is WIDTHxHEIGHT, ``crops`` 0, 4 or 8 besides the full view."""

    size: str = "4500x2700"
    crops: int = 4
    queries: int = 100

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width."""
        width, height = (int(side) for side in self.size.split("x"))
        return height, width

    def dense_queries(self, memory_gib: float) -> int:
        """How many queries the dense way has the memory for."""
        height, width = self.size_hw
        return min(self.queries, int(memory_gib * 2**30 / (DENSE_BYTES * height * width)))


CASES = (
    *(Case(size=size) for size in ("640x480", "1800x1200", "4500x2700", "8660x5774")),
    *(Case(queries=queries) for queries in (200, 300)),
    *(Case(crops=crops) for crops in (0, 8)),
)


def main() -> None:
    """Measure every case, print the numbers and append them to the results."""
    arguments = parse_arguments()
    if arguments.measure:
        case = Case(**json.loads(arguments.case))
        print(json.dumps(measure(arguments.measure, case, arguments.queries, memory_gib=arguments.memory)))
        return
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES if arguments.case is None else [Case(**json.loads(arguments.case))]:
            for row in measure_case(case, Path(folder), repeats=arguments.repeats, memory_gib=arguments.memory):
                print(describe(row))
                if not arguments.dry_run:
                    append_row(arguments.out, row)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", help='one case instead of all, such as {"size": "640x480", "crops": 0}')
    parser.add_argument("--repeats", type=int, default=3, help="fresh processes for each case and contender")
    parser.add_argument("--memory", type=float, default=6.0, help="GiB that the dense way may take")
    parser.add_argument("--out", type=Path, default=RESULTS / "fusion.csv", help="CSV to append to")
    parser.add_argument("--dry-run", action="store_true", help="print only; write no row")
    parser.add_argument("--measure", choices=CONTENDERS, help=argparse.SUPPRESS)  # the fresh process
    parser.add_argument("--queries", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure_case(case: Case, folder: Path, *, repeats: int, memory_gib: float) -> list[dict[str, object]]:
    """The rows of one case; without the dense way where not even ten queries fit."""
    fits = case.dense_queries(memory_gib) >= min(10, case.queries)
    contenders = CONTENDERS if fits else CONTENDERS[:-1]
    path = folder / f"{case.size}_{case.crops}.pt"
    arguments = ["--case", json.dumps(asdict(case)), "--queries", str(path), "--memory", str(memory_gib)]
    if not path.exists():  # in a process of its own, so that the peak of the network is nobody's
        alternate(MODULE, ["ours"], arguments, repeats=1)
    runs = alternate(MODULE, contenders, arguments, repeats=repeats)
    return comparison_rows(MODULE, asdict(case), runs, peer="dense")


def measure(contender: str, case: Case, path: Path, *, memory_gib: float) -> dict[str, float | int]:
    """Fuse in this process and say what it took; makes the queries first if they are not there yet."""
    import torch

    import cropformer
    from benchmarks.dense_pipeline import dense_fuse

    if not path.exists():
        torch.save(make_queries(case), path)
        return {}
    queries, views = torch.load(path, weights_only=False)
    used = case.dense_queries(memory_gib) if contender == "dense" else case.queries
    queries = repeated(queries, used)
    if contender == "dense":
        members = list(range(case.crops + 1))
        result, cost = cost_of(lambda: dense_fuse(queries, views, members=members, official=True))
        entities = sum(score > 0 for score in result.scores)
        cost = scaled(cost, case.queries / used)
    else:
        compat = "official" if contender.endswith("official") else None
        results, cost = cost_of(lambda: cropformer.fuse(queries, views, compat=compat))
        entities = int((results[0].scores > 0).sum())
    return cost | {"queries_used": used, "entities": entities, "threads": torch.get_num_threads()}


def make_queries(case: Case) -> tuple[cropformer.Queries, cropformer.Views]:
    """What the bundled model says about the bundled photo at the size of the case, and its views without pixels."""
    import torch

    import cropformer

    views = cropformer.make_views(make_photo(case.size), crops=case.crops, short_side=800, max_side=1333)
    with torch.inference_mode():
        queries = cropformer.load("nano")(views)
    blank = torch.zeros(1).expand(views.pixels.shape)
    return replace(queries, intermediate=(), per_view=None), replace(views, pixels=blank)


def repeated(queries: cropformer.Queries, count: int) -> cropformer.Queries:
    """The first ``count`` queries; beyond those of the model the same ones again, each moved a little."""
    import torch

    index = torch.arange(count) % queries.embeddings.shape[1]
    moved = (torch.arange(count) >= queries.embeddings.shape[1]).float()[:, None]
    noise = torch.randn(queries.mask_embeddings.shape[-1], generator=torch.Generator().manual_seed(0))
    return replace(
        queries,
        embeddings=queries.embeddings[:, index],
        class_logits=queries.class_logits[:, index],
        mask_embeddings=queries.mask_embeddings[:, index] * (1 + 0.1 * noise * moved),
    )


def scaled(cost: dict[str, float], factor: float) -> dict[str, float]:
    """The dense way's cost with ``factor`` times as many queries: its seconds and extra memory are in proportion."""
    extra = cost["extra_gib"] * (factor - 1)
    grown = {"cpu_s": cost["cpu_s"] * factor, "wall_s": cost["wall_s"] * factor}
    return cost | grown | {"peak_gib": cost["peak_gib"] + extra, "extra_gib": cost["extra_gib"] + extra}


if __name__ == "__main__":
    main()
