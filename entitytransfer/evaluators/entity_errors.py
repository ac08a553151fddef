"""What became of each annotated entity: found, merged with another, split into parts, or missed.

D predictions · G annotated entities.
"""

from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from cropformer import rle
from entitytransfer.evaluators.matching import match
from entitytransfer.readers.coco_set import CocoSet

_ALL_AREAS = np.array([[0.0, np.inf]])


@dataclass(frozen=True)
class Fates:
    """One of four for every annotated entity of an image; none for a crowd.

    Attributes:
        found: bool [G], one prediction matches it at IoU 0.5, as AR@100 counts.
        merged: bool [G], not found; one prediction holds most of it together with most of another entity, of which it
            is no part.
        split: bool [G], not found; predictions that mostly lie in it hold most of it together, but none alone.
        missed: bool [G], the others.
    """

    found: np.ndarray
    merged: np.ndarray
    split: np.ndarray
    missed: np.ndarray

    def counts(self) -> dict[str, int]:
        """How many entities met each fate; together they are all entities but the crowds."""
        return {name: int(fate.sum()) for name, fate in vars(self).items()}


def judge_entities(image: CocoSet, *, max_entities: int = 100) -> Fates:
    """Say of every annotated entity of an image what became of it, from run lengths alone.

    "Most" is more than half of the pixels. An entity that is both merged and split counts as merged.

    Args:
        image: annotation and predictions of one image, see `coco_images.image_set`; classes do not matter.
        max_entities: how many predictions count, best first.
    """
    results = sorted(image.results, key=lambda one: -one["score"])[:max_entities]
    predicted = [one["segmentation"] for one in results]
    truths = [one["segmentation"] for one in image.truths]
    is_crowd = np.array([bool(one["iscrowd"]) for one in image.truths], dtype=bool)
    found = _found(predicted, truths, is_crowd)
    open_ones = ~is_crowd & ~found
    merged = open_ones & _merged(predicted, truths, is_crowd)
    split = open_ones & ~merged
    split[split] = [_is_split(truths[index], predicted) for index in np.flatnonzero(split)]
    return Fates(found, merged, split, missed=open_ones & ~merged & ~split)


def _found(predicted: list[rle.RLE], truths: list[rle.RLE], is_crowd: np.ndarray) -> np.ndarray:
    """bool [G], what AR@100 counts as matched at IoU 0.5; the predictions come best first."""
    ious = coco_mask.iou(predicted, truths, is_crowd.tolist())
    matches = match(
        np.asarray(ious).reshape(len(predicted), len(truths)),  # the library has no matrix without entries
        np.zeros(len(predicted)),
        detection_areas=np.zeros(len(predicted)),
        truth_areas=np.zeros(len(truths)),
        is_crowd=is_crowd,
        area_ranges=_ALL_AREAS,
        iou_thresholds=np.array([0.5]),
    )
    return matches.is_taken[0, 0] & ~is_crowd


def _merged(predicted: list[rle.RLE], truths: list[rle.RLE], is_crowd: np.ndarray) -> np.ndarray:
    """bool [G], a prediction holds most of the entity and most of another, and neither is a part of the other."""
    held = _part_inside(truths, predicted) > 0.5  # [G,D]
    is_part = _part_inside(truths, truths) > 0.5  # [G,G], each is a part of itself
    is_other = ~(is_part | is_part.T | is_crowd)
    together = held.astype(np.int64) @ held.T  # [G,G], predictions that hold most of both
    return (is_other & (together > 0)).any(axis=1)


def _is_split(entity: rle.RLE, predicted: list[rle.RLE]) -> bool:
    within = np.flatnonzero(_part_inside(predicted, [entity])[:, 0] > 0.5)
    parts = [predicted[index] for index in within]
    if not parts or (_part_inside([entity], parts) > 0.5).any():
        return False
    return bool(_part_inside([entity], [coco_mask.merge(parts)])[0, 0] > 0.5)


def _part_inside(inner: list[rle.RLE], outer: list[rle.RLE]) -> np.ndarray:
    """The part of each first mask that lies inside each second one, 0 of an empty mask: COCO's IoU with crowds."""
    parts = coco_mask.iou(inner, outer, [1] * len(outer))
    return np.asarray(parts).reshape(len(inner), len(outer))  # the library has no matrix without entries
