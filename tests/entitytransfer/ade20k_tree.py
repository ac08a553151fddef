"""A tiny ADE20K on disk, in the exact layout of its two archives: the test photos with their large regions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from entitytransfer.readers.ade20k_classes import categories

from .region_photos import RegionPhoto, region_photos

# What COCO calls a region → what ADE20K calls it.
NAMES = {
    "person": "person",
    "handbag": "bag",
    "refrigerator": "refrigerator, icebox",
    "snow": "earth, ground",
    "bridge": "bridge, span",
    "river": "river",
    "counter": "counter",
    "wall-tile": "wall",
    "wall-other-merged": "wall",
    "sky-other-merged": "sky",
    "tree-merged": "tree",
    "pavement-merged": "sidewalk, pavement",
    "ceiling-merged": "ceiling",
    "cabinet-merged": "cabinet",
    "building-other-merged": "booth",
}


def make_ade20k_tree(root: Path, *, photos: int = 4, val: int = 2) -> Path:
    """Write ``ADEChallengeData2016`` with its raw maps below ``root``, which is made if needed, and return ``root``.

    Each photo has three to six regions of at least 4 % of it, none under another, of which at least one is a thing
    with an instance, as here is some of what COCO calls stuff. The rest of a photo is ignored.

    Args:
        root: the folder of ``ADEChallengeData2016``.
        photos: images of the training split.
        val: images of the validation split; up to 8 in all differ.
    """
    home = root / "ADEChallengeData2016"
    _write_split(home, "training", "train", list(region_photos(photos)))
    _write_split(home, "validation", "val", list(region_photos(val, first=photos)))
    return root


def _write_split(home: Path, split: str, prefix: str, photos: Sequence[RegionPhoto]) -> None:
    for kind in ("images", "annotations", "annotations_instance"):
        (home / kind / split).mkdir(parents=True, exist_ok=True)
    for number, photo in enumerate(photos, start=1):
        name = f"ADE_{prefix}_{number:08d}"
        semantic, instances = _maps(photo)
        Image.fromarray(photo.image).save(home / "images" / split / f"{name}.jpg", quality=95)
        Image.fromarray(semantic).save(home / "annotations" / split / f"{name}.png")
        Image.fromarray(instances).save(home / "annotations_instance" / split / f"{name}.png")


def _maps(photo: RegionPhoto) -> tuple[np.ndarray, np.ndarray]:
    """The semantic map uint8 [H,W] and the instance map uint8 [H,W,3]."""
    known = {category.name: category for category in categories()}
    semantic = np.zeros(photo.image.shape[:2], dtype=np.uint8)
    instances = np.zeros(photo.image.shape, dtype=np.uint8)
    number = 0
    for mask, listed in zip(photo.masks, photo.categories):
        category = known[NAMES[listed["name"]]]
        semantic[mask] = category.category_id + 1
        if category.instance_class:
            number += 1
            instances[mask, :2] = category.instance_class, number
    return semantic, instances
