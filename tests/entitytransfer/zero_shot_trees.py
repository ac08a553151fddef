"""Tiny DIS5K, LVIS, OCID, CAMO and FSS-1000 on disk, in the exact published layouts, with the test photos' regions."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from cropformer import rle
from entitytransfer.datasets import coco

PHOTOS = Path(__file__).parents[1] / "data" / "coco_tiny"
FOREGROUNDS = {785: 0, 1268: 0, 7574: 16, 8762: 5}  # of each photo, a region that is large and plain to see
DIS5K_SPLITS = {"DIS-TR": 4, "DIS-VD": 2, "DIS-TE1": 1, "DIS-TE2": 1, "DIS-TE3": 1, "DIS-TE4": 1}
OCID_SEQUENCES = ("ARID20/floor/top/seq01", "ARID20/table/bottom/seq02", "ARID10/table/top/box/seq03")
OCID_SEQUENCES += ("YCB10/floor/bottom/mixed/seq04",)
LVIS_CATEGORIES = ("r", "c", "f")  # their frequencies
FSS_CLASSES = ("ab_wheel", "bus", "hotel_slipper")
MIN_PIXELS = 20  # of a region that is kept
BRIGHT, SMOOTH = 255, Image.Resampling.BILINEAR


@dataclass(frozen=True)
class Picture:
    """A photo uint8 RGB [H,W,3], its regions bool [N,H,W] without overlap, and which of them is the foreground."""

    photo_id: int
    image: np.ndarray
    masks: np.ndarray
    foreground: int

    def save_photo(self, path: Path) -> None:
        """Write the photo."""
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(self.image).save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))

    def save_mask(self, path: Path, *, colours: bool = False) -> None:
        """Write the foreground as a mask with a soft border, in the middle of which the values pass 128."""
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = self.image.shape[:2]
        mask = Image.fromarray(self.masks[self.foreground].astype(np.uint8) * BRIGHT)
        soft = mask.resize((width // 2, height // 2), SMOOTH).resize((width, height), SMOOTH)
        soft.convert("RGB" if colours else "L").save(path)


def make_dis5k_tree(root: Path, *, size_hw: tuple[int, int] = (96, 128), images: dict[str, int] | None = None) -> Path:
    """Write ``DIS5K/SPLIT/{im,gt}`` with so many images in each split, at most four, and return ``root``."""
    for split, count in (images or DIS5K_SPLITS).items():
        for number, picture in enumerate(_pictures(size_hw, flip=split != "DIS-TR")[:count], start=1):
            stem = f"{number}#Group#{number + 2}#Class#{picture.photo_id}_0123abcdef_o"
            picture.save_photo(root / "DIS5K" / split / "im" / f"{stem}.jpg")
            picture.save_mask(root / "DIS5K" / split / "gt" / f"{stem}.png")
    return root


def make_lvis_tree(root: Path, *, size_hw: tuple[int, int] = (96, 128)) -> Path:
    """Write both splits, val with two images of val2017 and one of train2017, train with one, and return ``root``."""
    pictures = _pictures(size_hw)
    places = ("val2017", "val2017", "train2017", "train2017")
    for picture, folder in zip(pictures, places):
        picture.save_photo(root / "coco" / folder / _coco_name(picture))
    for split, members in (("val", slice(0, 3)), ("train", slice(3, 4))):
        content = _lvis_content(pictures[members], places[members])
        _write_json(root / "annotations" / f"lvis_v1_{split}.json", content)
    return root


def make_ocid_tree(root: Path, *, size_hw: tuple[int, int] = (96, 128)) -> Path:
    """Write ``OCID-dataset/SUBSET/.../seqNN/{rgb,label,depth}`` with an image each, and return ``root``."""
    for sequence, picture in zip(OCID_SEQUENCES, _pictures(size_hw)):
        folder = root / "OCID-dataset" / sequence
        name = f"result_2018-08-2{picture.photo_id % 10}-11-10-46.png"
        picture.save_photo(folder / "rgb" / name)
        labels = np.zeros(size_hw, dtype=np.uint8)
        largest_first = np.argsort(-picture.masks.sum(axis=(1, 2)), kind="stable")
        for label, index in enumerate(largest_first[:6], start=1):  # floor, then table if there is one, then objects
            labels[picture.masks[index]] = label
        indexed = Image.fromarray(labels)
        indexed.putpalette([value for i in range(256) for value in (i, 255 - i, 7)])
        for kind, image in (("label", indexed), ("depth", Image.fromarray(labels.astype(np.uint16) * 700))):
            (folder / kind).mkdir(exist_ok=True)
            image.save(folder / kind / name)
    return root


def make_camo_tree(root: Path, *, version: str = "camo", size_hw: tuple[int, int] = (96, 128)) -> Path:
    """Write the first CAMO ("camo") or "camo++", with two images in each split, and return ``root``."""
    numbered = list(enumerate(_pictures(size_hw), start=1))
    for split, members in (("test", numbered[:2]), ("train", numbered[2:])):
        for number, picture in members:
            stem = f"camourflage_{number:05d}"
            if version == "camo":
                home = root / "CAMO-V.1.0-CVIU2019"
                picture.save_photo(home / "Images" / split.capitalize() / f"{stem}.jpg")
                picture.save_mask(home / "GT" / f"{stem}.png")
            else:
                picture.save_photo(root / "CAMO_pp" / split / f"{stem}.jpg")
        if version == "camo++":
            _write_json(root / "CAMO_pp" / f"{split}.json", _camo_content(members))
    return root


def make_fss_tree(root: Path, *, images: int = 4, size_hw: tuple[int, int] = (64, 64)) -> Path:
    """Write ``fewshot_data/CLASS/N.{jpg,png}`` and the test list, which has the first two classes, beside it.

    Args:
        root: returned.
        images: of each class, at most four.
        size_hw: of every image.
    """
    for shift, name in enumerate(FSS_CLASSES):
        pictures = np.roll(np.array(_pictures(size_hw), dtype=object), shift)[:images]
        for number, picture in enumerate(pictures, start=1):
            picture.save_photo(root / "fewshot_data" / name / f"{number}.jpg")
            picture.save_mask(root / "fewshot_data" / name / f"{number}.png", colours=True)
    (root / "fss_test_set.txt").write_text("\n".join(FSS_CLASSES[:2]))  # without a line end, as published
    return root


@cache
def _pictures(size_hw: tuple[int, int], *, flip: bool = False) -> tuple[Picture, ...]:
    """The test photos, whole, at this size."""
    step, shape = (-1 if flip else 1), (size_hw[1], size_hw[0])
    found = []
    for sample in coco.read(PHOTOS):
        image = np.asarray(Image.fromarray(sample.read_frame()).resize(shape, SMOOTH))
        masks = [Image.fromarray(mask).resize(shape, Image.Resampling.NEAREST) for mask in sample.entity_masks()]
        stacked = np.stack([np.asarray(mask) for mask in masks])
        kept = np.flatnonzero(stacked.sum(axis=(1, 2)) >= MIN_PIXELS)
        foreground = int(np.flatnonzero(kept == FOREGROUNDS[sample.image_id])[0])
        flipped = np.ascontiguousarray(image[:, ::step]), np.ascontiguousarray(stacked[kept][:, :, ::step])
        found.append(Picture(sample.image_id, *flipped, foreground))
    return tuple(found)


def _coco_name(picture: Picture) -> str:
    return f"{picture.photo_id:012d}.jpg"


def _lvis_content(pictures: tuple[Picture, ...], folders: tuple[str, ...]) -> dict:
    """As published: polygons, no iscrowd, and no file names but at the end of the addresses."""
    images, annotations = [], []
    for picture, folder in zip(pictures, folders):
        height, width = picture.image.shape[:2]
        address = f"http://images.cocodataset.org/{folder}/{_coco_name(picture)}"
        size = {"height": height, "width": width}
        known = {"neg_category_ids": [3], "not_exhaustive_category_ids": [1]}
        images.append({"id": picture.photo_id, "coco_url": address, **size, **known, "license": 1})
        for index, mask in enumerate(picture.masks):
            fields = {"id": len(annotations) + 1, "image_id": picture.photo_id, "category_id": 1 + index % 2}
            shape = {"area": float(mask.sum()), "bbox": _bbox(mask), "segmentation": _polygons(mask)}
            annotations.append(fields | shape)
    categories = [
        {"id": number, "name": f"class {number}", "frequency": frequency, "image_count": 1, "instance_count": 1}
        for number, frequency in enumerate(LVIS_CATEGORIES, start=1)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def _camo_content(members: list[tuple[int, Picture]]) -> dict:
    images, annotations = [], []
    for number, picture in members:
        height, width = picture.image.shape[:2]
        images.append({"id": number, "file_name": f"camourflage_{number:05d}.jpg", "height": height, "width": width})
        for index in range(min(3, len(picture.masks))):
            mask = picture.masks[index]
            fields = {"id": 10 * number + index, "image_id": number, "category_id": 1, "iscrowd": 0}
            shape = {"area": int(mask.sum()), "bbox": _bbox(mask), "segmentation": rle.encode(mask)}
            annotations.append(fields | shape)
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "animal"}]}


def _polygons(mask: np.ndarray) -> list[list[float]]:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [contour.reshape(-1).astype(float).tolist() for contour in contours if len(contour) >= 3]  # [P,1,2] -> [2P]


def _bbox(mask: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]


def _write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
