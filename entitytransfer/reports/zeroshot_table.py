"""The table of zero-shot recalls: what was measured in a folder of runs, above the rows of the paper's Table 6."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cropformer import InputError, atomic_path
from entitytransfer.predictions import write_json
from entitytransfer.readers.json_file import read_json

RUN, TABLE_JSON, TABLE_MD = "zeroshot.json", "table.json", "table.md"
METRIC = "AR@100"
COLUMNS = {"lvis": "LVIS", "ocid": "OCID", "camo": "CAMO", "fss": "FSS"}
AVERAGE = "Avg. AR"
# Table 6 in percent; all models are Mask2Former on Swin-L but SAM.
PUBLISHED = {
    "COCO panoptic (paper, Swin-L)": (24.38, 39.94, 43.80, 64.96),
    "COCO entity (paper, Swin-L)": (27.75, 45.88, 59.70, 75.60),
    "SAM-H, prompted (paper)": (49.25, 55.17, 75.33, 73.60),
    "EntitySeg (paper, Swin-L)": (33.56, 76.63, 73.20, 86.26),
}
_CAPTION = (
    "AR@100 at IoU 0.5 in percent, class-agnostic, pooled over all annotated entities of a dataset. Rows of the paper "
    "are its Table 6, not measured here."
)


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        name: what was measured.
        recalls: dataset → AR@100 as a fraction, None where undefined.
    """

    name: str
    recalls: Mapping[str, float | None]

    @property
    def average(self) -> float | None:
        """The plain mean over the four datasets of the paper; None unless all are there."""
        values = [self.recalls.get(dataset) for dataset in COLUMNS]
        return None if None in values else sum(values) / len(values)


@dataclass(frozen=True)
class Run:
    """The recall of one method on one dataset, as it is kept on disk.

    Attributes:
        row: which row of the table it belongs to.
        dataset: which column.
        metrics: name → value, None where undefined.
        fates: number of entities found, missed, merged and split.
        protocol: every choice behind the numbers.
        about: which images they are of, in words.
    """

    row: str
    dataset: str
    metrics: Mapping[str, float | None]
    fates: Mapping[str, int]
    protocol: Mapping[str, Any]
    about: str

    def save(self, folder: Path) -> None:
        """Write ``zeroshot.json``."""
        write_json(folder / RUN, asdict(self))


def read_runs(out: Path) -> list[Run]:
    """The runs in the folders of a folder, in the order of the columns, then of the rows' names.

    Raises:
        InputError: a file in one of them was not written by a run.
    """
    runs = []
    for path in out.glob(f"*/{RUN}"):
        try:
            runs.append(Run(**read_json(path)))
        except TypeError as error:
            raise InputError(f"{path} was not written by zeroshot; delete it.") from error
    places = {dataset: place for place, dataset in enumerate(COLUMNS)}
    return sorted(runs, key=lambda run: (places.get(run.dataset, len(places)), run.dataset, run.row))


def write_table(out: Path) -> str:
    """Join all runs of a folder to ``table.json``, fractions, and ``table.md``, percentages; returns the latter."""
    runs = read_runs(out)
    measured = [
        Row(name, {run.dataset: run.metrics[METRIC] for run in runs if run.row == name})
        for name in dict.fromkeys(run.row for run in runs)
    ]
    published = [Row(name, dict(zip(COLUMNS, (value / 100 for value in row)))) for name, row in PUBLISHED.items()]
    others = sorted({run.dataset for run in runs} - COLUMNS.keys())
    text = "\n".join(
        [
            *_lines([*measured, *published], others),
            "",
            _CAPTION,
            "",
            *(f"- {run.row}, {COLUMNS.get(run.dataset, run.dataset)}: {run.about}" for run in runs),
        ]
    )
    content = {name: [_record(row) for row in rows] for name, rows in (("rows", measured), ("paper", published))}
    write_json(out / TABLE_JSON, {"metric": METRIC, "caption": _CAPTION, **content})
    with atomic_path(out / TABLE_MD) as temporary:
        temporary.write_text(f"{text}\n", encoding="utf-8")
    return text


def _record(row: Row) -> dict[str, Any]:
    return {"name": row.name, "recalls": dict(row.recalls), "average": row.average}


def _lines(rows: Sequence[Row], others: Sequence[str]) -> list[str]:
    """A Markdown table whose columns are aligned, for those who read it as it is."""
    cells = [["AR@100", *COLUMNS.values(), AVERAGE, *others]]
    for row in rows:
        values = [*map(row.recalls.get, COLUMNS), row.average, *map(row.recalls.get, others)]
        cells.append([row.name, *("-" if value is None else f"{100 * value:.2f}" for value in values)])
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = [" | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells]
    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    return [f"| {lines[0]} |", f"|{rule}|", *(f"| {line} |" for line in lines[1:])]
