"""LVIS v1 as published: COCO photos of which many, but not all, objects are annotated; here without regard to classes.

Below the root:

    annotations/lvis_v1_{train,val}.json, or the files themselves
    train2017/*.jpg and val2017/*.jpg, or the two below coco/; both splits have images of both folders
"""

from collections.abc import Iterator
from pathlib import Path

from cropformer import InputError
from entitytransfer.adapter import Adapter, SampleSet
from entitytransfer.checks.images import Photos
from entitytransfer.checks.instances import check_instances
from entitytransfer.classes import ENTITY
from entitytransfer.doctor import Finding
from entitytransfer.readers.coco_json import read_coco
from entitytransfer.readers.image_places import ImagePlaces, first_existing
from entitytransfer.scorecard import check_choice
from entitytransfer.tasks import task_adapter

IMAGES = {"train": 100170, "val": 19809}
CATEGORIES = 1203
IMAGE_FOLDERS = ("train2017", "val2017")

_GET_ANNOTATIONS = "Download the annotations of LVIS v1 (CC BY 4.0; see the page of the set) and unpack them here."
_GET_IMAGES = (
    "Download the folders train2017 and val2017 of COCO (every photo keeps the licence of its owner), or name the "
    "folder that holds them with images=."
)


def read(root: Path | str, *, split: str = "val", images: Path | str | None = None) -> SampleSet:
    """Open a split; the id of an image is that of the file, and regions without annotation are unknown.

    Args:
        root: the folder of the annotations.
        split: "val" or "train".
        images: folder that holds ``train2017`` and ``val2017``, relative to the root; None looks in the root and in
            ``coco`` below it.

    Raises:
        InputError: there is no such split, or the annotation file or both image folders are missing.
    """
    path, places = _annotations(Path(root), split=split), _places(Path(root), images)
    if not path.is_file():
        raise InputError(f"There is no {path}. {_GET_ANNOTATIONS}")
    if not _folders(places):
        raise InputError(f"There is neither train2017 nor val2017 in {places.folders[0]}. {_GET_IMAGES}")
    return SampleSet(read_coco(path, places.locate), ENTITY)


def adapter() -> Adapter:
    """Zero-shot recall."""
    return task_adapter("recall", read)


def examine(
    root: Path | str, *, full: bool = False, split: str = "val", images: Path | str | None = None
) -> Iterator[Finding]:
    """Say what is missing or broken.

    Args:
        root: as in ``read``.
        full: decode every photo instead of reading the head of its file.
        split: as in ``read``.
        images: as in ``read``.

    Raises:
        InputError: there is no such split.
    """
    path, places = _annotations(Path(root), split=split), _places(Path(root), images)
    if not path.is_file():
        yield Finding("missing", f"{root} holds no LVIS: there is no {path.name} in it", path.parent, _GET_ANNOTATIONS)
    present = {folder.name for folder in _folders(places)}
    for name in IMAGE_FOLDERS:
        if name not in present:
            yield Finding("missing", f"no folder {name}", places.folders[0], _GET_IMAGES)
    if not path.is_file() or not present:
        return
    expected = {"classes": CATEGORIES, "images": IMAGES[split]}
    yield from check_instances(
        path, places.locate, Photos(full=full), name=f"LVIS {split}", download=_GET_IMAGES, **expected
    )


def _annotations(root: Path, *, split: str) -> Path:
    check_choice("split", split, choices=tuple(IMAGES))
    name = f"lvis_v1_{split}.json"
    return first_existing([root / "annotations" / name, root / name])


def _places(root: Path, images: Path | str | None) -> ImagePlaces:
    return ImagePlaces((root, root / "coco") if images is None else (root / images,))


def _folders(places: ImagePlaces) -> list[Path]:
    """The image folders that are there."""
    found = [folder / name for folder in places.folders for name in IMAGE_FOLDERS]
    return [folder for folder in found if folder.is_dir()]
