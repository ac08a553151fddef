"""The official fixtures of every task as a dataset, with photos by whose grey their official predictions are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cropformer import EntitySegmenter
from entitytransfer.adapter import Adapter, Result, SampleSet
from entitytransfer.classes import ENTITY, Classes
from entitytransfer.datasets import dis5k
from entitytransfer.evaluators.dichotomous_results import DichotomousResults
from entitytransfer.readers.mask_folder import read_ocid
from entitytransfer.tasks import task_adapter

from .evaluator_cases import (
    DATA,
    FILES,
    Pairs,
    classes_of,
    dis5k_pairs,
    instance_pairs,
    panoptic_pairs,
    recall_pairs,
    semantic_pairs,
)

NAME = "tests.entitytransfer.fixture_sets"
OCID = DATA / "ocid"
# The task of `score`, its official ground truth, its options, and where a run leaves what it takes.
SCORED = {
    "entity": ("entity", FILES["entity"][0], {"boundary": False}, "predictions.json"),
    "instance": ("instance", FILES["instance"][0], {"boundary": False}, "predictions.json"),
    "panoptic": ("panoptic", FILES["panoptic"][0], {}, "predictions.json"),
    "semantic": ("semantic", FILES["semantic"][0], {}, "labels"),
    "dichotomous": ("dis5k", FILES["dis5k"][0], {}, "maps"),
    "recall": ("recall", OCID / "OCID-dataset", {"format": "ocid"}, "predictions.json"),
}
TASKS = tuple(SCORED)


def read(root: Path | str, *, task: str = "entity", images: int | None = None) -> SampleSet:
    """The first images of the fixture of a task; their photos are in ``root``."""
    paths = sorted(Path(root).glob(f"{task}-*.png"))
    samples = [replace(sample, image_path=path) for path, (_, sample) in zip(paths, pairs_of(task), strict=True)]
    return SampleSet(samples[:images], classes(task))


def adapter(*, task: str = "entity") -> Adapter:
    """As a dataset of one's own would have it."""
    own = task_adapter(task, read)
    return replace(own, build_evaluator=lambda _: DichotomousResults(hce=True)) if task == "dichotomous" else own


def pairs_of(task: str) -> Pairs:
    """Official predictions and ground truth, image by image."""
    match task:
        case "entity":
            return instance_pairs("entity")
        case "instance":
            return instance_pairs("instance", classes(task).labels())
        case "panoptic":
            return panoptic_pairs()
        case "semantic":
            return semantic_pairs()
        case "dichotomous":
            return dis5k_pairs()
    return recall_pairs(read_ocid(OCID / "OCID-dataset", supports=False), OCID / "pred.json")


def classes(task: str) -> Classes:
    """What labels mean."""
    if task == "semantic":
        return Classes(tuple(map(str, range(150))), tuple(range(150)), (True,) * 150)
    if task == "dichotomous":
        return dis5k.FOREGROUND
    return classes_of(FILES[task][0]) if task in ("instance", "panoptic") else ENTITY


def make_photos(root: Path, task: str) -> None:
    """A photo of one grey for each image."""
    root.mkdir(exist_ok=True)
    for index, (_, sample) in enumerate(pairs_of(task)):
        Image.fromarray(np.full((*sample.size_hw, 3), index, np.uint8)).save(root / f"{task}-{index:02}.png")


class Oracle:
    """Stands in for the network: gives the official prediction of a photo, and counts.

    Args:
        task: of the fixture.
        stop_after: photos after which it is interrupted.
    """

    def __init__(self, task: str, *, stop_after: int = 100) -> None:
        self._results = [result for result, _ in pairs_of(task)]
        self._stop_after = stop_after
        self.seen = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> "Oracle":
        """Every model predicts so from now on."""
        monkeypatch.setattr(EntitySegmenter, "predict", lambda _, images, *arguments, **named: self.predict(*images))
        return self

    def predict(self, image: np.ndarray) -> list[Result]:
        if self.seen == self._stop_after:
            raise KeyboardInterrupt
        self.seen += 1
        return [self._results[image[0, 0, 0]]]
