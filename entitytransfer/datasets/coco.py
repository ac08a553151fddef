"""Any COCO-format set as class-agnostic entities: an image folder with panoptic or instance annotations."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from cropformer import InputError
from entitytransfer.adapter import Sample
from entitytransfer.checks.images import Photos, check_strays
from entitytransfer.checks.instances import check_instances
from entitytransfer.checks.maps import check_panoptic
from entitytransfer.doctor import Finding
from entitytransfer.readers.coco_json import read_coco
from entitytransfer.readers.panoptic_png import read_panoptic

INSTANCE_NAMES = ("instances.json", "entities.json")
PANOPTIC_NAME = "panoptic.json"


def read(
    root: Path | str,
    *,
    annotations: Path | str | None = None,
    panoptic: Path | str | None = None,
    images: Path | str = "images",
    exhaustive: bool | None = None,
) -> Sequence[Sample]:
    """Open a COCO-format folder; every category collapses to label 0. Paths are relative to `root`.

    Without `annotations` and `panoptic`, the folder's ``panoptic.json`` is taken if there is one, else its
    ``instances.json`` or ``entities.json``. Instances that overlap stay as they are.

    Args:
        root: the dataset's folder.
        annotations: a COCO-instance JSON file.
        panoptic: a COCO-panoptic JSON file; its PNGs are in the folder of the same name without ``.json``.
        images: the image folder.
        exhaustive: whether every region is annotated; None takes a panoptic set as exhaustive, others not.

    Raises:
        InputError: a file or folder is missing, damaged, or both kinds of annotation are asked for.
    """
    root = Path(root)
    image_root = _existing_folder(root / images, "images=")
    path, png_root = _choose(root, annotations=annotations, panoptic=panoptic)
    if png_root is not None:
        return read_panoptic(path, png_root, image_root, exhaustive=exhaustive is not False)
    return read_coco(path, image_root, exhaustive=bool(exhaustive))


def examine(
    root: Path | str,
    *,
    full: bool = False,
    annotations: Path | str | None = None,
    panoptic: Path | str | None = None,
    images: Path | str = "images",
) -> Iterator[Finding]:
    """Say what is missing or broken, see ``entitytransfer.doctor``; the arguments are those of ``read``.

    Args:
        root: the dataset's folder.
        full: decode every photo instead of reading the head of its file.
        annotations: a COCO-instance JSON file.
        panoptic: a COCO-panoptic JSON file.
        images: the image folder.

    Raises:
        InputError: both kinds of annotation are asked for.
    """
    root, photos = Path(root), Photos(full=full)
    try:
        image_root = _existing_folder(root / images, "images=")
        path, png_root = _choose(root, annotations=annotations, panoptic=panoptic)
    except InputError as error:
        yield Finding("missing", str(error), root, "Give the root of a COCO-format set, or download what is missing.")
        return
    common = {"name": path.stem, "download": "Download them again, or leave them out of the annotation file."}
    if png_root is not None:
        yield from check_panoptic(path, image_root.joinpath, png_root.joinpath, photos, **common)
    else:
        yield from check_instances(path, image_root.joinpath, photos, **common)
    yield from check_strays(image_root, photos.known)


def _choose(root: Path, *, annotations: Path | str | None, panoptic: Path | str | None) -> tuple[Path, Path | None]:
    """The annotation file, and the folder of its PNGs if it is a panoptic one."""
    if annotations is not None and panoptic is not None:
        raise InputError("Give either annotations= or panoptic=, not both; they describe the same images.")
    if annotations is None and panoptic is None and (root / PANOPTIC_NAME).is_file():
        panoptic = PANOPTIC_NAME
    if panoptic is not None:
        return root / panoptic, _existing_folder((root / panoptic).with_suffix(""), "panoptic=")
    return (root / annotations if annotations is not None else _find_instances(root)), None


def _existing_folder(path: Path, option: str) -> Path:
    if not path.is_dir():
        raise InputError(f"There is no folder {path}; create it or name the right one with {option}.")
    return path


def _find_instances(root: Path) -> Path:
    for name in INSTANCE_NAMES:
        if (root / name).is_file():
            return root / name
    raise InputError(
        f"{root} holds none of {PANOPTIC_NAME}, {', '.join(INSTANCE_NAMES)}; "
        "name the annotation file with annotations= or panoptic=."
    )
