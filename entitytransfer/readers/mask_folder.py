"""Ground truth as folders of mask PNGs (OCID, CAMO, FSS-1000, DIS5K): which files count, and what images are called.

The functions ``find_...`` list the masks of a set for whoever opens it. The functions ``read_...`` give all of them in
the terms in which COCO results are scored: a `CocoTruth` with one class, whose image ids are those of result files.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from cropformer import InputError, rle
from entitytransfer.readers.coco_results import CocoTruth
from entitytransfer.readers.coco_set import ONE_CLASS
from entitytransfer.readers.grey_maps import list_maps
from entitytransfer.readers.label_png import list_pngs, read_labels
from entitytransfer.readers.mask_file import MaskFile, list_photos
from entitytransfer.readers.records import Id

FSS_TEST_LIST = "fss_test_set.txt"
CAMO_FOLDERS = {"train": ("Train",), "test": ("Test",), "all": ("Train", "Test")}
_FLOOR, _TABLE = 1, 2  # labels of the support surfaces; 2 is an object where there is no table


def find_ocid(root: Path, *, supports: bool, subset: str | None = None) -> list[MaskFile]:
    """The ``label/*.png`` of OCID: every label is one object; an image is called by its path without label/.

    Args:
        root: ``OCID-dataset``, or the folder that it is in.
        supports: whether floor (label 1) and table (label 2 where the path names a table) count as objects. (Rule of
            UnseenObjectClustering's ``ocid_object.py``.)
        subset: only those of a folder below ``OCID-dataset``, such as "ARID20" or "YCB10/table"; None = all.

    Raises:
        InputError: there is no such folder, or no label PNG.
    """
    home = inner_folder(root, "OCID-dataset")
    place = home / (subset or "")
    if subset is not None and not (place.is_dir() and place.is_relative_to(home)):
        raise InputError(f"{home} has no folder {subset}; choose a subset of OCID, such as ARID20 or YCB10/table.")
    masks = []
    for path in _found(place.glob("**/label/*.png"), place, expected="**/label/*.png"):
        parts = path.relative_to(home).parts
        surfaces = _TABLE if "table" in parts else _FLOOR
        image_id = "/".join(part for part in parts if part != "label")
        masks.append(MaskFile(image_id, path, path.parents[1] / "rgb", read_labels, 0 if supports else surfaces))
    return masks


def find_camo(root: Path, *, split: str) -> list[MaskFile]:
    """The ``GT/*.png`` of the first CAMO: binary, one mask each; an image is called by its stem.

    Args:
        root: ``CAMO-V.1.0-CVIU2019``, the folder that it is in, or one of masks alone, which has no splits.
        split: "train" or "test": those with a photo in ``Images/Train`` or ``Images/Test``; "all" for both.

    Raises:
        InputError: there is no PNG, two for one image, or none with a photo of the split.
    """
    home = inner_folder(root, "CAMO-V.1.0-CVIU2019")
    folder = inner_folder(home, "GT")
    pngs = {path.stem: path for path in _found(list_pngs(folder).values(), folder, expected="*.png")}
    photo_folders = [home / "Images" / name for name in CAMO_FOLDERS[split]]
    if not (home / "Images").is_dir():
        return [MaskFile(stem, path, photo_folders[-1]) for stem, path in pngs.items()]
    members = [(stem, photos) for photos in photo_folders for stem in list_photos(photos) if stem in pngs]
    if not members:
        names = " or ".join(str(photos) for photos in photo_folders)
        raise InputError(f"No PNG in {folder} belongs to a photo in {names}; unpack the whole archive again.")
    return [MaskFile(stem, pngs[stem], photos) for stem, photos in members]


def find_fss(root: Path, *, split: str) -> list[MaskFile]:
    """The ``CLASS/N.png`` of FSS-1000: one mask each whatever its components; an image is called ``CLASS/N``.

    Args:
        root: ``fewshot_data``, or the folder that it is in.
        split: "test" for the classes in ``fss_test_set.txt``, which lies in the root or beside it; "all" for all.

    Raises:
        InputError: the list or a class in it is missing, there is no PNG, or two for one image.
    """
    folder = inner_folder(root, "fewshot_data")
    classes = fss_test_classes(folder) if split == "test" else fss_classes(folder)
    paths = [path for name in classes for path in list_pngs(folder / name).values()]
    return [
        MaskFile(f"{path.parent.name}/{path.stem.strip()}", path, path.parent)
        for path in _found(paths, folder, expected="CLASS/N.png")
    ]


def find_dis5k(root: Path, *, splits: str) -> list[MaskFile]:
    """The ``SPLIT/gt/*.png`` of DIS5K: one mask each; an image is called by its stem, of several splits SPLIT/STEM.

    Args:
        root: ``DIS5K``, or the folder that it is in.
        splits: one name, or several with commas between them.

    Raises:
        InputError: there is no such split, no PNG in it, or two for one image.
    """
    home = inner_folder(root, "DIS5K")
    names = check_splits(home, splits)
    prefixes = {name: f"{name}/" if len(names) > 1 else "" for name in names}
    return [
        MaskFile(f"{prefixes[name]}{stem}", path, home / name / "im")
        for name in names
        for stem, path in list_maps(home / name / "gt").items()
    ]


def read_ocid(root: Path, *, supports: bool) -> CocoTruth:
    """Read OCID, see `find_ocid`. Raises InputError also if a label PNG cannot be read."""
    return _truth(root, find_ocid(root, supports=supports))


def read_camo(root: Path, *, split: str = "test") -> CocoTruth:
    """Read the first CAMO, see `find_camo`; an image is also called by its number.

    Raises InputError also if a PNG cannot be read.
    """
    truth = _truth(root, find_camo(root, split=split))
    numbered = {}
    for stem, number in truth.image_numbers.items():
        digits = re.search(r"[0-9]+$", stem)
        if digits:
            numbered[int(digits.group())] = number
    truth.image_numbers.update(numbered)
    return truth


def read_fss(root: Path, *, split: str) -> CocoTruth:
    """Read FSS-1000, see `find_fss`. Raises InputError also if a PNG cannot be read."""
    return _truth(root, find_fss(root, split=split))


def check_splits(home: Path, splits: str) -> list[str]:
    """The names of some splits of DIS5K.

    Raises:
        InputError: one has no folder of masks, or is named twice.
    """
    names = splits.split(",")
    for name in names:
        if not (home / name / "gt").is_dir() or names.count(name) > 1:
            raise InputError(f"{home} has no folder {name}/gt of its own; choose splits of DIS5K, each once.")
    return names


def fss_classes(folder: Path) -> list[str]:
    """The classes of FSS-1000 that are there."""
    return sorted(path.name for path in folder.glob("[!.]*") if path.is_dir())


def fss_test_classes(folder: Path) -> list[str]:
    """The classes of the test list in a folder, or beside it.

    Raises:
        InputError: there is no list, or no folder of a class in it.
    """
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


def inner_folder(root: Path, name: str) -> Path:
    """The folder of this name in the root, or the root, if that is it."""
    return root / name if (root / name).is_dir() else root


def _found(paths: Iterable[Path], source: Path, *, expected: str) -> list[Path]:
    """The files in alphabetical order, without hidden ones; at least one."""
    found = sorted(path for path in paths if not path.name.startswith("."))
    if not found:
        raise InputError(f"There is no file {expected} in {source}; check the path of the ground truth.")
    return found


def _truth(source: Path, masks: Sequence[MaskFile]) -> CocoTruth:
    ordered = sorted(masks, key=lambda mask: mask.image_id)
    numbers: dict[Id, int] = {mask.image_id: number for number, mask in enumerate(ordered, start=1)}
    sizes_hw = [mask.size_hw for mask in ordered]
    return CocoTruth(
        source=source,
        image_numbers=numbers,
        images=[{"id": number, "height": h, "width": w} for number, (h, w) in enumerate(sizes_hw, start=1)],
        categories=[{"id": ONE_CLASS, "name": "object"}],
        category_numbers={ONE_CLASS: ONE_CLASS},
        annotations=lambda some: [one for number in some for one in _annotations(number, ordered[number - 1])],
        annotation_bytes=np.array([mask.png_path.stat().st_size for mask in ordered], dtype=np.int64),
    )


def _annotations(image_number: int, mask: MaskFile) -> list[dict]:
    common = {"image_id": image_number, "category_id": ONE_CLASS, "iscrowd": 0}
    return [common | {"area": rle.area(encoded), "segmentation": encoded} for encoded in mask.rles()]
