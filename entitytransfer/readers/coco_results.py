"""COCO ground truth and results as they are scored: every record checked, every mask a sound RLE, every id a number.

H, W image pixels.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cropformer import InputError, rle
from entitytransfer.readers.coco_json import encode_polygons, load_json
from entitytransfer.readers.json_file import paused_collector, read_json
from entitytransfer.readers.records import Id, Record, by_id, records, shown
from entitytransfer.readers.run_lengths import check_rles

ONE_CLASS = 1
_FEDERATED = ("neg_category_ids", "not_exhaustive_category_ids")  # of an LVIS image: surely absent, partly annotated
OVERLAP = ("keep", "remove")


@dataclass(frozen=True)
class CocoTruth:
    """Ground truth with numbers for ids, from 1 in the order of the file's own ids.

    Attributes:
        source: the file or folder.
        image_numbers: the source's own image id → number.
        images: id, height, width of image number 1, 2, ..., and the lists of category ids that LVIS has for it.
        categories: COCO categories with numbers for ids.
        category_numbers: the source's own category id → number.
        annotations: COCO annotations with id, image_id, category_id, iscrowd, area and a compressed RLE.
    """

    source: Path
    image_numbers: dict[Id, int]
    images: list[dict]
    categories: list[dict]
    category_numbers: dict[Id, int]
    annotations: list[dict]

    def size_hw(self, image_number: int) -> tuple[int, int]:
        """Height and width in pixels."""
        image = self.images[image_number - 1]
        return image["height"], image["width"]


@dataclass(frozen=True)
class CocoSet:
    """Ground truth and predictions of a set of images: the terms of COCO, with numbers for all ids.

    Attributes:
        images: id, height and width, numbered from 1.
        categories: id and more, numbered from 1.
        truths: id, image_id, category_id, iscrowd, area and segmentation, a compressed RLE.
        results: image_id, category_id, score, area (pixels of the mask) and segmentation.
    """

    images: list[dict]
    categories: list[dict]
    truths: list[dict]
    results: list[dict]

    @paused_collector()
    def as_one_class(self) -> "CocoSet":
        """Every annotation and prediction in one class, in their own order."""
        truths, results = ([one | {"category_id": ONE_CLASS} for one in many] for many in (self.truths, self.results))
        return replace(self, categories=[{"id": ONE_CLASS, "name": "object"}], truths=truths, results=results)

    def sorted_by_class(self) -> "CocoSet":
        """In the order in which COCOeval takes records without regard to classes (``useCats=0``): it breaks ties."""
        truths, results = (sorted(many, key=lambda one: one["category_id"]) for many in (self.truths, self.results))
        return replace(self, truths=truths, results=results)

    def best(self, top_k: int | None) -> "CocoSet":
        """Only the ``top_k`` best predictions of every image, of equal ones the first; None = all."""
        if top_k is None:
            return self
        order = sorted(range(len(self.results)), key=lambda index: -self.results[index]["score"])
        seen = [0] * (len(self.images) + 1)
        kept = []
        for index in order:
            image_id = self.results[index]["image_id"]
            seen[image_id] += 1
            if seen[image_id] <= top_k:
                kept.append(index)
        return replace(self, results=[self.results[index] for index in sorted(kept)])

    def without_overlap(self) -> "CocoSet":
        """Of predictions that share pixels only the one with the best score keeps them; of equal ones the first."""
        by_image: dict[int, list[int]] = defaultdict(list)
        for index in sorted(range(len(self.results)), key=lambda index: -self.results[index]["score"]):
            by_image[self.results[index]["image_id"]].append(index)
        results = list(self.results)
        for image_id, indices in by_image.items():
            size_hw = self.images[image_id - 1]["height"], self.images[image_id - 1]["width"]
            id_map = rle.decode_id_map([results[index]["segmentation"] for index in indices], size_hw)
            for index, visible in zip(indices, rle.encode_id_map(id_map, np.arange(1, len(indices) + 1))):
                results[index] = results[index] | {"segmentation": visible, "area": rle.area(visible)}
        return replace(self, results=results)


@paused_collector()
def read_coco_truth(path: Path) -> CocoTruth:
    """Read COCO-instance or LVIS ground truth: polygons and RLEs, with or without iscrowd and area.

    Raises:
        InputError: the file is not that, or a record is damaged or contradicts another; with file and record.
    """
    content = load_json(path, fields=("images", "annotations"))
    images = by_id(records(content["images"], source=path, kind="image"))
    categories = by_id(records(content.get("categories", []), source=path, kind="category"))
    annotations = records(content["annotations"], source=path, kind="annotation")
    by_id([one for one in annotations if "id" in one.content])
    numbers = {image_id: number for number, image_id in enumerate(images, start=1)}
    category_numbers = {category_id: number for number, category_id in enumerate(categories, start=1)}
    listed = [_image(one, number, category_numbers) for number, one in enumerate(images.values(), start=1)]
    owners = [one.lookup("image_id", numbers) for one in annotations]
    sizes_hw = [(image["height"], image["width"]) for image in listed]
    rles, areas = _check_masks(annotations, [sizes_hw[owner - 1] for owner in owners])
    return CocoTruth(
        source=path,
        image_numbers=numbers,
        images=listed,
        categories=[one.content | {"id": number} for number, one in enumerate(categories.values(), start=1)],
        category_numbers=category_numbers,
        annotations=[
            {
                "id": number,
                "image_id": owner,
                "category_id": _category(one, category_numbers),
                "iscrowd": int(one.flag("iscrowd")),
                "area": _area(one, default=area),
                "segmentation": encoded,
            }
            for number, (one, owner, encoded, area) in enumerate(zip(annotations, owners, rles, areas.tolist()), 1)
        ],
    )


@paused_collector()
def read_coco_results(path: Path, truth: CocoTruth, *, any_category: bool) -> CocoSet:
    """Read a COCO result file for this ground truth.

    Args:
        path: a JSON list of objects with image_id, category_id, score and a segmentation (RLE).
        truth: what the predictions are about.
        any_category: whether a category that the ground truth does not have is accepted, as where all count as
            one class; it then comes after the others.

    Raises:
        InputError: the file is not that, or a record is damaged or about an unknown image; with file and record.
    """
    predictions = records(read_json(path), source=path, kind="prediction")
    owners = [one.lookup("image_id", truth.image_numbers) for one in predictions]
    categories = [_result_category(one, truth, any_category=any_category) for one in predictions]
    scores = [one.number("score") for one in predictions]
    for one in predictions:
        one.check_box(one.content.get("bbox"))
    segmentations = [one.field("segmentation") for one in predictions]
    sizes_hw = [truth.size_hw(owner) for owner in owners]
    rles, areas = check_rles(segmentations, sizes_hw, lambda index, problem: predictions[index].error(problem))
    names = ("image_id", "category_id", "score", "area", "segmentation")
    results = [dict(zip(names, values)) for values in zip(owners, categories, scores, areas.tolist(), rles)]
    return CocoSet(truth.images, truth.categories, truth.annotations, results)


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


def _category(record: Record, numbers: dict[Id, int]) -> int:
    """A file without categories has one class."""
    return record.lookup("category_id", numbers) if numbers else ONE_CLASS


def _result_category(record: Record, truth: CocoTruth, *, any_category: bool) -> int:
    if any_category:
        return record.lookup_or("category_id", truth.category_numbers, len(truth.categories) + 1)
    return record.lookup("category_id", truth.category_numbers)


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
