"""What ``segment`` costs from photo to entities, next to the published pipeline with the same weights.

Every run is a fresh process, ours and the published way in turns; loading the model is not counted in the seconds. The
published way (``published_pipeline``) holds every mask of every query at image size, so it runs
only where the machine has the memory. One row of medians for each case and contender goes to
``results/inference.csv``.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.common import RESULTS, alternate, append_row, comparison_rows, cost_of, describe, make_photo

if TYPE_CHECKING:
    import numpy as np

    import cropformer

MODULE = "benchmarks.inference"
PEER = "published"


@dataclass(frozen=True)
class Case:
    """One photo for one model: ``size`` is WIDTHxHEIGHT, ``crops`` 0, 4 or 8 besides the full view."""

    model: str = "nano"
    size: str = "1200x1800"
    crops: int = 4
    queries: int = 100

    @classmethod
    def parse(cls, text: str) -> Case:
        """From MODEL,SIZE,CROPS,QUERIES, of which the last ones may be left out."""
        model, size, crops, queries = (text.split(",") + ["1200x1800", "4", "100"][text.count(",") :])[:4]
        return cls(model, size, int(crops), int(queries))

    @property
    def text(self) -> str:
        """What ``parse`` reads."""
        return f"{self.model},{self.size},{self.crops},{self.queries}"

    @property
    def megapixels(self) -> float:
        """Pixels of the photo / 10^6."""
        width, height = (int(side) for side in self.size.split("x"))
        return width * height / 1e6

    @property
    def published_gib(self) -> float:
        """Memory that the published way needs: about 32 bytes for each query and pixel, and the network's own."""
        network = 1.5 if self.model == "nano" else 7.0
        return network * (1 + self.crops) / 5 + 32 * self.queries * self.megapixels * 1e6 / 2**30


CURVES = {
    "published": [Case("swin_t")],
    "megapixels": [Case(size=size) for size in ("640x480", "1200x1800", "3000x4000", "4000x6000", "5774x8660")],
    "queries": [Case(queries=queries) for queries in (100, 200, 300)],
    "views": [Case(crops=crops) for crops in (0, 4, 8)],
}
ALONE = ("queries", "views")  # curves without the peer, which would double the time of all others together


def main() -> None:
    """Measure every case of every curve, print the numbers and append them to the results."""
    arguments = parse_arguments()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.case[0])))
        return
    curves = {"chosen": arguments.case} if arguments.case else {name: CURVES[name] for name in arguments.curves}
    for curve, cases in curves.items():
        for case in cases:
            for row in measure_case(curve, case, repeats=arguments.repeats):
                print(describe(row), flush=True)
                if not arguments.dry_run:
                    append_row(arguments.out, row)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", nargs="+", default=list(CURVES), choices=list(CURVES), help="which cases")
    parser.add_argument(
        "--case",
        nargs="+",
        type=Case.parse,
        help="these instead: MODEL,WIDTHxHEIGHT,CROPS,QUERIES, such as nano,640x480",
    )
    parser.add_argument("--repeats", type=int, default=3, help="fresh processes for each case and contender")
    parser.add_argument("--out", type=Path, default=RESULTS / "inference.csv", help="CSV to append to")
    parser.add_argument("--dry-run", action="store_true", help="print only; write no row")
    parser.add_argument("--measure", choices=["ours", PEER], help=argparse.SUPPRESS)  # the fresh process
    return parser.parse_args()


def measure_case(curve: str, case: Case, *, repeats: int) -> list[dict[str, object]]:
    """The rows of one case on one curve."""
    columns = {"curve": curve, **asdict(case), "views": 1 + case.crops, "megapixels": round(case.megapixels, 2)}
    runs = run_case(case, repeats=repeats, alone=curve in ALONE)
    return comparison_rows(MODULE, columns, runs, peer=PEER)


@lru_cache  # curves cross in the default case
def run_case(case: Case, *, repeats: int, alone: bool) -> dict[str, list[dict[str, object]]]:
    """The runs of one case; ours alone if asked for, or where the published way does not fit into memory."""
    available_gib = memory_gib()
    if not alone and case.published_gib > available_gib:
        print(f"{case.text}: the published way needs {case.published_gib:.0f} GiB, {available_gib:.0f} are available")
    contenders = ["ours"] if alone or case.published_gib > available_gib else ["ours", PEER]
    return alternate(MODULE, contenders, ["--case", case.text], repeats=repeats)


def memory_gib() -> float:
    """What the machine has left, without swap; everything it has where it does not tell."""
    info = Path("/proc/meminfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    left = [int(line.split()[1]) / 2**20 for line in lines if line.startswith("MemAvailable:")]
    return left[0] if left else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


# --- the fresh process


def measure(contender: str, case: Case) -> dict[str, object]:
    """Segment one photo in this process and say what it took."""
    import torch

    model, weights = load_model(case)
    photo = make_photo(case.size)
    segment = {"ours": segment_ours, PEER: segment_published}[contender]
    found, cost = cost_of(lambda: segment(model, photo, case))
    settings = {"short_side": model.settings.short_side, "max_side": model.settings.max_side}
    return {**cost, "weights": weights, **settings, "entities": found, "threads": torch.get_num_threads()}


def load_model(case: Case) -> tuple[cropformer.EntitySegmenter, str]:
    """The model of a case, and whether its weights are "trained" or "random"."""
    import torch

    import cropformer

    try:
        model, weights = cropformer.load(case.model), "trained"
    except cropformer.InputError:  # nothing is bundled under this name
        torch.manual_seed(0)
        model, weights = cropformer.build_model(case.model).eval(), "random"
    decoder = model.query_decoder
    for table in (decoder.query_features, decoder.query_positions):
        rows = torch.arange(case.queries) % len(table.weight)  # more queries than trained ones: the same again
        table.weight = torch.nn.Parameter(table.weight.detach()[rows])
    return model, weights


def segment_ours(model: cropformer.EntitySegmenter, photo: np.ndarray, case: Case) -> int:
    """Number of entities; with every query fused, the costliest case."""
    return len(model.segment(photo, crops=case.crops, min_score=0.0))


def segment_published(model: cropformer.EntitySegmenter, photo: np.ndarray, case: Case) -> int:
    """Number of entities with a pixel, the published way."""
    from benchmarks.published_pipeline import published_pipeline

    return sum(score > 0 for score in published_pipeline(model, photo, crops=case.crops).scores)


if __name__ == "__main__":
    main()
