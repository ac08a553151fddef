"""One image in memory as a set of COCO's terms, checked as files are."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from cropformer import Entities, InputError
from entitytransfer.adapter import Sample
from entitytransfer.classes import ENTITY, Classes
from entitytransfer.readers.coco_set import CocoSet
from entitytransfer.readers.run_lengths import check_rles

_IMAGE = 1


def image_set(result: Entities, sample: Sample, classes: Classes | None) -> CocoSet:
    """The set of one image; label k becomes category k + 1.

    Args:
        result: the predictions.
        sample: whose annotation is the ground truth.
        classes: what labels mean; None puts everything into one class.

    Raises:
        InputError: the annotation is damaged, or a mask of either is not one of the sample's size.
        ValueError: a label is no class.
    """
    truth = sample.truth()
    count = len(truth.rles)

    def refuse(index: int, problem: str) -> InputError:
        kind, place = ("annotation", index) if index < count else ("prediction", index - count)
        return InputError(f"Image {sample.image_id}, {kind} {place}: {problem}; correct or remove it.")

    masks = [*truth.rles, *result.rles]
    rles, areas = check_rles(masks, [sample.size_hw] * len(masks), refuse)
    height, width = sample.size_hw
    return replace(
        empty_set(classes),
        images=[{"id": _IMAGE, "height": height, "width": width}],
        truths=_records(
            {
                "category_id": _category_ids(truth.labels, classes),
                "iscrowd": truth.is_crowd.astype(np.int64).tolist(),
                "area": truth.areas.tolist(),
                "segmentation": rles[:count],
            }
        ),
        results=_records(
            {
                "category_id": _category_ids(result.labels, classes),
                "score": result.scores.tolist(),
                "area": areas[count:].tolist(),
                "segmentation": rles[count:],
            }
        ),
    )


def empty_set(classes: Classes | None) -> CocoSet:
    """The set of no image, with these classes."""
    categories = [{"id": number, "name": name} for number, name in enumerate((classes or ENTITY).names, start=1)]
    return CocoSet(images=[], categories=categories, truths=[], results=[])


def _records(columns: Mapping[str, list]) -> list[dict]:
    """The rows of a table as COCO has them."""
    return [{"image_id": _IMAGE} | dict(zip(columns, row)) for row in zip(*columns.values(), strict=True)]


def _category_ids(labels: np.ndarray, classes: Classes | None) -> list[int]:
    if classes is None:
        return [1] * len(labels)
    if ((labels < 0) | (labels >= len(classes))).any():
        raise ValueError(f"labels must be below {len(classes)}, the number of classes, not {labels.tolist()}")
    return (labels + 1).tolist()
