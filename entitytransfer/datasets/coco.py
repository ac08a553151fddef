"""Any COCO-format set as class-agnostic entities: an image folder with panoptic or instance annotations."""

from pathlib import Path

from cropformer import InputError
from entitytransfer.adapter import Sample
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
) -> list[Sample]:
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
    if annotations is not None and panoptic is not None:
        raise InputError("Give either annotations= or panoptic=, not both; they describe the same images.")
    image_root = _existing_folder(root / images, "images=")
    if annotations is None and panoptic is None and (root / PANOPTIC_NAME).is_file():
        panoptic = PANOPTIC_NAME
    if panoptic is not None:
        png_root = _existing_folder((root / panoptic).with_suffix(""), "panoptic=")
        return read_panoptic(root / panoptic, png_root, image_root, exhaustive=exhaustive is not False)
    path = root / annotations if annotations is not None else _find_instances(root)
    return read_coco(path, image_root, exhaustive=bool(exhaustive))


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
