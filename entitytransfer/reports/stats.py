"""The ``stats`` command: a row beside those of the paper's Table 2, the definition of every number, and the plots."""

from collections.abc import Mapping
from pathlib import Path

from entitytransfer.clip_sample import refuse_clips
from entitytransfer.datasets import bind_function
from entitytransfer.predictions import ensure_writable, write_json
from entitytransfer.reports.stats_plots import PLOTS_NAME, draw_distributions, require_matplotlib
from entitytransfer.stats import DEFINITIONS, Statistics, measure_set, summarise

JSON_NAME = "stats.json"
# Column of Table 2 → the statistic in it and how it is written.
COLUMNS = {
    "ImageRes (avg)": ("image_resolution", ".1f"),
    "EntityNum (avg)": ("entities_mean", ".1f"),
    "EntityNum (max)": ("entities_max", "d"),
    "Complexity": ("complexity", ".3f"),
    "Simplicity": ("simplicity", ".3f"),
    "Valid Area": ("valid_area", ".3f"),
}
# Rows of Table 2; COCO and ADE20K are their panoptic sets.
PUBLISHED = {
    "COCO (paper)": ("522.5", "11.2", "95", "0.758", "0.581", "0.891"),
    "ADE20K (paper)": ("461.3", "13.6", "255", "0.802", "0.606", "0.914"),
    "EntitySeg (paper)": ("2700.7", "18.1", "236", "0.719", "0.538", "0.999"),
}


def report_statistics(
    settings: Mapping[str, str | bool],
    *,
    out_dir: Path | None = None,
    json_path: Path | None = None,
    workers: int = 1,
) -> str:
    """Measure a dataset, write what was asked for, and return the text to show.

    Args:
        settings: ``dataset``, ``root``, and arguments of that dataset's ``read``.
        out_dir: folder for ``stats.json`` and ``stats.png``, made if needed.
        json_path: a file that gets the same as ``stats.json``; its folder is made if needed.
        workers: processes that measure.

    Raises:
        InputError: a setting is missing or wrong, the dataset is missing, damaged or empty, a place cannot be
            written, or plots are asked for without matplotlib.
    """
    if out_dir is not None:
        require_matplotlib()
        ensure_writable(out_dir)
    if json_path is not None:
        ensure_writable(json_path.parent)
    samples = bind_function(settings, "read")()
    refuse_clips(samples, instead="entitytransfer doctor counts the clips, frames and tracks of a set")
    measures = measure_set(samples, workers=workers)
    statistics = summarise(measures)
    content = {"settings": dict(settings), "statistics": statistics.to_dict(), "definitions": DEFINITIONS}
    written = [json_path] if json_path is not None else []
    if out_dir is not None:
        draw_distributions(measures, out_dir / PLOTS_NAME, title=str(settings["dataset"]))
        written.append(out_dir / JSON_NAME)
    for path in written:
        write_json(path, content)
    return "\n\n".join([table(str(settings["dataset"]), statistics), definitions(statistics)])


def table(name: str, statistics: Statistics) -> str:
    """The statistics as a row of Table 2, above the paper's rows."""
    values = statistics.to_dict()
    own = tuple(format(values[statistic], spec) for statistic, spec in COLUMNS.values())
    rows = [("Dataset", *COLUMNS), (name, *own), *((label, *cells) for label, cells in PUBLISHED.items())]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        "  ".join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])]).rstrip() for cells in rows
    )


def definitions(statistics: Statistics) -> str:
    """Every statistic on a line, with what it means."""
    lines = []
    for name, value in statistics.to_dict().items():
        number = str(value) if isinstance(value, int) else f"{value:.4g}" if value < 1 else f"{value:.1f}"
        lines.append(f"{name} = {number}: {DEFINITIONS[name]}")
    return "\n".join(lines)
