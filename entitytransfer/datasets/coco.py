"""COCO 2017 in its official layout, and any set in its format: an image folder, and panoptic or instance annotations.

Below the root, of COCO 2017:

    annotations/instances_{train,val}2017.json
    annotations/panoptic_{train,val}2017.json and panoptic_{train,val}2017/
    train2017/ and val2017/

of any other set, whatever it names: an instance file, or a panoptic file with its PNGs in the folder of the same name.
"""

from collections.abc import Iterator
from pathlib import Path

from cropformer import InputError
from entitytransfer.adapter import Adapter, SampleSet
from entitytransfer.checks.images import Photos, check_folder, check_strays
from entitytransfer.checks.instances import check_instances
from entitytransfer.checks.maps import check_panoptic
from entitytransfer.classes import ENTITY, Classes
from entitytransfer.doctor import Finding
from entitytransfer.readers.coco_files import PUBLISHED_IMAGES, CocoFiles, is_published, own_files, published_files
from entitytransfer.readers.coco_json import listed_classes, load_json, read_classes, read_coco
from entitytransfer.readers.panoptic_png import panoptic_samples
from entitytransfer.tasks import task_adapter

PUBLISHED_CLASSES = {"entity": 133, "instance": 80, "panoptic": 133}


def adapter(*, task: str = "entity") -> Adapter:
    """From disk to metric: "entity" (all categories are one), "instance" or "panoptic".

    Raises:
        InputError: there is no such task.
    """
    return task_adapter(_checked(task), read)


def read(
    root: Path | str,
    *,
    split: str | None = None,
    task: str = "entity",
    annotations: Path | str | None = None,
    panoptic: Path | str | None = None,
    images: Path | str | None = None,
    exhaustive: bool | None = None,
) -> SampleSet:
    """Open a split of COCO 2017, or another set in COCO's format.

    Without ``split``, ``annotations`` and ``panoptic``, the folder's ``panoptic.json`` is taken if there is one, else
    its ``instances.json`` or ``entities.json``. Instances that overlap stay as they are.

    Args:
        root: the folder that the other paths are relative to.
        split: "train" or "val" of COCO 2017.
        task: "entity": label 0; of COCO 2017 every panoptic segment. "instance", "panoptic": the categories that the
            file lists, labels in the order of their ids.
        annotations: the COCO-instance file of another set.
        panoptic: its COCO-panoptic file; the PNGs are in the folder of the same name without ``.json``.
        images: its image folder; None = ``images``.
        exhaustive: whether every region is annotated, or for task "instance" every region of a listed category; None
            takes every set as such but instance files that are read as entities.

    Raises:
        InputError: there is no such choice, or a file or folder is missing or damaged.
    """
    own = {"annotations": annotations, "panoptic": panoptic, "images": images}
    files = _locate(Path(root), split=split, task=_checked(task), own=own)
    files.check()
    return _samples(files, task=task, exhaustive=exhaustive)


def examine(
    root: Path | str,
    *,
    full: bool = False,
    split: str | None = None,
    task: str | None = None,
    annotations: Path | str | None = None,
    panoptic: Path | str | None = None,
    images: Path | str | None = None,
) -> Iterator[Finding]:
    """Say what is missing or broken, see ``entitytransfer.doctor``; the choices are those of ``read``.

    Args:
        root: the dataset's folder.
        full: decode every photo instead of reading the head of its file.
        split: of COCO 2017; None examines both in a folder that has its layout.
        task: None examines the files of all tasks of COCO 2017, or those of another set as entities.
        annotations: the COCO-instance file of another set.
        panoptic: its COCO-panoptic file.
        images: its image folder.

    Raises:
        InputError: there is no such choice.
    """
    root, photos = Path(root), Photos(full=full)
    own = {"annotations": annotations, "panoptic": panoptic, "images": images}
    if task is not None:
        _checked(task)
    if split is not None or (not any(own.values()) and is_published(root)):
        for name in PUBLISHED_IMAGES if split is None else (split,):
            yield from _examine_published(root, photos, split=name, task=task)
    else:
        yield from _examine_own(root, photos, task=task or "entity", own=own)


def _samples(files: CocoFiles, *, task: str, exhaustive: bool | None) -> SampleSet:
    if files.maps is None:
        whole = task == "instance" if exhaustive is None else exhaustive
        classes = _known(read_classes(files.annotations), files, task=task)
        samples = read_coco(files.annotations, files.images, exhaustive=whole, label_of=_labels(classes))
        return SampleSet(samples, classes)
    content = load_json(files.annotations, fields=("images", "annotations"))
    classes = _known(listed_classes(content), files, task=task)
    options = {"exhaustive": exhaustive is not False, "label_of": _labels(classes)}
    return SampleSet(panoptic_samples(content, files.maps, files.images, source=files.annotations, **options), classes)


def _examine_published(root: Path, photos: Photos, *, split: str, task: str | None) -> Iterator[Finding]:
    for number, name in enumerate(("instance", "panoptic") if task is None else (task,)):
        files = published_files(root, split=split, task=name)
        if number == 0:
            published = {"published": PUBLISHED_IMAGES[split], "download": files.get_images()}
            yield from check_folder(files.images, name=files.images.name, **published)
        missing = list(files.missing())
        for what, remedy in missing:
            if what != f"folder {files.images}":  # that has been said
                yield Finding("missing", f"no {what}", root, remedy)
        if not missing:
            yield from _examine_files(files, photos, name=f"{split} {name}", classes=PUBLISHED_CLASSES[name])


def _examine_own(root: Path, photos: Photos, *, task: str, own: dict[str, Path | str | None]) -> Iterator[Finding]:
    try:
        files = own_files(root, task=task, **own)
        files.check()
    except InputError as error:
        yield Finding("missing", str(error), root, "Give the root of a COCO-format set, or download what is missing.")
        return
    if task != "entity":
        yield from _examine_classes(files, task=task)
    yield from _examine_files(files, photos, name=files.annotations.stem, classes=None)
    yield from check_strays(files.images, photos.known)


def _examine_classes(files: CocoFiles, *, task: str) -> Iterator[Finding]:
    """Whether the file of another set lists the categories that it uses."""
    try:
        _samples(files, task=task, exhaustive=None)
    except InputError as error:
        yield Finding("broken", str(error), files.annotations, "Correct its categories, or read it with task=entity.")


def _examine_files(files: CocoFiles, photos: Photos, *, name: str, classes: int | None) -> Iterator[Finding]:
    common = {"name": name, "download": files.get_images(), "classes": classes}
    if files.maps is None:
        yield from check_instances(files.annotations, files.images.joinpath, photos, **common)
    else:
        yield from check_panoptic(files.annotations, files.images.joinpath, files.maps.joinpath, photos, **common)


def _locate(root: Path, *, split: str | None, task: str, own: dict[str, Path | str | None]) -> CocoFiles:
    if split is None:
        return own_files(root, task=task, **own)
    if any(own.values()):
        raise InputError("split= is for COCO 2017 in its own layout; leave out annotations=, panoptic= and images=.")
    return published_files(root, split=split, task=task)


def _checked(task: str) -> str:
    if task not in PUBLISHED_CLASSES:
        raise InputError(f"COCO has no task={task}; choose from {', '.join(PUBLISHED_CLASSES)}.")
    return task


def _known(listed: Classes, files: CocoFiles, *, task: str) -> Classes:
    """The classes of a task, which for entities are not those that the file lists."""
    if task == "entity":
        return ENTITY
    if not listed:
        raise InputError(f"{files.annotations} lists no categories; add them, or read it with task=entity.")
    return listed


def _labels(classes: Classes) -> dict[int, int] | None:
    return None if classes is ENTITY else classes.labels()
