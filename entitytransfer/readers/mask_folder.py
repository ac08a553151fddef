"""Ground truth as a folder of mask PNGs (OCID, CAMO, FSS-1000), in the terms in which COCO results are scored.

Every function gives a `CocoTruth` with one class, whose image ids are what result files of that set call the images.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from cropformer import InputError, rle
from entitytransfer.readers.coco_results import ONE_CLASS, CocoTruth
from entitytransfer.readers.label_png import read_foreground, read_labels
from entitytransfer.readers.records import Id

FSS_TEST_LIST = "fss_test_set.txt"
_FLOOR, _TABLE = 1, 2  # labels of the support surfaces; 2 is an object where there is no table

ReadMasks = Callable[[Path], tuple[tuple[int, int], list[rle.RLE]]]


def read_ocid(root: Path, *, supports: bool) -> CocoTruth:
    """Read OCID: every label of every ``label/*.png`` is one object; an image is called by its path without label/.

    Args:
        root: ``OCID-dataset``, or the folder that it is in.
        supports: whether floor (label 1) and table (label 2 where the path names a table) count as objects. (Rule of
            UnseenObjectClustering's ``ocid_object.py``.)

    Raises:
        InputError: there is no label PNG, or one cannot be read.
    """
    root = _inner(root, "OCID-dataset")
    paths = {}
    for path in root.glob("**/label/*.png"):
        relative = path.relative_to(root)
        paths["/".join(part for part in relative.parts if part != "label")] = path

    def read(path: Path) -> tuple[tuple[int, int], list[rle.RLE]]:
        labels = read_labels(path)
        surfaces = _TABLE if "table" in path.relative_to(root).parts else _FLOOR
        ids = np.unique(labels)
        ids = ids[ids > (0 if supports else surfaces)]
        return labels.shape, rle.encode_id_map(labels, ids)

    return _truth(root, paths, read, expected="**/label/*.png")


def read_camo(root: Path) -> CocoTruth:
    """Read the first CAMO: a binary PNG for each image, one mask each; an image is called by stem or by its number.

    Raises:
        InputError: there is no PNG, or one cannot be read.
    """
    root = _inner(root, "GT")
    truth = _truth(root, {path.stem: path for path in root.glob("*.png")}, _one_mask, expected="*.png")
    numbered = {}
    for stem, number in truth.image_numbers.items():
        digits = re.search(r"[0-9]+$", stem)
        if digits:
            numbered[int(digits.group())] = number
    truth.image_numbers.update(numbered)
    return truth


def read_fss(root: Path, *, split: str) -> CocoTruth:
    """Read FSS-1000: ``CLASS/N.png``, one mask each whatever its components; an image is called ``CLASS/N``.

    Args:
        root: ``fewshot_data``, or the folder that it is in.
        split: "test" for the classes in ``fss_test_set.txt``, which lies in the root or beside it; "all" for all.

    Raises:
        InputError: the list or a class in it is missing, there is no PNG, or one cannot be read.
    """
    folder = _inner(root, "fewshot_data")
    classes = (
        sorted(path.name for path in folder.glob("*") if path.is_dir()) if split == "all" else _test_classes(folder)
    )
    paths = {f"{name}/{path.stem}": path for name in classes for path in (folder / name).glob("*.png")}
    return _truth(folder, paths, _one_mask, expected="CLASS/N.png")


def _test_classes(folder: Path) -> list[str]:
    found = [place / FSS_TEST_LIST for place in (folder, folder.parent) if (place / FSS_TEST_LIST).is_file()]
    if not found:
        raise InputError(f"There is no {FSS_TEST_LIST} in or beside {folder}; put it there or choose the split 'all'.")
    classes = [line.strip() for line in found[0].read_text(encoding="utf-8", errors="replace").splitlines()]
    classes = [name for name in classes if name]
    for name in classes:
        if not (folder / name).is_dir():
            raise InputError(
                f"{found[0]} lists the class {name!r}, but {folder} has no such folder; complete the data."
            )
    return classes


def _inner(root: Path, name: str) -> Path:
    return root / name if (root / name).is_dir() else root


def _one_mask(path: Path) -> tuple[tuple[int, int], list[rle.RLE]]:
    """The mask of an image, none if it is empty."""
    mask = read_foreground(path)
    return mask.shape, [rle.encode(mask)] if mask.any() else []


def _truth(source: Path, paths: Mapping[str, Path], read: ReadMasks, *, expected: str) -> CocoTruth:
    if not paths:
        raise InputError(f"There is no file {expected} in {source}; check the path of the ground truth.")
    images, annotations = [], []
    numbers: dict[Id, int] = {image_id: number for number, image_id in enumerate(sorted(paths), start=1)}
    for image_id, number in numbers.items():
        (height, width), rles = read(paths[image_id])
        images.append({"id": number, "height": height, "width": width})
        for encoded in rles:
            annotation = {"id": len(annotations) + 1, "image_id": number, "category_id": ONE_CLASS, "iscrowd": 0}
            annotations.append(annotation | {"area": rle.area(encoded), "segmentation": encoded})
    categories = [{"id": ONE_CLASS, "name": "object"}]
    return CocoTruth(source, numbers, images, categories, {ONE_CLASS: ONE_CLASS}, annotations)
