"""The files that the official scripts make of raw ADE20K, with equal content, and one of entities.

Only the ids of further instances of a class in an image differ: the official script draws them at random.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from cropformer import rle
from entitytransfer.console import followed
from entitytransfer.predictions import ensure_writable, write_json
from entitytransfer.preparation.processes import in_processes
from entitytransfer.preparation.segment_maps import ids_near_colors, write_map
from entitytransfer.readers.ade20k_classes import categories, things
from entitytransfer.readers.ade20k_files import AdeFiles
from entitytransfer.readers.ade20k_maps import RawMaps, paint
from entitytransfer.readers.label_map import read_size_hw
from entitytransfer.readers.panoptic_png import colors_of_ids

TASKS = ("semantic", "panoptic", "instance", "entity")

_CHUNK = 16  # images that a process gets at once
_ENTITY = {"id": 1, "name": "entity", "supercategory": "entity"}

Entry = dict[str, Any]


@dataclass(frozen=True)
class PreparedImage:
    """What the JSON files say about a photo.

    Attributes:
        entry: its own entry.
        segments: ``segments_info`` of the panoptic file.
        instances: annotations of the instance file, still without ids.
        entities: annotations of the entity file, still without ids.
    """

    entry: Entry
    segments: list[Entry]
    instances: list[Entry]
    entities: list[Entry]


def prepare_split(files: AdeFiles, *, workers: int) -> str:
    """Make what is missing of a split, and say in a line what that was.

    JSON files are written last, so that one that is there is complete; maps that an interrupted run left are kept.

    Args:
        files: of the split.
        workers: processes.

    Raises:
        InputError: a raw file is missing or damaged, or the place cannot be written.
    """
    stems = files.raw_stems(with_instances=True)
    missing = tuple(task for task in TASKS if not files.is_prepared(task))
    if not missing:
        return f"{files.split}: {len(stems)} images are prepared already"
    for folder in (files.prepared_semantic, files.panoptic_maps):
        ensure_writable(folder)
    made = in_processes(partial(prepare_image, files, tasks=missing), stems, workers=workers, at_once=_CHUNK)
    images = list(followed(made, name="images", total=len(stems)))
    contents = {"panoptic": _panoptic_content, "instance": _instance_content, "entity": _entity_content}
    for task in missing:
        if task in contents:
            write_json(files.json(task), contents[task](images))
    return f"{files.split}: {len(stems)} images, made {', '.join(missing)}"


def prepare_image(files: AdeFiles, stem: str, *, tasks: Sequence[str] = TASKS) -> PreparedImage:
    """Write the maps of a photo that some tasks need, and describe it for their JSON files.

    Raises:
        InputError: a raw map is missing or damaged, or the place cannot be written.
    """
    name = f"{stem}.png"
    height, width = size_hw = read_size_hw(files.semantic / name)
    maps = RawMaps(files.semantic / name, files.instances / name, size_hw)
    painted = list(maps.paint_segments())
    encoded = [rle.encode(segment.mask) for segment in painted]
    category_ids = [segment.category_id for segment in painted]
    own_ids = segment_ids(category_ids)
    ids = np.array([0, *own_ids], dtype=np.int32)[paint(iter(painted), size_hw).id_map]
    if "semantic" in tasks:
        write_map(files.prepared_semantic / name, maps.semantic())
    if "panoptic" in tasks:
        write_map(files.panoptic_maps / name, colors_of_ids(ids))
    instances = [pair for pair in zip(category_ids, encoded) if categories()[pair[0]].instance_class]
    entities = [(_ENTITY["id"], seen) for seen in rle.encode_id_map(ids, own_ids) if rle.area(seen)]
    return PreparedImage(
        entry={"id": stem, "file_name": f"{stem}.jpg", "width": width, "height": height},
        segments=[{"id": i} | _describe(*pair) for i, *pair in zip(own_ids, category_ids, encoded)],
        instances=[_annotate(stem, *pair) for pair in instances],
        entities=[_annotate(stem, *pair) for pair in entities],
    )


def segment_ids(category_ids: Iterable[int]) -> list[int]:
    """A panoptic id for each segment of an image: the colour of its category, or of further instances one near it."""
    colors = {one.category_id: one.color for one in categories()}
    return ids_near_colors(category_ids, colors=colors, things={one.category_id for one in things()})


def _describe(category_id: int, encoded: rle.RLE) -> Entry:
    """What segments and annotations have in common."""
    left, top, right, bottom = rle.bounding_box_xyxy(encoded).astype(int).tolist()
    box_xywh = [left, top, right - left, bottom - top]
    return {"category_id": category_id, "area": rle.area(encoded), "bbox": box_xywh, "iscrowd": 0}


def _annotate(stem: str, category_id: int, encoded: rle.RLE) -> Entry:
    return {"image_id": stem, **_describe(category_id, encoded), "segmentation": encoded}


def _panoptic_content(images: Sequence[PreparedImage]) -> Entry:
    annotations = [
        {"image_id": image.entry["id"], "file_name": f"{image.entry['id']}.png", "segments_info": image.segments}
        for image in images
    ]
    listed = [
        {"name": c.name, "id": c.category_id, "isthing": int(c.instance_class > 0), "color": list(c.color)}
        for c in categories()
    ]
    return {"images": [image.entry for image in images], "annotations": annotations, "categories": listed}


def _instance_content(images: Sequence[PreparedImage]) -> Entry:
    listed = [{"id": category.category_id, "name": category.instance_name} for category in things()]
    annotations = _numbered(entry for image in images for entry in image.instances)
    return {"images": [image.entry for image in images], "categories": listed, "annotations": annotations}


def _entity_content(images: Sequence[PreparedImage]) -> Entry:
    annotations = _numbered(entry for image in images for entry in image.entities)
    entries = [image.entry for image in images]
    return {"images": entries, "annotations": annotations, "categories": [_ENTITY]}


def _numbered(entries: Iterable[Entry]) -> list[Entry]:
    return [{"id": number} | entry for number, entry in enumerate(entries, start=1)]
