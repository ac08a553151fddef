"""EntitySeg as published: entities at high and low resolution; of its first part also classes, as instances, semantic
regions and panoptic segments.

Below the root, or below ``entityseg`` in it:

    images/entity_0N_*/ and images_lr/entity_0N_*/
    annotations/entity_segmentation/entityv2_010203_entity_{train,val}[_lr].json and entityv2_0N_entity_train.json
    annotations/instance_segmentation/entityv2_01_instances_{train,val}.json
    annotations/semantic_segmentation/{train,val}.txt and semantic_maps_{train,val}/
    annotations/panoptic_segmentation/entityv2_01_panoptic_{train,val}.json and panoptic_maps_{train,val}/
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cropformer import InputError
from entitytransfer.adapter import Adapter, SampleSet
from entitytransfer.checks.images import Photos, check_folder, check_strays
from entitytransfer.checks.instances import check_instances
from entitytransfer.checks.maps import check_label_maps, check_panoptic
from entitytransfer.classes import ENTITY, Classes
from entitytransfer.doctor import Finding
from entitytransfer.readers.coco_json import listed_classes, load_json, read_classes, read_coco
from entitytransfer.readers.image_places import first_existing
from entitytransfer.readers.label_map import LabelledImages, LabelRegions
from entitytransfer.readers.panoptic_png import panoptic_samples
from entitytransfer.tasks import task_adapter

PARTS = ("entity_01_11580", "entity_02_11598", "entity_03_10049")  # the number is that of the images
IMAGE_FOLDERS = {"high": "images", "low": "images_lr"}
CLASSES = {"instance": 206, "semantic": 150, "panoptic": 350}
IGNORED_LABEL = 255
SEMANTIC_CLASSES = Classes(
    names=tuple(str(label) for label in range(CLASSES["semantic"])),
    category_ids=tuple(range(CLASSES["semantic"])),
    is_thing=(False,) * CLASSES["semantic"],  # one region of a class in an image
)

# Task, split and resolution of everything that is published.
CHOICES = (
    *(("entity", split, resolution) for resolution in ("high", "low") for split in ("train", "val")),
    *(("entity", f"train_0{number}", "high") for number in (1, 2, 3)),
    *((task, split, "high") for task in CLASSES for split in ("train", "val")),
)

_GET_ANNOTATIONS = (
    "Download the annotations of EntitySeg, GitHub adobe-research/EntitySeg-Dataset (Adobe Research License: "
    "no commercial use), and unpack them here."
)
_GET_IMAGES = (
    "Download the images of EntitySeg, Hugging Face dataset qqlu1992/Adobe_EntitySeg or the url_image of the "
    "annotations (every photo keeps the licence of its owner)."
)


@dataclass(frozen=True)
class Files:
    """Where the files of one choice lie.

    Attributes:
        annotations: the JSON file, or the list of the semantic task.
        images: the folder of the folders of images.
        parts: those in which a name without folder is looked for.
        maps: folder of the PNGs of the semantic and the panoptic task.
    """

    annotations: Path
    images: Path
    parts: tuple[str, ...]
    maps: Path

    def image(self, file_name: str) -> Path:
        """Where an image is; its name may or may not say in which part. Where it should be if there is none."""
        places = [self.images / part / file_name for part in self.parts]
        named = Path(file_name).parent != Path()
        return first_existing([self.images / file_name, *places] if named else [*places, self.images / file_name])

    def map(self, file_name: str) -> Path:
        """Where the PNG of an image, or one of this name, is."""
        return self.maps / f"{Path(file_name).stem}.png"

    def pairs(self) -> list[tuple[Path, Path]]:
        """Image and label PNG of every line of the list.

        Raises:
            InputError: the list cannot be read, or has a line that does not name two files.
        """
        try:
            lines = [line.split() for line in self.annotations.read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError) as error:
            raise InputError(f"Cannot read the list {self.annotations} ({error}); download it again.") from error
        for number, names in enumerate(lines, start=1):
            if len(names) != 2:
                raise InputError(f"{self.annotations}, line {number} is not an image and its map; download it again.")
        return [(self.image(image), self.map(png)) for image, png in lines]


def locate_files(root: Path | str, *, split: str, task: str, resolution: str) -> Files:
    """Where the files of a choice should be, whether they exist or not.

    Raises:
        InputError: nothing of this kind is published, or the root holds no EntitySeg.
    """
    _check_choice(split=split, task=task, resolution=resolution)
    home = find_home(root)
    kind = home / "annotations" / f"{task}_segmentation"
    part = split.removeprefix("train_") if split.startswith("train_") else "010203"
    suffix = {"high": "", "low": "_lr"}[resolution]
    name = {
        "entity": f"entityv2_{part}_entity_{split.partition('_')[0]}{suffix}.json",
        "instance": f"entityv2_01_instances_{split}.json",
        "semantic": f"{split}.txt",
        "panoptic": f"entityv2_01_panoptic_{split}.json",
    }[task]
    maps = f"{task}_maps_{split}"
    parts = PARTS[:1] if task != "entity" else tuple(name for name in PARTS if part in ("010203", name.split("_")[1]))
    return Files(kind / name, home / IMAGE_FOLDERS[resolution], parts, first_existing([kind / maps, home / maps]))


def find_home(root: Path | str) -> Path:
    """The folder of ``images`` and ``annotations``: ``entityseg`` in the root, or the root itself.

    Raises:
        InputError: neither is one.
    """
    for home in (Path(root) / "entityseg", Path(root)):
        if (home / "annotations").is_dir() or (home / "images").is_dir():
            return home
    raise InputError(f"{root} holds no EntitySeg: there is neither entityseg/ nor annotations/ and images/ in it.")


def read(root: Path | str, *, split: str = "train", task: str = "entity", resolution: str = "high") -> SampleSet:
    """Open a split.

    Args:
        root: the folder that holds ``entityseg``, or that folder itself.
        split: "train" or "val"; of the entities also "train_01", "train_02" and "train_03", the training images of
            one part.
        task: "entity": every entity, label 0. "instance": labels 0..205. "semantic": one region for each class in
            the image, connected or not, labels 0..149. "panoptic": labels 0..349. Labels follow the ascending
            category ids, as in detectron2.
        resolution: "high", or "low" (entities only): short side 800, long side at most 1333.

    Raises:
        InputError: there is no such choice, or its files are missing or damaged.
    """
    files = locate_files(root, split=split, task=task, resolution=resolution)
    if not files.annotations.is_file():
        raise InputError(f"There is no {files.annotations}. {_get_annotations(files)}")
    if task == "semantic":
        samples = LabelledImages(files.pairs(), partial(LabelRegions, classes=CLASSES[task], ignored=IGNORED_LABEL))
        return SampleSet(samples, SEMANTIC_CLASSES)
    if task == "panoptic":
        content = load_json(files.annotations, fields=("images", "annotations", "categories"))
        classes = _checked(listed_classes(content), files, task=task)
        places = {"source": files.annotations, "label_of": classes.labels()}
        return SampleSet(panoptic_samples(content, files.map, files.image, **places), classes)
    classes = ENTITY if task == "entity" else _checked(read_classes(files.annotations), files, task=task)
    label_of = None if task == "entity" else classes.labels()
    return SampleSet(read_coco(files.annotations, files.image, exhaustive=True, label_of=label_of), classes)


def adapter(*, task: str = "entity") -> Adapter:
    """From disk to metric: "entity" (AP^e), "instance", "semantic" or "panoptic".

    Raises:
        InputError: there is no such task.
    """
    _check_choice(split=None, task=task, resolution=None)
    return task_adapter(task, read)


def examine(
    root: Path | str,
    *,
    full: bool = False,
    split: str | None = None,
    task: str | None = None,
    resolution: str | None = None,
) -> Iterator[Finding]:
    """Say what is missing or broken; the choices are those of ``read``, None examines all of them.

    Raises:
        InputError: there is no such choice.
    """
    wanted = _check_choice(split=split, task=task, resolution=resolution)
    try:
        home = find_home(root)
    except InputError as error:
        yield Finding("missing", str(error), Path(root), f"{_GET_ANNOTATIONS} {_GET_IMAGES}")
        return
    photos = Photos(full=full)
    for folder in dict.fromkeys(IMAGE_FOLDERS[resolution] for _, _, resolution in wanted):
        yield from _examine_folders(home / folder)
    for task_name, split_name, resolution_name in wanted:
        files = locate_files(root, split=split_name, task=task_name, resolution=resolution_name)
        if files.annotations.is_file():
            name = " ".join([split_name, task_name, *(["low-resolution"] if resolution_name == "low" else [])])
            yield from _examine_files(files, photos, name=name, task=task_name)
        else:
            fix = _get_annotations(files)
            yield Finding("missing", f"no {files.annotations.name}", files.annotations.parent, fix)
    if wanted == CHOICES:
        yield from check_strays(home / IMAGE_FOLDERS["high"], photos.known)


def _examine_folders(images: Path) -> Iterator[Finding]:
    for part in PARTS:
        published = int(part.rpartition("_")[2])
        yield from check_folder(
            images / part, name=f"{images.name}/{part}", published=published, download=_get_images(images)
        )


def _examine_files(files: Files, photos: Photos, *, name: str, task: str) -> Iterator[Finding]:
    common = {"name": name, "download": _get_images(files.images), "classes": CLASSES.get(task)}
    if task == "panoptic":
        yield from check_panoptic(files.annotations, files.image, files.map, photos, **common)
    elif task != "semantic":
        yield from check_instances(files.annotations, files.image, photos, **common)
    else:
        try:
            yield from check_label_maps(files.pairs(), photos, source=files.annotations, **common)
        except InputError as error:
            yield Finding("broken", str(error), files.annotations, _GET_ANNOTATIONS)


def _check_choice(*, split: str | None, task: str | None, resolution: str | None) -> tuple[tuple[str, str, str], ...]:
    """The published choices that agree with what is given."""
    given = {"task": task, "split": split, "resolution": resolution}
    fits = tuple(choice for choice in CHOICES if all(a in (None, b) for a, b in zip(given.values(), choice)))
    if not fits:
        typed = " ".join(f"{key}={value}" for key, value in given.items() if value is not None)
        raise InputError(
            f"EntitySeg has no {typed}; choose task= from entity, {', '.join(CLASSES)}, split= from train, val (and of "
            "the entities train_01, train_02, train_03) and resolution= from high (and of the joint entities low)."
        )
    return fits


def _checked(listed: Classes, files: Files, *, task: str) -> Classes:
    """The classes that a file lists, no more than are published."""
    if len(listed) > CLASSES[task]:
        raise InputError(
            f"{files.annotations} lists {len(listed)} categories, but EntitySeg has {CLASSES[task]} for the "
            f"{task} task; download it again."
        )
    return listed


def _get_annotations(files: Files) -> str:
    return _make_low_res(files.images) if files.images.name == IMAGE_FOLDERS["low"] else _GET_ANNOTATIONS


def _get_images(images: Path) -> str:
    return _make_low_res(images) if images.name == IMAGE_FOLDERS["low"] else _GET_IMAGES


def _make_low_res(images: Path) -> str:
    return f"Make the low-resolution set with: python -m tools.make_low_res {images.parent}"
