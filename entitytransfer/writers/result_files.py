"""Official result files of every task: what ``score`` and the servers of benchmarks take.

In the folder of a run: ``predictions.json`` with COCO results, or with panoptic ones whose PNGs are in
``predictions_png``; ``labels/IMAGE.png`` with the category id of every pixel; ``maps/IMAGE.png`` in 8-bit grey. Every
file appears whole, the JSON after its PNGs.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import numpy as np

from cropformer import Entities, InputError, atomic_path
from entitytransfer.adapter import Result, Sample
from entitytransfer.classes import Classes
from entitytransfer.predictions import ensure_writable, write_png
from entitytransfer.writers.maps import MapWriter
from entitytransfer.writers.panoptic import PanopticWriter

JSON = "predictions.json"
PANOPTIC_PNGS = "predictions_png"
LABELS = "labels"
MAPS = "maps"

Results = Iterable[tuple[Sample, Result]]
Write = Callable[[Results, Classes, Path], None]


def write_result_files(task: str, results: Results, *, classes: Classes, out: Path) -> None:
    """Write the results of a set.

    Args:
        task: of the head that they come from, see ``adapter.Head``.
        results: every sample of the set, and what was found in it. Grey maps are in their files already, see
            ``write_map``; only that there are no others is made sure of.
        classes: what the labels of the results mean.
        out: folder of the run.

    Raises:
        InputError: there is no such task, an image's id is no file name, PNGs of another set are there, or a file
            cannot be written.
    """
    _writer(task)(results, classes, out)


def check_task(task: str) -> None:
    """Raise `InputError` unless there are result files for a task."""
    _writer(task)


def write_map(out: Path, image_id: int | str, grey: np.ndarray) -> PurePosixPath:
    """Write the grey map of an image, uint8 [H,W], and give its path in the folder of the run."""
    path = MAPS / _png_name(image_id)
    MapWriter(out / path.parent).write(path.stem, grey)
    return path


def _writer(task: str) -> Write:
    match task:
        case "entity" | "instance":
            return _write_coco
        case "panoptic":
            return _write_panoptic
        case "semantic":
            return _write_labels
        case "dichotomous":
            return _check_maps
    raise InputError(
        f"There are no result files for the task {task!r}; the head must be one of entity, instance, panoptic, "
        "semantic, dichotomous."
    )


def _write_coco(results: Results, classes: Classes, out: Path) -> None:
    """COCO results, image by image."""
    with atomic_path(out / JSON) as temporary, temporary.open("w", encoding="utf-8") as file:
        separator = "["
        for sample, entities in results:
            for record, category_id in zip(entities.to_coco(sample.image_id), _category_ids(entities, classes)):
                file.write(separator + json.dumps(record | {"category_id": category_id}))
                separator = ",\n"
        file.write("[]" if separator == "[" else "]")


def _write_panoptic(results: Results, classes: Classes, out: Path) -> None:
    with PanopticWriter(out / JSON, out / PANOPTIC_PNGS) as writer:
        for sample, entities in results:
            categories = dict(enumerate(_category_ids(entities, classes), start=1))
            # An id may hold a slash, and the names of the PNGs are ours to choose.
            name = quote(str(sample.image_id), safe="#")
            writer.write(sample.image_id, entities.id_map(), categories, name=name)


def _write_labels(results: Results, classes: Classes, out: Path) -> None:
    """Label maps; a pixel in no region gets a value that is no class."""
    nothing = next(value for value in (255, 65535) if value not in classes.category_ids)
    dtype = np.min_scalar_type(max(nothing, *classes.category_ids))
    written = []
    for sample, entities in results:
        name = _png_name(sample.image_id)
        values = np.array([nothing, *_category_ids(entities, classes)], dtype)
        ensure_writable(out / LABELS / name.parent)
        write_png(out / LABELS / name, values[entities.id_map()])
        written.append(name)
    _refuse_others(out / LABELS, written)


def _check_maps(results: Results, _: Classes, out: Path) -> None:
    _refuse_others(out / MAPS, [_png_name(sample.image_id) for sample, _ in results])


def _category_ids(entities: Entities, classes: Classes) -> list[int]:
    """What files call the class of each entity."""
    return [classes.category_ids[label] for label in entities.labels.tolist()]


def _png_name(image_id: int | str) -> PurePosixPath:
    """The path of an image's PNG in a folder of one for each image; an id may name folders of its own."""
    name = PurePosixPath(f"{image_id}.png")
    if name.is_absolute() or ".." in name.parts or name.name.startswith("."):
        raise InputError(f"The image id {image_id!r} is no file name; correct the list of images.")
    return name


def _refuse_others(folder: Path, names: Sequence[PurePosixPath]) -> None:
    """Tools score every PNG of a folder, also those that another set left there."""
    others = {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")} - set(map(str, names))
    if others:
        raise InputError(f"{folder / min(others)} is of no image of the set; choose another out=, or delete it.")
