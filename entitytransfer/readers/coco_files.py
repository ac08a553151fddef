"""Where the files of a COCO-format set lie: COCO 2017 in its official layout, any other as its owner names them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cropformer import InputError

PUBLISHED_IMAGES = {"train": 118_287, "val": 5_000}
INSTANCE_NAMES = ("instances.json", "entities.json")
PANOPTIC_NAME = "panoptic.json"

_TERMS = "annotations: CC BY 4.0, photos: terms of use of Flickr"


@dataclass(frozen=True)
class CocoFiles:
    """Where the files of one choice should be.

    Attributes:
        annotations: the JSON file.
        images: the folder of the images.
        maps: the folder of the PNGs of a panoptic file, None of an instance file.
        split: of COCO 2017, None of another set.
    """

    annotations: Path
    images: Path
    maps: Path | None
    split: str | None = None

    def check(self) -> None:
        """Raise InputError where something is missing."""
        for what, remedy in self.missing():
            raise InputError(f"There is no {what}. {remedy}")

    def missing(self) -> Iterator[tuple[str, str]]:
        """What is not there, and what to do about it; the file of another set is left to its reader."""
        if self.split is not None and not self.annotations.is_file():
            yield str(self.annotations), self.get_annotations()
        folders = ((self.images, "images=", self.get_images()), (self.maps, "panoptic=", self.get_annotations()))
        for folder, option, remedy in folders:
            if folder is not None and not folder.is_dir():
                own = f"Create it or name the right one with {option}."
                yield f"folder {folder}", own if self.split is None else remedy

    def get_annotations(self) -> str:
        """What to do where annotations are missing; the panoptic archive has archives in it."""
        if self.split is None:
            return "Name the right file, or download it."
        inner = self.annotations.with_suffix(".zip")
        if inner.is_file():
            return f"Unpack {inner} where it is."
        kind = "annotations" if self.maps is None else "panoptic_annotations"
        return f"Download {kind}_trainval2017.zip of COCO ({_TERMS}) and unpack it in the root."

    def get_images(self) -> str:
        """What to do where images are missing."""
        if self.split is None:
            return "Download them again, or leave them out of the annotation file."
        return f"Download {self.split}2017.zip of COCO ({_TERMS}) and unpack it in the root."


def published_files(root: Path, *, split: str, task: str) -> CocoFiles:
    """Where the files of COCO 2017 should be; entities are its panoptic segments.

    Raises:
        InputError: there is no such split.
    """
    if split not in PUBLISHED_IMAGES:
        raise InputError(f"COCO 2017 has no split={split} with annotations; choose from {', '.join(PUBLISHED_IMAGES)}.")
    kind = "instances" if task == "instance" else "panoptic"
    path = root / "annotations" / f"{kind}_{split}2017.json"
    return CocoFiles(path, root / f"{split}2017", path.with_suffix("") if kind == "panoptic" else None, split)


def is_published(root: Path) -> bool:
    """Whether something of COCO 2017 is in this folder."""
    return any((root / "annotations").glob("*_*2017*")) or any((root / f"{s}2017").is_dir() for s in PUBLISHED_IMAGES)


def own_files(
    root: Path, *, task: str, annotations: Path | str | None, panoptic: Path | str | None, images: Path | str | None
) -> CocoFiles:
    """Where the files of another set are; without ``annotations`` and ``panoptic`` they go by the usual names.

    Raises:
        InputError: both are given, neither is there, or the one that is there is not for the task.
    """
    if annotations is not None and panoptic is not None:
        raise InputError("Give either annotations= or panoptic=, not both; they describe the same images.")
    if annotations is None and panoptic is None:
        annotations, panoptic = _find(root, task=task)
    if task == "instance" and annotations is None:
        raise InputError("task=instance needs a COCO-instance file; name it with annotations= in place of panoptic=.")
    if task == "panoptic" and panoptic is None:
        raise InputError("task=panoptic needs a COCO-panoptic file; name it with panoptic= in place of annotations=.")
    image_root = root / (images or "images")
    if panoptic is None:
        return CocoFiles(root / annotations, image_root, None)
    return CocoFiles(root / panoptic, image_root, (root / panoptic).with_suffix(""))


def _find(root: Path, *, task: str) -> tuple[str | None, str | None]:
    """The name of the instance file or of the panoptic file of a folder."""
    names = {"instance": INSTANCE_NAMES, "panoptic": (PANOPTIC_NAME,)}.get(task, (PANOPTIC_NAME, *INSTANCE_NAMES))
    found = next((name for name in names if (root / name).is_file()), None)
    if found is not None:
        return (None, found) if found == PANOPTIC_NAME else (found, None)
    if not root.is_dir():
        raise InputError(f"There is no folder {root}; check the path.")
    if is_published(root):
        raise InputError(f"{root} looks like COCO 2017; say split=train or split=val.")
    raise InputError(
        f"{root} holds none of {', '.join(names)}; name the annotation file with annotations= or panoptic=."
    )
