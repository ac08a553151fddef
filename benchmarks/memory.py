"""Peak memory of a whole ``segment`` from a JPEG file, against the megapixels of the photo.

Every run is a fresh process. The rows of the dense way are not measured but reckoned: ours and, for each query and
pixel, the two float planes that it cannot do without. The growth from the smallest to the largest photo is compared
with that of an int32 id map. One row for each contender and size goes to ``results/memory.csv``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.common import RESULTS, alternate, append_row, comparison_rows, cost_of, describe, make_photo

MODULE = "benchmarks.memory"
SIZES = ("4243x2828", "6000x4000", "8660x5774")  # 12, 24 and 50 megapixels
DENSE_BYTES = 8  # for each query and pixel: a view's part and their sum
GROWTH_BOUND = 4.2


def main() -> None:
    """Measure every size, print the numbers and append them to the results."""
    arguments = parse_arguments()
    if arguments.measure:
        print(json.dumps(measure(arguments.model, Path(arguments.photo))))
        return
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in arguments.sizes:
            rows = measure_case(arguments.model, size, Path(folder), repeats=arguments.repeats)
            peaks[size] = rows[0]["peak_gib_median"]
            rows[0]["growth"], rows[1]["growth"] = (growth(peaks) if len(peaks) > 1 else ""), ""
            for row in rows:
                print(describe(row))
                if not arguments.dry_run:
                    append_row(arguments.out, row)
    if len(peaks) > 1:
        times = growth(peaks)
        print(f"from {arguments.sizes[0]} on {times} times the growth of the id map; the bound is {GROWTH_BOUND}")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano", help="name in the zoo")
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="WIDTHxHEIGHT of the photo")
    parser.add_argument("--repeats", type=int, default=3, help="fresh processes for each size")
    parser.add_argument("--out", type=Path, default=RESULTS / "memory.csv", help="CSV to append to")
    parser.add_argument("--dry-run", action="store_true", help="print only; write no row")
    parser.add_argument("--measure", choices=["ours"], help=argparse.SUPPRESS)  # the fresh process
    parser.add_argument("--photo", help=argparse.SUPPRESS)
    return parser.parse_args()


def measure_case(model: str, size: str, folder: Path, *, repeats: int) -> list[dict[str, object]]:
    """The rows of one size: ours, and the dense way reckoned from it."""
    from PIL import Image

    path = folder / f"{size}.jpg"
    Image.fromarray(make_photo(size)).save(path, quality=90)
    runs = alternate(MODULE, ["ours"], ["--model", model, "--photo", str(path)], repeats=repeats)
    runs["dense (reckoned)"] = [reckoned(run, megapixels(size)) for run in runs["ours"]]
    case = {"model": model, "size": size, "megapixels": round(megapixels(size), 1)}
    return comparison_rows(MODULE, case, runs, peer="dense (reckoned)")


def measure(model_name: str, path: Path) -> dict[str, float | int]:
    """Segment one file in this process and say what memory it took; loading the model comes before."""
    import torch

    import cropformer

    try:
        model = cropformer.load(model_name)
    except cropformer.InputError:  # nothing is bundled under this name
        model = cropformer.build_model(model_name).eval()
    entities, cost = cost_of(lambda: model.segment(path, crops=4, min_score=0.0))
    memory = {name: cost[name] for name in ("peak_gib", "extra_gib")}
    queries = model.architecture.num_queries
    return memory | {"queries": queries, "entities": len(entities), "threads": torch.get_num_threads()}


def reckoned(run: dict[str, float], megapixels: float) -> dict[str, float]:
    """What the dense way needs at least where ours took ``run``."""
    planes = DENSE_BYTES * run["queries"] * megapixels * 1e6 / 2**30
    return run | {name: run[name] + planes for name in ("peak_gib", "extra_gib")}


def megapixels(size: str) -> float:
    """Pixels of a WIDTHxHEIGHT photo / 10^6."""
    width, height = (int(side) for side in size.split("x"))
    return width * height / 1e6


def growth(peaks: dict[str, float]) -> float:
    """How the peak memory grows from the first to the last size, in the growth of an int32 id map."""
    first, *_, last = peaks
    id_map = 4 * (megapixels(last) - megapixels(first)) * 1e6 / 2**30
    return round((peaks[last] - peaks[first]) / id_map, 2)


if __name__ == "__main__":
    main()
