"""How far two annotators of the same images agree, in masks and in categories: Table 1 of the paper.

The masks of one annotator are scored as predictions against those of the other, whatever their categories; the
categories are compared over pairs of entities that are the same region for both.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from pycocotools import mask as coco_mask
from scipy.optimize import linear_sum_assignment

from cropformer import Entities, InputError, rle
from entitytransfer.adapter import Sample, Truth
from entitytransfer.console import followed
from entitytransfer.evaluators.average_precision import AveragePrecision
from entitytransfer.readers.coco_json import load_json, read_coco
from entitytransfer.readers.panoptic_png import read_panoptic

Pairing = Literal["iou", "same"]
MIN_IOU = 0.5  # masks of one annotator that do not overlap have at most one partner above it
COCO_MAX_ENTITIES = 100


@dataclass(frozen=True)
class Annotator:
    """One annotation file.

    Attributes:
        path: the file.
        samples: image id → its entities, in file order.
        category_names: category id → name.
    """

    path: Path
    samples: Mapping[Hashable, Sample]
    category_names: Mapping[int, str]


@dataclass(frozen=True)
class Pairs:
    """Entities that are one region for both annotators.

    Attributes:
        count: number of pairs.
        identical: those of equal masks.
        agreeing: those of equal categories.
    """

    count: int
    identical: int
    agreeing: int

    @property
    def accuracy(self) -> float | None:
        """Fraction of the pairs that agree in category; None without pairs."""
        return self.agreeing / self.count if self.count else None


@dataclass(frozen=True)
class Consistency:
    """What the comparison found.

    Attributes:
        images: images that both files describe.
        only_first: file names of the images that the first file alone describes, which are left out.
        only_second: likewise.
        entities: those of the first and of the second file that have a pixel, in the images of both.
        first_as_truth: what `AveragePrecision` computes for the second file's masks with score 1.
        second_as_truth: the same for the first file's masks.
        pairs: over which the categories are compared.
    """

    images: int
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    entities: tuple[int, int]
    first_as_truth: Mapping[str, float]
    second_as_truth: Mapping[str, float]
    pairs: Pairs


def read_annotator(path: Path | str) -> Annotator:
    """Open COCO-instance or COCO-panoptic JSON; panoptic PNGs are in the folder of the same name without ``.json``.

    Raises:
        InputError: the file is missing, is neither, or contradicts itself.
    """
    path = Path(path)
    content = load_json(path, fields=("images", "annotations", "categories"))
    try:
        names = {category["id"]: str(category["name"]) for category in content["categories"]}
        is_panoptic = any("segments_info" in annotation for annotation in content["annotations"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} is not COCO-format JSON, {error!r}; check the file's name.") from error
    labels = {category: category for category in names}
    if is_panoptic:
        samples = read_panoptic(path, path.with_suffix(""), path.parent, label_of=labels)
    else:
        samples = read_coco(path, path.parent, label_of=labels)
    return Annotator(path, {sample.image_id: sample for sample in samples}, names)


def compare(first: Annotator, second: Annotator, *, pairing: Pairing = "iou") -> Consistency:
    """Compare two annotators over the images, told by their ids, that both describe.

    Every entity counts, also where an image has more than the 100 that COCO's AP is limited to, so that a file agrees
    with itself.

    Args:
        first: one annotator.
        second: the other one.
        pairing: "iou" pairs entities one to one so that the sum of their IoUs, each above 0.5, is largest; "same"
            pairs equal masks only, for a second file that re-labels the first.

    Raises:
        InputError: no image is in both files, an image has two sizes, a category two names, a file no entity in
            these images, or an annotation is damaged.
    """
    shared = [image_id for image_id in first.samples if image_id in second.samples]
    _check(first, second, shared)
    most = max(len(side.samples[image_id].labels()) for side in (first, second) for image_id in shared)
    forward, backward = (AveragePrecision(max_entities=max(most, COCO_MAX_ENTITIES)) for _ in range(2))
    entities, pairs = [], []
    for image_id in followed(shared, name="images", total=len(shared)):
        ours, theirs = _entities(first.samples[image_id]), _entities(second.samples[image_id])
        forward.update(theirs, _annotated(first.samples[image_id], ours))
        backward.update(ours, _annotated(second.samples[image_id], theirs))
        entities.append((len(ours), len(theirs)))
        pairs.append(_pair(ours, theirs, pairing=pairing))
    counts = np.sum(entities, axis=0).tolist()
    for side, count in zip((first, second), counts):
        if count == 0:
            raise InputError(f"{side.path} has no entity in the images of both files; there is nothing to compare.")
    return Consistency(
        images=len(shared),
        only_first=_left_out(first, shared),
        only_second=_left_out(second, shared),
        entities=tuple(counts),
        first_as_truth=forward.compute(),
        second_as_truth=backward.compute(),
        pairs=Pairs(*np.sum(pairs, axis=0).tolist()),
    )


def _check(first: Annotator, second: Annotator, shared: Sequence[Hashable]) -> None:
    if not shared:
        raise InputError(f"{first.path} and {second.path} have no image id in common; give files of the same images.")
    for image_id in shared:
        sizes = [side.samples[image_id].size_hw for side in (first, second)]
        if sizes[0] != sizes[1]:
            raise InputError(
                f"Image {image_id} has height and width {sizes[0]} in {first.path} but {sizes[1]} in {second.path}; "
                "give annotations of images of the same size."
            )
    for category, name in first.category_names.items():
        other = second.category_names.get(category, name)
        if other != name:
            raise InputError(
                f"Category {category} is '{name}' in {first.path} but '{other}' in {second.path}; "
                "give files with the same categories."
            )


def _left_out(side: Annotator, shared: Sequence[Hashable]) -> tuple[str, ...]:
    both = set(shared)
    return tuple(sample.image_path.name for image_id, sample in side.samples.items() if image_id not in both)


def _entities(sample: Sample) -> Entities:
    """The annotated entities that have a pixel, as predictions of score 1, in file order."""
    rles, labels = sample.entity_rles(), sample.labels()
    visible = [index for index, encoded in enumerate(rles) if rle.area(encoded)]
    return Entities.from_rles(sample.size_hw, [rles[i] for i in visible], np.ones(len(visible)), labels[visible])


def _annotated(sample: Sample, entities: Entities) -> Sample:
    """The sample as if nothing else were annotated in it: no crowd, and nothing without a pixel."""
    return replace(sample, annotation=_Entities(entities))


@dataclass(frozen=True)
class _Entities:
    """Entities as ground truth."""

    entities: Entities

    def truth(self) -> Truth:
        areas = self.entities.areas().astype(np.float64)
        return Truth(self.entities.rles, self.entities.labels, areas, np.zeros(areas.size, dtype=bool))


def _pair(ours: Entities, theirs: Entities, *, pairing: Pairing) -> tuple[int, int, int]:
    """The numbers of `Pairs` for one image."""
    if not (len(ours) and len(theirs)):
        return 0, 0, 0
    ious = np.asarray(coco_mask.iou(ours.rles, theirs.rles, [False] * len(theirs)))  # [N ours, N theirs]
    allowed = ious == 1 if pairing == "same" else ious > MIN_IOU
    rows, columns = linear_sum_assignment(np.where(allowed, ious, 0), maximize=True)
    rows, columns = rows[allowed[rows, columns]], columns[allowed[rows, columns]]
    identical = ious[rows, columns] == 1
    return len(rows), int(identical.sum()), int((ours.labels[rows] == theirs.labels[columns]).sum())
