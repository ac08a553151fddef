"""The test photos with their large regions, as COCO annotates them, of which the tiny trees of datasets are made."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from entitytransfer.readers.panoptic_png import read_id_map

COCO_TINY = Path(__file__).parents[1] / "data" / "coco_tiny"
MIN_SHARE = 0.04  # of the photo that a region covers at least


@dataclass(frozen=True)
class RegionPhoto:
    """A photo, uint8 RGB [H,W,3], masks bool [N,H,W] that do not overlap, and their categories as COCO lists them."""

    image: np.ndarray
    masks: np.ndarray
    categories: tuple[dict, ...]

    def mirrored(self) -> "RegionPhoto":
        """Left and right exchanged."""
        return RegionPhoto(self.image[:, ::-1], self.masks[..., ::-1], self.categories)


def region_photos(number: int, *, first: int = 0) -> Iterator[RegionPhoto]:
    """So many photos: four, the same mirrored, then from the start again."""
    for index in range(first, first + number):
        photo = _photos()[index % len(_photos())]
        yield photo.mirrored() if index // len(_photos()) % 2 else photo


@cache
def listed_categories() -> tuple[dict, ...]:
    """The categories of COCO that the photos show."""
    content = json.loads((COCO_TINY / "panoptic.json").read_text())
    return tuple(sorted(content["categories"], key=lambda category: category["id"]))


@cache
def _photos() -> tuple[RegionPhoto, ...]:
    content = json.loads((COCO_TINY / "panoptic.json").read_text())
    return tuple(map(_photo, content["annotations"]))


def _photo(entry: dict) -> RegionPhoto:
    ids = read_id_map(COCO_TINY / "panoptic" / entry["file_name"])
    with Image.open(COCO_TINY / "images" / entry["file_name"].replace(".png", ".jpg")) as file:
        image = np.asarray(file.convert("RGB"))
    known = {category["id"]: category for category in listed_categories()}
    kept = [segment for segment in entry["segments_info"] if segment["area"] >= MIN_SHARE * ids.size]
    masks = np.stack([ids == segment["id"] for segment in kept])
    return RegionPhoto(image, masks, tuple(known[segment["category_id"]] for segment in kept))
