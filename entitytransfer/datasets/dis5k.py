"""DIS5K as published: photos with one intricate foreground each, in six splits.

Below the root, or below ``DIS5K`` in it: ``{DIS-TR,DIS-VD,DIS-TE1,DIS-TE2,DIS-TE3,DIS-TE4}/{im/*.jpg,gt/*.png}``.
"""

from collections.abc import Iterator
from pathlib import Path

from cropformer import InputError
from entitytransfer.adapter import Adapter, SampleSet
from entitytransfer.checks.images import Photos, check_published
from entitytransfer.checks.masks import check_masks
from entitytransfer.classes import Classes
from entitytransfer.doctor import Finding
from entitytransfer.readers.mask_file import open_masks
from entitytransfer.readers.mask_folder import find_dis5k, inner_folder
from entitytransfer.tasks import task_adapter

SPLITS = {"DIS-TR": 3000, "DIS-VD": 470, "DIS-TE1": 500, "DIS-TE2": 500, "DIS-TE3": 500, "DIS-TE4": 500}  # images
FOREGROUND = Classes(("foreground",), (1,), (False,))

_DOWNLOAD = "Download DIS5K, GitHub xuebinqin/DIS (see its page for the terms of use), and unpack the whole archive."


def read(root: Path | str, *, split: str = "DIS-VD") -> SampleSet:
    """Open splits; an image has one region, where its mask is brighter than 128, or none.

    Args:
        root: ``DIS5K``, or the folder that it is in.
        split: "DIS-TR" (training), "DIS-VD" (validation, the default and that of Table 5), "DIS-TE1" to "DIS-TE4", or
            several with commas between them. The id of an image is its name without ending, of several splits
            SPLIT/NAME.

    Raises:
        InputError: there is no such split, or a photo has no mask or a mask no photo.
    """
    masks = find_dis5k(Path(root), splits=split)
    return SampleSet(open_masks(masks, exhaustive=True, spare_photos=False), FOREGROUND)


def adapter() -> Adapter:
    """Dichotomous segmentation: a grey map of the foreground."""
    return task_adapter("dichotomous", read)


def examine(root: Path | str, *, full: bool = False, split: str | None = None) -> Iterator[Finding]:
    """Say what is missing or broken.

    Args:
        root: as in ``read``.
        full: decode every photo instead of reading the head of its file.
        split: as in ``read``; None examines all.
    """
    home, photos = inner_folder(Path(root), "DIS5K"), Photos(full=full)
    names = list(SPLITS) if split is None else split.split(",")
    if not any((home / name).is_dir() for name in names):
        yield Finding("missing", f"{root} holds no DIS5K: there is none of {', '.join(names)} in it", home, _DOWNLOAD)
        return
    for name in names:
        yield from _examine_split(home, photos, name=name)


def _examine_split(home: Path, photos: Photos, *, name: str) -> Iterator[Finding]:
    absent = [part for part in ("im", "gt") if not (home / name / part).is_dir()]
    for part in absent:
        yield Finding("missing", f"no folder {name}/{part}", home / name, _DOWNLOAD)
    if absent:
        return
    try:
        masks = find_dis5k(home, splits=name)
    except InputError as error:
        yield Finding("broken", str(error), home / name / "gt", _DOWNLOAD)
        return
    if name in SPLITS:
        yield from check_published(len(masks), SPLITS[name], "mask", name=name, where=home / name)
    yield from check_masks(masks, photos, source=home / name, name=name, download=_DOWNLOAD)
