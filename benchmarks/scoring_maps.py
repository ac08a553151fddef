"""What one image of DIS5K costs to score: the five map measures, and HCE with and without a kept skeleton.

The peer is the plain way of ``plain_maps``, in turns with ours in fresh processes, on a generated mask with fine
borders and a soft map of it; the column check must be equal. As toolboxes exist that spare themselves the loop over
256 thresholds, the map measures are compared with what remains of the plain way without F and E. The case images
scores several from files on all processors.
One row for each contender goes to ``results/scoring_maps.csv``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.common import RESULTS, alternate, append_row, comparison_rows, cost_of, describe

if TYPE_CHECKING:
    import numpy as np

MODULE = "benchmarks.scoring_maps"
CASES = {
    "maps": ("ours", "plain without F and E", "plain"),
    "hce": ("ours", "ours, skeleton kept", "plain"),
    "images": ("ours", "one by one"),
}
PEERS = {"maps": "plain without F and E", "hce": "plain", "images": "one by one"}


def main() -> None:
    """Measure every case, print the numbers and append them to the results."""
    arguments = parse_arguments()
    if arguments.measure:
        print(json.dumps(MEASURE[arguments.case](arguments.measure, arguments.size, arguments.images)))
        return
    for case in CASES if arguments.case is None else [arguments.case]:
        passed = ["--case", case, "--size", arguments.size, "--images", str(arguments.images)]
        runs = alternate(MODULE, CASES[case], passed, repeats=arguments.repeats)
        for row in comparison_rows(MODULE, {"case": case, "size": arguments.size}, runs, peer=PEERS[case]):
            print(describe(row))
            if not arguments.dry_run:
                append_row(arguments.out, row)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, help="one case instead of all")
    parser.add_argument("--size", default="2048x1536", help="WIDTHxHEIGHT of the image")
    parser.add_argument("--images", type=int, default=8, help="how many the case images scores")
    parser.add_argument("--repeats", type=int, default=3, help="fresh processes for each contender")
    parser.add_argument("--out", type=Path, default=RESULTS / "scoring_maps.csv", help="CSV to append to")
    parser.add_argument("--dry-run", action="store_true", help="print only; write no row")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # the fresh process
    return parser.parse_args()


def measure_maps(contender: str, size: str, _: int) -> dict[str, float]:
    """The five map measures of one image."""
    from benchmarks.plain_maps import curve_measures, pixel_measures, stretched
    from entitytransfer.evaluators.dichotomous import measure_map

    prediction, mask = make_image(size)
    if contender == "ours":
        measures, cost = cost_of(lambda: measure_map(prediction, mask))
        return cost | {"check": round(measures.weighted_f + measures.s + measures.absolute_error, 9)}

    def plain() -> dict[str, float]:
        values = stretched(prediction)
        return pixel_measures(values, mask) | ({} if "without" in contender else curve_measures(values, mask))

    measures, cost = cost_of(plain)
    return cost | {"check": round(measures["weighted_f"] + measures["s"] + measures["absolute_error"], 9)}


def measure_hce(contender: str, size: str, _: int) -> dict[str, float]:
    """The correction effort of one image."""
    from benchmarks.plain_maps import correction_effort
    from entitytransfer.evaluators.human_correction import human_correction_effort
    from entitytransfer.evaluators.skeletons import skeleton_of

    prediction, mask = make_image(size)
    predicted = prediction > 128
    if contender == "plain":
        parts, cost = cost_of(lambda: correction_effort(predicted, mask))
        return cost | {"check": sum(parts)}
    skeleton = None if contender == "ours" else skeleton_of(mask)
    effort, cost = cost_of(lambda: human_correction_effort(predicted, mask, skeleton=skeleton))
    return cost | {"check": effort.total}


def measure_images(contender: str, size: str, images: int) -> dict[str, float]:
    """Several images from files, on all processors or on one; CPU seconds, and wall seconds that tell them apart."""
    from entitytransfer.score_task import score
    from entitytransfer.writers.maps import MapWriter

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        maps, masks = MapWriter(folder / "pred"), MapWriter(folder / "gt")
        for seed in range(images):
            prediction, mask = make_image(size, seed=seed)
            maps.write(str(seed), prediction)
            masks.write(str(seed), mask.astype("uint8") * 255)
        paths = {"ground_truth": folder / "gt", "predictions": folder / "pred"}
        workers = 1 if contender == "one by one" else None
        metrics, cost = cost_of(lambda: score("dis5k", **paths, workers=workers))
    return cost | {"check": metrics["HCE"]}


MEASURE = {"maps": measure_maps, "hce": measure_hce, "images": measure_images}


def make_image(size: str, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A soft map uint8 [H,W] and a mask bool [H,W]: blobs whose borders and holes are fine, the map a little off."""
    import cv2
    import numpy as np

    width, height = (int(side) for side in size.split("x"))
    generator = np.random.default_rng(seed)

    def noise(cells: int) -> np.ndarray:
        grid = generator.random((3 * cells, 4 * cells), dtype=np.float32)
        return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)

    relief = noise(2) + 0.15 * noise(25) - 0.08
    mask = relief > 0.5
    soft = 128 + 800 * (relief - 0.5 + 0.12 * (noise(12) - 0.5))
    return np.clip(soft, 0, 255).astype(np.uint8), mask


if __name__ == "__main__":
    main()
