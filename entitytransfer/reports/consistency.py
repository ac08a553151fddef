"""The ``consistency`` command: two annotation files in, their agreement out, beside the paper's Table 1."""

from dataclasses import asdict
from pathlib import Path

from entitytransfer.consistency import Consistency, Pairing, compare, read_annotator
from entitytransfer.predictions import ensure_writable, write_json

_NAMES_SHOWN = 10
# Table 1 of the paper: annotators 2 and 1, 3 and 1, 3 and 2 over 500 images of EntitySeg.
PUBLISHED_AP = (90.6, 91.2, 92.1)
PUBLISHED_ACCURACY = (95.4, 94.8, 95.2)
_PAIRINGS = {
    "iou": "one to one with IoU > 0.5, the largest sum of IoUs (Hungarian)",
    "same": "identical masks only",
}


def report_consistency(
    first_path: Path, second_path: Path, *, pairing: Pairing = "iou", json_path: Path | None = None
) -> str:
    """Compare two annotation files, write what was asked for, and return the text to show.

    Raises:
        InputError: as `read_annotator` and `compare` do, or the JSON file cannot be written.
    """
    if json_path is not None:
        ensure_writable(json_path.parent)
    found = compare(read_annotator(first_path), read_annotator(second_path), pairing=pairing)
    if json_path is not None:
        write_json(json_path, as_json(found, first_path, second_path, pairing=pairing))
    sides = ((first_path, found.only_first, found.entities[0]), (second_path, found.only_second, found.entities[1]))
    lines = [f"Images in both files: {found.images}"]
    for path, left_out, entities in sides:
        lines.append(f"{path}: entities in them {entities}; other images, left out: {_left_out(left_out)}")
    return "\n".join([*lines, "", *_masks(found), *_categories(found, pairing)])


def as_json(found: Consistency, first_path: Path, second_path: Path, *, pairing: Pairing) -> dict:
    """Everything that was found, for programs; a number that is undefined is None."""
    content = asdict(found)
    for truth in ("first_as_truth", "second_as_truth"):
        content[truth] = {key: None if value != value else value for key, value in content[truth].items()}
    content["pairs"] |= {"pairing": pairing, "category_accuracy": found.pairs.accuracy}
    return {"first": str(first_path), "second": str(second_path)} | content


def _left_out(names: tuple[str, ...]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return f"{len(names)} ({', '.join(names[:_NAMES_SHOWN])}{more})"


def _masks(found: Consistency) -> list[str]:
    lines = ["Class-agnostic mask AP, in %, the other file's masks as predictions with score 1"]
    for name, metrics in (("first", found.first_as_truth), ("second", found.second_as_truth)):
        values = "  ".join(f"{key} {100 * metrics[key]:.1f}" for key in ("AP", "AP50", "AP75"))
        lines.append(f"  {name + ' file as truth':20}  {values}")
    return [*lines, f"  {'paper, Table 1(a)':20}  AP {' '.join(map(str, PUBLISHED_AP))}"]


def _categories(found: Consistency, pairing: Pairing) -> list[str]:
    pairs = found.pairs
    accuracy = "undefined" if pairs.accuracy is None else f"{100 * pairs.accuracy:.1f}"
    return [
        f"Category accuracy, in %, over {pairs.count} pairs of entities, {pairs.identical} of them of identical masks; "
        f"pairs: {_PAIRINGS[pairing]}",
        f"  {'both files':20}  {accuracy}",
        f"  {'paper, Table 1(b)':20}  {' '.join(map(str, PUBLISHED_ACCURACY))}",
    ]
