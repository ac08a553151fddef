"""COCO ground truth and results as they are scored: every record checked, every mask a sound RLE, every id a number.

Files are read a few images at a time, however they are sorted. H, W image pixels · I images.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cropformer import InputError, rle
from entitytransfer.readers.coco_set import ONE_CLASS, CocoSet, split_ranges
from entitytransfer.readers.json_file import paused_collector
from entitytransfer.readers.json_lists import GroupedRecords, scan_list, scan_object
from entitytransfer.readers.records import Id, Record, by_id, check_boxes, fields, numbers, records, shown
from entitytransfer.readers.run_lengths import check_rles
from entitytransfer.readers.segmentations import encode_polygons

_FEDERATED = ("neg_category_ids", "not_exhaustive_category_ids")  # of an LVIS image: surely absent, partly annotated
_PART_BYTES = 2**20  # of JSON that is in memory at once

Annotations = Callable[[range], list[dict]]


@dataclass(frozen=True)
class CocoTruth:
    """Ground truth with numbers for ids, from 1 in the order of the file's own ids.

    Attributes:
        source: the file or folder.
        image_numbers: the source's own image id → number.
        images: id, height, width of image number 1, 2, ..., and the lists of category ids that LVIS has for it.
        categories: COCO categories with numbers for ids.
        category_numbers: the source's own category id → number.
        annotations: from a range of image numbers to their COCO annotations with image_id, category_id, iscrowd,
            area and a compressed RLE; it raises InputError if one is damaged.
        annotation_bytes: how much there is to read for each image, int64 [I].
    """

    source: Path
    image_numbers: dict[Id, int]
    images: list[dict]
    categories: list[dict]
    category_numbers: dict[Id, int]
    annotations: Annotations
    annotation_bytes: np.ndarray

    def size_hw(self, image_number: int) -> tuple[int, int]:
        """Height and width in pixels."""
        image = self.images[image_number - 1]
        return image["height"], image["width"]


@dataclass(frozen=True)
class CocoFiles:
    """A result file and its ground truth, to be read a few images at a time; otherwise like a `CocoSet`.

    Attributes:
        truth: the ground truth.
        predictions: by image.
        any_category: whether a category that the ground truth does not have is accepted.
        changes: what is done to every part, in this order.
    """

    truth: CocoTruth
    predictions: GroupedRecords
    any_category: bool
    changes: tuple[Callable[[CocoSet], CocoSet], ...] = ()

    @property
    def images(self) -> list[dict]:
        """As in a `CocoSet`."""
        return self.truth.images

    @property
    def categories(self) -> list[dict]:
        """As in a `CocoSet`."""
        return self._changed(CocoSet([], self.truth.categories, [], [])).categories

    def as_one_class(self) -> "CocoFiles":
        """See `CocoSet.as_one_class`."""
        return self._with(CocoSet.as_one_class)

    def sorted_by_class(self) -> "CocoFiles":
        """See `CocoSet.sorted_by_class`."""
        return self._with(CocoSet.sorted_by_class)

    def best(self, top_k: int | None) -> "CocoFiles":
        """See `CocoSet.best`."""
        return self._with(lambda part: part.best(top_k))

    def without_overlap(self) -> "CocoFiles":
        """See `CocoSet.without_overlap`."""
        return self._with(CocoSet.without_overlap)

    def parts(self) -> Iterator[CocoSet]:
        """Read a few images at a time, in their order.

        Raises:
            InputError: a record is damaged; with file and record.
        """
        for first, last in split_ranges(self.truth.annotation_bytes + self.predictions.sizes(), _PART_BYTES):
            yield self._changed(self._read(first, last))

    @paused_collector()
    def _read(self, first: int, last: int) -> CocoSet:
        truths = self.truth.annotations(range(first + 1, last + 1))
        listed, groups = self.predictions.read(first, last)
        sizes_hw = [self.truth.size_hw(group + 1) for group in groups]
        categories = _result_categories(listed, self.truth, any_category=self.any_category)
        scores = numbers(listed, "score")
        check_boxes(listed)
        segmentations = fields(listed, "segmentation")
        rles, areas = check_rles(segmentations, sizes_hw, lambda index, problem: listed[index].error(problem))
        columns = zip(groups, categories, scores, areas.tolist(), rles)
        return CocoSet(
            images=self.images[first:last],
            categories=self.truth.categories,
            truths=truths,
            results=[
                {"image_id": group + 1, "category_id": category, "score": score, "area": area, "segmentation": encoded}
                for group, category, score, area, encoded in columns
            ],
        )

    def _with(self, change: Callable[[CocoSet], CocoSet]) -> "CocoFiles":
        return replace(self, changes=(*self.changes, change))

    def _changed(self, part: CocoSet) -> CocoSet:
        for change in self.changes:
            part = change(part)
        return part


@paused_collector()
def read_coco_truth(path: Path) -> CocoTruth:
    """Scan COCO-instance or LVIS ground truth: polygons and RLEs, with or without iscrowd and area.

    Raises:
        InputError: the file is not that, or a record is damaged or contradicts another; with file and record. What one
            annotation says of itself is checked when its image is read.
    """
    lists = {"images": ("image", ()), "annotations": ("annotation", ("id", "image_id"))}
    content = scan_object(path, lists=lists, fields=("categories",))
    listed, annotations = content["images"], content["annotations"]
    images = by_id(listed.read(np.arange(len(listed))))
    categories = by_id(records(content.get("categories", []), source=path, kind="category"))
    annotations.check_unique("id")
    image_numbers = {image_id: number for number, image_id in enumerate(images, start=1)}
    category_numbers = {category_id: number for number, category_id in enumerate(categories, start=1)}
    numbered = [_image(one, number, category_numbers) for number, one in enumerate(images.values(), start=1)]
    grouped = GroupedRecords.by(annotations, "image_id", image_numbers)
    return CocoTruth(
        source=path,
        image_numbers=image_numbers,
        images=numbered,
        categories=[one.content | {"id": number} for number, one in enumerate(categories.values(), start=1)],
        category_numbers=category_numbers,
        annotations=lambda some: _annotations(*grouped.read(some.start - 1, some.stop - 1), numbered, category_numbers),
        annotation_bytes=grouped.sizes(),
    )


@paused_collector()
def read_coco_results(path: Path, truth: CocoTruth, *, any_category: bool) -> CocoFiles:
    """Scan a COCO result file for this ground truth.

    Args:
        path: a JSON list of objects with image_id, category_id, score and a segmentation (RLE).
        truth: what the predictions are about.
        any_category: whether a category that the ground truth does not have is accepted, as where all count as
            one class; it then comes after the others.

    Raises:
        InputError: the file is not that, or a prediction is about an unknown image; with file and record. What one
            prediction says of itself is checked when its image is read.
    """
    predictions = scan_list(path, "prediction", fields=("image_id",))
    return CocoFiles(truth, GroupedRecords.by(predictions, "image_id", truth.image_numbers), any_category)


def _annotations(
    listed: Sequence[Record], groups: Sequence[int], images: Sequence[dict], category_numbers: dict[Id, int]
) -> list[dict]:
    """COCO annotations from the records of images with these indices."""
    sizes_hw = [(images[group]["height"], images[group]["width"]) for group in groups]
    rles, areas = _check_masks(listed, sizes_hw)
    return [
        {
            "image_id": group + 1,
            "category_id": _category(one, category_numbers),
            "iscrowd": int(one.flag("iscrowd")),
            "area": _area(one, default=area),
            "segmentation": encoded,
        }
        for one, group, encoded, area in zip(listed, groups, rles, areas.tolist())
    ]


def _image(record: Record, number: int, category_numbers: dict[Id, int]) -> dict:
    height, width = record.size_hw()
    image = {"id": number, "height": height, "width": width}
    for name in _FEDERATED:
        if name in record.content:
            listed = record.field(name)
            if not isinstance(listed, list) or not all(type(one) in (int, str) for one in listed):
                raise record.error(f"'{name}' must be a list of category ids, not {shown(listed)}")
            image[name] = [category_numbers[one] for one in listed if one in category_numbers]
    return image


def _category(record: Record, known: dict[Id, int]) -> int:
    """A file without categories has one class."""
    return record.lookup("category_id", known) if known else ONE_CLASS


def _result_categories(listed: Sequence[Record], truth: CocoTruth, *, any_category: bool) -> list[int]:
    known, other = truth.category_numbers, len(truth.categories) + 1
    ids = [one.content.get("category_id") for one in listed]
    if {*map(type, ids)} <= {int, str} and (any_category or known.keys() >= {*ids}):
        return [known.get(one, other) for one in ids]
    if any_category:
        return [one.lookup_or("category_id", known, other) for one in listed]
    return [one.lookup("category_id", known) for one in listed]


def _area(record: Record, *, default: int) -> float:
    area = record.number("area") if "area" in record.content else float(default)
    if area < 0:
        raise record.error(f"'area' must be at least 0, not {area}")
    return area


def _check_masks(
    annotations: Sequence[Record], sizes_hw: Sequence[tuple[int, int]]
) -> tuple[list[rle.RLE], np.ndarray]:
    segmentations = []
    for one, size_hw in zip(annotations, sizes_hw):
        one.check_box(one.content.get("bbox"))
        segmentations.append(_rle_of(one, one.field("segmentation"), size_hw))
    return check_rles(segmentations, sizes_hw, lambda index, problem: annotations[index].error(problem))


def _rle_of(record: Record, segmentation: Any, size_hw: tuple[int, int]) -> Any:
    if not isinstance(segmentation, list):
        return segmentation
    try:
        return encode_polygons(segmentation, size_hw)
    except InputError as error:
        raise InputError(f"{record.source}, {record.kind} {record.index}: {error}") from error
