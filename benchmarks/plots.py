"""Write the tables of BENCHMARKS.md and the plots beside it from ``results/*.csv``; nothing there is typed by hand.

The page marks each table with ``<!-- begin NAME -->`` and ``<!-- end NAME -->``; what stands between them is replaced.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from benchmarks import tables
from benchmarks.common import RESULTS, ROOT
from benchmarks.tables import Row, Section, Target
from cropformer import InputError, atomic_path

PAGE = ROOT / "BENCHMARKS.md"
PLOTS = Path(__file__).parent / "plots"

PHOTO = {"curve": "published", "model": "swin_t", "size": "1200x1800", "contender": "ours"}
EAGER, OPENVINO, OPENVINO_BF16 = (
    {"size": "1216x800", "contender": name} for name in ("ours", "ours openvino", "ours openvino bf16")
)
FUSION = {"size": "4500x2700", "crops": "4", "queries": "100", "contender": "ours"}
LARGE = {"size": "8660x5774", "contender": "ours"}
STEP = {"size": "768x512", "contender": "ours"}
OURS = {"contender": "ours"}
AP_1000, UVO_30 = (
    {"task": task, "units": units, "contender": "ours"} for task, units in (("entity", "1000"), ("uvo", "30"))
)
MEMORY_1000, MEMORY_40 = ({"task": task, "units": units} for task, units in (("entity", "1000"), ("uvo", "40")))
CROPS, NO_CROPS, PEER = (
    {"model": "swin_t", "against": against, "contender": "ours"}
    for against in ("photos, 4 crops", "photos, no crops", "transformers")
)
MAPS, HCE = ({"case": case, "contender": "ours"} for case in ("maps", "hce"))
TARGETS = (
    Target("1200x1800, Swin-T, 5 views, against published: CPU time", "inference", PHOTO, "cpu_s_ratio", 2.5),
    Target("the same: peak memory of the process", "inference", PHOTO, "peak_gib_median", 2.5, "GiB", at_least=False),
    Target("one view, Swin-T, fp32, against transformers: CPU time", "network", EAGER, "cpu_s_ratio", 1.7),
    Target("the same: extra memory", "network", EAGER, "extra_gib_ratio", round(1 / 0.7, 2)),
    Target("the same with the OpenVINO backbone: CPU time", "network", OPENVINO, "cpu_s_ratio", 2.3),
    Target("the same with it in bf16: CPU time", "network", OPENVINO_BF16, "cpu_s_ratio", 2.3),
    Target("fusion 2700x4500, 100 queries, 5 views, against dense: CPU time", "fusion", FUSION, "cpu_s_ratio", 10),
    Target("the same: extra memory", "fusion", FUSION, "extra_gib_median", 0.37, "GiB", at_least=False),
    Target("training step, 2 views of 512x768: CPU time", "training", STEP, "cpu_s_median", 43.8, "s", at_least=False),
    Target("the same: peak memory of the process", "training", STEP, "peak_gib_median", 4.8, "GiB", at_least=False),
    Target("loading crops of 2700 px photos, against a plain loader: CPU time", "loader", OURS, "cpu_s_ratio", 3),
    Target(
        "entity AP, 1,000 images x 100 predictions, against pycocotools: CPU time", "scoring", AP_1000, "cpu_s_ratio", 4
    ),
    Target("track AP at UVO's size, against merging pairs: CPU time", "scoring", UVO_30, "cpu_s_ratio", 10),
    Target(
        "peak memory from 200 to 1,000 images, in the files' growth",
        "scoring_memory",
        MEMORY_1000,
        "growth_of_files",
        0.5,
        at_least=False,
    ),
    Target(
        "peak memory from 10 to 40 videos, in the files' growth",
        "scoring_memory",
        MEMORY_40,
        "growth_of_files",
        0.1,
        at_least=False,
    ),
    Target("VPQ and STQ, against reading every window: CPU time", "scoring_video_panoptic", OURS, "cpu_s_ratio", 15),
    Target("five map measures, 2048x1536, against the plain way: CPU time", "scoring_maps", MAPS, "cpu_s_ratio", 1),
    Target("HCE, 2048x1536, against the plain way: CPU time", "scoring_maps", HCE, "cpu_s_ratio", 1),
    Target("clip 640x360, Swin-T, windows of 4, against photos: CPU time", "video_peers", CROPS, "cpu_s_ratio", 1.5),
    Target("the same, against photos without crops: CPU time", "video_peers", NO_CROPS, "cpu_s_ratio", 1.5),
    Target("the same, against Mask2Former of transformers by frame: CPU time", "video_peers", PEER, "cpu_s_ratio", 1.5),
    Target(
        "peak memory of a clip from 100 to 5,000 frames",
        "video_memory",
        {"frames": "5000"},
        "peak_growth",
        1.05,
        at_least=False,
    ),
    Target("peak memory from 12 to 50 MP, in id maps' growth", "memory", LARGE, "growth", 4.2, at_least=False),
)
SECTIONS = (
    Section("photo", "inference", {"curve": "published"}, ("curve",)),
    Section("megapixels", "inference", {"curve": "megapixels"}, ("curve", "crops", "views", "queries")),
    Section("queries", "inference", {"curve": "queries"}, ("curve", "crops", "views", "megapixels")),
    Section("views", "inference", {"curve": "views"}, ("curve", "crops", "queries", "megapixels")),
    Section("network", "network"),
    Section("network_cuda", "network_cuda"),
    Section("deformable_attention", "deformable_attention"),
    Section("deformable_attention_cuda", "deformable_attention_cuda"),
    Section("fusion", "fusion"),
    Section("memory", "memory"),
    Section("video", "video"),
    Section("video_peers", "video_peers"),
    Section("video_memory", "video_memory"),
    Section("training", "training"),
    Section("training_cuda", "training_cuda"),
    Section("loader", "loader"),
    Section("scoring", "scoring"),
    Section("scoring_memory", "scoring_memory"),
    Section("scoring_video_panoptic", "scoring_video_panoptic"),
    Section("scoring_maps", "scoring_maps"),
)
CURVES = {"megapixels": "megapixels of the photo", "queries": "queries", "views": "views"}


def main() -> None:
    """Rewrite the tables of the page and draw the plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of CSVs to read")
    parser.add_argument("--page", type=Path, default=PAGE, help="page whose tables are rewritten")
    parser.add_argument("--plots", type=Path, default=PLOTS, help="folder for the SVGs")
    arguments = parser.parse_args()
    results = tables.read_all(arguments.results)
    page = fill_page(arguments.page.read_text(), generate(results))
    with atomic_path(arguments.page) as temporary:
        temporary.write_text(page)
    draw_curves(results.get("inference", []), arguments.plots)


def generate(results: dict[str, list[Row]]) -> dict[str, str]:
    """The Markdown of every marked place of the page."""
    texts = {
        section.name: tables.measurements(
            tables.select(results.get(section.file, []), section.selection), hidden=section.hidden
        )
        for section in SECTIONS
    }
    return texts | {
        "targets": tables.targets(results, TARGETS),
        "losses": tables.losses(results),
        "machines": tables.machines(results),
        "commands": tables.commands(results),
    }


def fill_page(page: str, texts: dict[str, str]) -> str:
    """The page with every marked place replaced by its text.

    Raises:
        InputError: a text has no place on the page.
    """
    for name, text in texts.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        place = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if not place.search(page):
            raise InputError(f"the page has no place for {name}; add the lines {begin} and {end} to it")
        page = place.sub(lambda _, filled=f"{begin}\n{text}\n{end}": filled, page)
    return page


def draw_curves(rows: list[Row], folder: Path) -> None:
    """CPU time and peak memory against megapixels, queries and views; one SVG for each.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise InputError("the plots need matplotlib; run `pip install matplotlib`") from error
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "cropformer"  # the same numbers give the same file
    folder.mkdir(parents=True, exist_ok=True)
    for curve, label in CURVES.items():
        chosen = tables.select(rows, {"curve": curve})
        if chosen:
            draw_curve(chosen, curve, label=label, path=folder / f"{curve}.svg")


def draw_curve(rows: list[Row], column: str, *, label: str, path: Path) -> None:
    """One line for each contender, seconds left and memory right."""
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for panel, measure, unit in zip(panels, ("cpu_s", "peak_gib"), ("CPU seconds", "peak memory, GiB")):
        for contender in dict.fromkeys(row["contender"] for row in rows):
            line = sorted(
                (float(row[column]), float(row[f"{measure}_median"])) for row in rows if row["contender"] == contender
            )
            panel.plot(*zip(*line), marker="o", label=contender)
        panel.set(xlabel=label, ylabel=unit, xlim=(0, None), ylim=(0, None))
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
