"""What the tests of the mask folders share: what a doctor says, and masks as they are read and as they are scored."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cropformer import rle
from entitytransfer.adapter import Sample
from entitytransfer.doctor import Finding
from entitytransfer.readers.coco_results import CocoTruth

DATA = Path(__file__).parents[1] / "data" / "metrics"


def told(findings: Iterable[Finding], level: str) -> list[str]:
    """What findings of a level say, with what they advise."""
    return [f"{finding.what} > {finding.fix}" for finding in findings if finding.level == level]


def as_read(samples: Sequence[Sample]) -> dict[int | str, list[rle.RLE]]:
    """The masks of every image; its photo has their size."""
    assert all(sample.read_frame().shape[:2] == sample.size_hw for sample in samples)
    return {sample.image_id: sample.truth().rles for sample in samples}


def as_scored(truth: CocoTruth) -> dict[int | str, list[rle.RLE]]:
    """The masks that recall counts in every image, under each of its ids."""
    owned = {number: [] for number in truth.image_numbers.values()}
    for one in truth.annotations(range(1, len(truth.images) + 1)):
        owned[one["image_id"]].append(one["segmentation"])
    return {image_id: owned[number] for image_id, number in truth.image_numbers.items()}


def save_pixels(path: Path, pixels: np.ndarray) -> None:
    """Overwrite an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
