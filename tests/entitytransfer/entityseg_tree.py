"""A tiny EntitySeg on disk, in the exact published layout: crops of the test photos with their real regions."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from cropformer import rle
from entitytransfer.adapter import Sample
from entitytransfer.datasets import coco

PHOTOS = Path(__file__).parents[1] / "data" / "coco_tiny"
FOLDERS = ("entity_01_11580", "entity_02_11598", "entity_03_10049")
CLASSES = {"entity": 644, "instances": 206, "semantic": 150, "panoptic": 350}
VOID = 255
MIN_PIXELS = 20  # of a region that is kept, so that each still has pixels in the low-resolution set


@dataclass(frozen=True)
class Picture:
    """One image of the tree: uint8 RGB [H,W,3], its regions bool [N,H,W] and a number 0..149 for the class of each."""

    image_id: int
    folder: str
    image: np.ndarray
    masks: np.ndarray
    classes: tuple[int, ...]

    @property
    def stem(self) -> str:
        """File name without suffix."""
        return f"{self.image_id:06d}"

    @property
    def is_class_aware(self) -> bool:
        """Whether the image belongs to the part that has class labels."""
        return self.folder == FOLDERS[0]

    def halved(self) -> "Picture":
        """The picture at half the size: a bilinear image, nearest masks."""
        height, width = self.image.shape[0] // 2, self.image.shape[1] // 2
        image = np.asarray(Image.fromarray(self.image).resize((width, height), Image.Resampling.BILINEAR))
        masks = [Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST) for mask in self.masks]
        return Picture(self.image_id, self.folder, image, np.stack([np.asarray(m) for m in masks]), self.classes)


def make_entityseg_tree(
    root: Path, *, train: int = 4, val: int = 2, size_hw: tuple[int, int] = (96, 128), seed: int = 0
) -> Path:
    """Write a complete tree below ``root`` / "entityseg" and return ``root``.

    Image i of each split lies in the folder of part i mod 3. The images of the first part also have instance,
    semantic and panoptic annotations. The low-resolution set has half the size.

    Args:
        root: made if needed.
        train: images of the training split.
        val: images of the validation split.
        size_hw: of every image, at most 159x240 pixels.
        seed: decides which part of the photos is seen.
    """
    pictures = list(_pictures(train + val, size_hw=size_hw, rng=np.random.default_rng(seed), train=train))
    home = root / "entityseg"
    for split, chosen in (("train", pictures[:train]), ("val", pictures[train:])):
        _write_entities(home, split, chosen)
        labelled = [picture for picture in chosen if picture.is_class_aware]
        _write_instances(home / "annotations" / "instance_segmentation", split, labelled)
        _write_semantic(home / "annotations" / "semantic_segmentation", split, labelled)
        _write_panoptic(home / "annotations" / "panoptic_segmentation", split, labelled)
    return root


@cache
def _photos() -> tuple[tuple[Sample, np.ndarray, np.ndarray], ...]:
    return tuple((sample, sample.read_frame(), sample.entity_masks()) for sample in coco.read(PHOTOS))


def _pictures(count: int, *, size_hw: tuple[int, int], rng: np.random.Generator, train: int) -> Iterator[Picture]:
    for index in range(count):
        sample, image, masks = _photos()[index % len(_photos())]
        top, left = (int(rng.integers(whole - part + 1)) for whole, part in zip(sample.size_hw, size_hw))
        rows, columns = slice(top, top + size_hw[0]), slice(left, left + size_hw[1])
        cropped = masks[:, rows, columns]
        kept = np.flatnonzero(cropped.sum(axis=(1, 2)) >= MIN_PIXELS)
        # Every third region has the class of its neighbour, so that classes have several, disconnected regions.
        classes = tuple(int(7 * (k - k % 3 // 2) + index) % CLASSES["semantic"] for k in kept)
        folder = FOLDERS[(index if index < train else index - train) % len(FOLDERS)]
        yield Picture(index + 1, folder, image[rows, columns], cropped[kept], classes)


def _write_entities(home: Path, split: str, pictures: list[Picture]) -> None:
    folder = home / "annotations" / "entity_segmentation"
    halves = [picture.halved() for picture in pictures]
    for images, suffix, chosen in (("images", "", pictures), ("images_lr", "_lr", halves)):
        for name in FOLDERS:
            (home / images / name).mkdir(parents=True, exist_ok=True)
        for picture in chosen:
            Image.fromarray(picture.image).save(home / images / picture.folder / f"{picture.stem}.jpg", quality=95)
        content = _instance_content(chosen, kind="entity", joint=True)
        _write_json(folder / f"entityv2_010203_entity_{split}{suffix}.json", content)
    for part, name in enumerate(FOLDERS, start=1):
        content = _instance_content([p for p in pictures if p.folder == name], kind="entity", joint=False)
        if split == "train":
            _write_json(folder / f"entityv2_0{part}_entity_train.json", content)


def _write_instances(folder: Path, split: str, pictures: list[Picture]) -> None:
    content = _instance_content(pictures, kind="instances", joint=False)
    _write_json(folder / f"entityv2_01_instances_{split}.json", content)


def _write_semantic(folder: Path, split: str, pictures: list[Picture]) -> None:
    maps = folder / f"semantic_maps_{split}"
    maps.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        label_map = np.full(picture.image.shape[:2], VOID, dtype=np.uint8)
        for mask, label in zip(picture.masks, picture.classes):
            label_map[mask] = label
        Image.fromarray(label_map).save(maps / f"{picture.stem}.png")
    lines = [f"{picture.stem}.jpg {picture.stem}.png\n" for picture in pictures]
    (folder / f"{split}.txt").write_text("".join(lines))


def _write_panoptic(folder: Path, split: str, pictures: list[Picture]) -> None:
    maps = folder / f"panoptic_maps_{split}"
    maps.mkdir(parents=True, exist_ok=True)
    entries = []
    for picture in pictures:
        id_map = np.zeros(picture.image.shape[:2], dtype=np.int32)
        segments = []
        for index, (mask, label) in enumerate(zip(picture.masks, picture.classes), start=1):
            id_map[mask] = 1000 * index  # beyond 255, so that all the colour channels count
            fields = {"area": int(mask.sum()), "bbox": _bbox(mask), "iscrowd": 0}
            segments.append({"id": 1000 * index, "category_id": label + 1, **fields})
        rgb = np.stack([id_map % 256, id_map // 256 % 256, id_map // 65536], axis=-1).astype(np.uint8)
        Image.fromarray(rgb).save(maps / f"{picture.stem}.png")
        entries.append({"image_id": picture.image_id, "file_name": f"{picture.stem}.jpg", "segments_info": segments})
    images = [_image_entry(picture, joint=False) for picture in pictures]
    content = {"images": images, "annotations": entries, "categories": _categories("panoptic")}
    _write_json(folder / f"entityv2_01_panoptic_{split}.json", content)


def _instance_content(pictures: list[Picture], *, kind: str, joint: bool) -> dict:
    first = 0 if kind == "entity" else 1
    annotations = [
        {
            "id": 100 * picture.image_id + index,
            "image_id": picture.image_id,
            "category_id": label + first,
            "iscrowd": 0,
            "area": int(mask.sum()),
            "bbox": _bbox(mask),
            "segmentation": rle.encode(mask),
        }
        for picture in pictures
        for index, (mask, label) in enumerate(zip(picture.masks, picture.classes))
    ]
    images = [_image_entry(picture, joint=joint) for picture in pictures]
    return {"images": images, "annotations": annotations, "categories": _categories(kind)}


def _image_entry(picture: Picture, *, joint: bool) -> dict:
    name = f"{picture.folder}/{picture.stem}.jpg" if joint else f"{picture.stem}.jpg"
    height, width = picture.image.shape[:2]
    return {"id": picture.image_id, "file_name": name, "height": height, "width": width}


def _categories(kind: str) -> list[dict]:
    first = 0 if kind == "entity" else 1
    return [{"id": first + k, "name": f"{kind} class {k}", "type": "thing"} for k in range(CLASSES[kind])]


def _bbox(mask: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]


def _write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
