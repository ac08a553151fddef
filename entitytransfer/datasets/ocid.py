"""OCID as published: cluttered table tops and floors, every object labelled.

Below the root, or below ``OCID-dataset`` in it:
``{ARID20,ARID10,YCB10}/{floor,table}/{top,bottom}/[KIND/]seqNN/{rgb,label,depth,pcd}/result_TIME.png``.
"""

from collections.abc import Iterator
from pathlib import Path

from cropformer import InputError
from entitytransfer.adapter import Adapter, SampleSet
from entitytransfer.checks.images import Photos, check_published
from entitytransfer.checks.masks import check_masks
from entitytransfer.classes import ENTITY
from entitytransfer.doctor import Finding
from entitytransfer.readers.mask_file import open_masks
from entitytransfer.readers.mask_folder import find_ocid, inner_folder
from entitytransfer.scorecard import check_choice
from entitytransfer.tasks import task_adapter

SUBSETS = ("ARID20", "ARID10", "YCB10")
IMAGES = 2390
OBJECTS = 89

_DOWNLOAD = "Download OCID, the Object Clutter Indoor Dataset of TU Wien (see its page for the licence), and unpack it."


def read(root: Path | str, *, supports: str = "drop", subset: str | None = None) -> SampleSet:
    """Open the set; the id of an image is its path without ``label/``.

    Args:
        root: ``OCID-dataset``, or the folder that it is in.
        supports: "drop" floor and table, so that objects remain, or "keep" them as regions.
        subset: only the images of a folder, such as "ARID20" or "YCB10/table"; None = all.

    Raises:
        InputError: there is no such folder or choice, no label PNG, or one without photo.
    """
    check_choice("supports", supports, choices=("drop", "keep"))
    masks = find_ocid(Path(root), supports=supports == "keep", subset=subset)
    return SampleSet(open_masks(masks, exhaustive=False, spare_photos=True), ENTITY)


def adapter() -> Adapter:
    """Zero-shot recall."""
    return task_adapter("recall", read)


def examine(root: Path | str, *, full: bool = False, subset: str | None = None) -> Iterator[Finding]:
    """Say what is missing or broken.

    Args:
        root: as in ``read``.
        full: decode every photo instead of reading the head of its file.
        subset: as in ``read``.
    """
    home = inner_folder(Path(root), "OCID-dataset")
    if not any((home / name).is_dir() for name in SUBSETS):
        yield Finding("missing", f"{root} holds no OCID: there is none of {', '.join(SUBSETS)} in it", home, _DOWNLOAD)
        return
    for name in SUBSETS if subset is None else ():
        if not (home / name).is_dir():
            yield Finding("missing", f"no folder {name}", home, _DOWNLOAD)
    try:
        masks = find_ocid(home, supports=False, subset=subset)
    except InputError as error:
        yield Finding("missing", str(error), home, _DOWNLOAD)
        return
    if subset is None:
        yield from check_published(len(masks), IMAGES, "label map", name="OCID", where=home)
    largest = OBJECTS + 2  # floor and table come before the objects
    name = subset or "OCID"
    yield from check_masks(masks, Photos(full=full), source=home, name=name, download=_DOWNLOAD, largest=largest)
