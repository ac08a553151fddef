"""A tiny COCO 2017 on disk, in the exact official layout: the test photos with their large regions."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cropformer import rle
from entitytransfer.readers.panoptic_png import colors_of_ids

from .region_photos import RegionPhoto, listed_categories, region_photos


def make_coco_tree(root: Path, *, photos: int = 4, val: int = 2) -> Path:
    """Write ``annotations``, ``train2017`` and ``val2017`` below ``root``, which is made if needed, and return it.

    Each photo has three to six segments of at least 4 % of it; things are instances as well. The pixels of the JPEGs
    are those of the files in ``coco_tiny``, compressed once more.

    Args:
        root: the root of the set.
        photos: images of the training split.
        val: images of the validation split; up to 8 in all differ.
    """
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    _write_split(root, "train", list(region_photos(photos)), first_id=1)
    _write_split(root, "val", list(region_photos(val, first=photos)), first_id=photos + 1)
    return root


def _write_split(root: Path, split: str, photos: Sequence[RegionPhoto], *, first_id: int) -> None:
    maps = root / "annotations" / f"panoptic_{split}2017"
    for folder in (root / f"{split}2017", maps):
        folder.mkdir(exist_ok=True)
    images, panoptic, instances = [], [], []
    for image_id, photo in enumerate(photos, start=first_id):
        name = f"{image_id:012d}"
        height, width = photo.image.shape[:2]
        images.append({"id": image_id, "file_name": f"{name}.jpg", "height": height, "width": width})
        Image.fromarray(photo.image).save(root / f"{split}2017" / f"{name}.jpg", quality=95)
        ids = 1000 * np.arange(1, len(photo.masks) + 1)  # beyond 255, so that all the colour channels count
        id_map = np.tensordot(ids, photo.masks.astype(np.int64), axes=1)  # [N] x [N,H,W] -> [H,W]
        Image.fromarray(colors_of_ids(id_map)).save(maps / f"{name}.png")
        segments = [
            {"id": int(segment_id), "category_id": category["id"], **_shape(mask)}
            for segment_id, mask, category in zip(ids, photo.masks, photo.categories)
        ]
        panoptic.append({"image_id": image_id, "file_name": f"{name}.png", "segments_info": segments})
        instances += [
            {"id": 100 * image_id + number, "image_id": image_id, "segmentation": rle.encode(mask)}
            | {"category_id": category["id"], **_shape(mask)}
            for number, (mask, category) in enumerate(zip(photo.masks, photo.categories), start=1)
            if category["isthing"]
        ]
    things = [category for category in listed_categories() if category["isthing"]]
    _write_json(root, f"panoptic_{split}2017", images, panoptic, listed_categories())
    _write_json(root, f"instances_{split}2017", images, instances, things)


def _shape(mask: np.ndarray) -> dict:
    left, top, right, bottom = rle.bounding_box_xyxy(rle.encode(mask)).astype(int).tolist()
    return {"area": int(mask.sum()), "bbox": [left, top, right - left, bottom - top], "iscrowd": 0}


def _write_json(root: Path, name: str, images: list, annotations: list, categories: Sequence[dict]) -> None:
    content = {"images": images, "annotations": annotations, "categories": list(categories)}
    (root / "annotations" / f"{name}.json").write_text(json.dumps(content))
