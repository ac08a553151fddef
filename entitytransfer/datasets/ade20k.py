"""ADE20K as the scene parsing benchmark published it, raw or prepared.

Below the root, or below ``ADEChallengeData2016`` in it:

    images/{training,validation}/ADE_{train,val}_NNNNNNNN.jpg
    annotations/{training,validation}/*.png             0 = ignored, 1 to 150
    annotations_instance/{training,validation}/*.png    of the second archive: R = class 1 to 100, G = number

and, once prepared, which is optional and makes reading faster:

    annotations_detectron2/{training,validation}/*.png  0 to 149, 255 = ignored
    ade20k_panoptic_{train,val}.json and ade20k_panoptic_{train,val}/
    ade20k_instance_{train,val}.json and ade20k_entity_{train,val}.json
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from cropformer import InputError
from entitytransfer.adapter import Adapter, Sample, SampleSet
from entitytransfer.checks.images import Photos, check_folder, in_parallel
from entitytransfer.checks.instances import check_counts, check_instances
from entitytransfer.checks.maps import check_label_maps, check_panoptic, report_maps
from entitytransfer.classes import Classes
from entitytransfer.doctor import Finding
from entitytransfer.preparation.ade20k import prepare_split
from entitytransfer.readers.ade20k_classes import NUM_CLASSES, NUM_THINGS, task_classes
from entitytransfer.readers.ade20k_files import (
    GET_INSTANCES,
    GET_SCENES,
    PUBLISHED_IMAGES,
    AdeFiles,
    find_home,
    locate_files,
)
from entitytransfer.readers.ade20k_maps import RAW_VALUES, RawMaps, RawSegments
from entitytransfer.readers.coco_json import read_coco
from entitytransfer.readers.label_map import LabelledImages, LabelRegions, read_size_hw
from entitytransfer.readers.label_png import list_pngs
from entitytransfer.readers.panoptic_png import read_panoptic
from entitytransfer.tasks import task_adapter

TASKS = ("entity", "instance", "panoptic", "semantic")


def adapter(*, task: str = "entity") -> Adapter:
    """From disk to metric: "entity" (AP^e), "instance", "panoptic" or "semantic".

    Raises:
        InputError: there is no such task.
    """
    return task_adapter(_checked(task), read)


def read(root: Path | str, *, split: str = "training", task: str = "entity") -> SampleSet:
    """Open a split: from the prepared files of the task where they are, else from the raw ones, with the same result.

    Args:
        root: the folder that holds ``ADEChallengeData2016``, or that folder itself.
        split: "training" or "validation", in short "train" or "val".
        task: "semantic": one region for each class in the image, labels 0 to 149. "panoptic": one segment for each
            stuff class, one for each instance; labels 0 to 149. "instance": labels 0 to 99. "entity": the panoptic
            segments of which a pixel is seen, label 0.

    Raises:
        InputError: there is no such choice, or files are missing or damaged.
    """
    files, classes = locate_files(root, split=split), task_classes(_checked(task))
    samples = _prepared_samples if files.is_prepared(task) else _raw_samples
    return SampleSet(samples(files, classes, task=task), classes)


def prepare(root: Path | str, *, split: str | None = None, workers: int = 1) -> Iterator[str]:
    """Make the prepared files of all tasks, those that are there but left as they are; a line for each split.

    Args:
        root: as in ``read``.
        split: as in ``read``; None prepares both.
        workers: processes.

    Raises:
        InputError: files are missing or damaged, or the place cannot be written.
    """
    for name in PUBLISHED_IMAGES if split is None else (split,):
        yield prepare_split(locate_files(root, split=name), workers=workers)


def examine(
    root: Path | str, *, full: bool = False, split: str | None = None, task: str | None = None
) -> Iterator[Finding]:
    """Say what is missing or broken; the choices are those of ``read``, None examines all of them.

    Raises:
        InputError: there is no such choice.
    """
    if task is not None:
        _checked(task)
    try:
        home = find_home(root)
    except InputError as error:
        yield Finding("missing", str(error).removesuffix(f" {GET_SCENES}"), Path(root), GET_SCENES)
        return
    photos = Photos(full=full)
    for name in PUBLISHED_IMAGES if split is None else (split,):
        files = locate_files(home, split=name)
        published = PUBLISHED_IMAGES[files.split]
        yield from check_folder(files.images, name=f"images/{files.split}", published=published, download=GET_SCENES)
        yield from _examine_semantic(files, photos)
        if task != "semantic":
            yield from _examine_instances(files)
        yield from _examine_prepared(files, photos, tasks=TASKS if task is None else (task,))


def _prepared_samples(files: AdeFiles, classes: Classes, *, task: str) -> Sequence[Sample]:
    if task == "semantic":
        maps = list_pngs(files.prepared_semantic)
        files.check_photos(maps)
        pairs = [(files.image(stem), path) for stem, path in maps.items()]
        return LabelledImages(pairs, partial(LabelRegions, classes=NUM_CLASSES))
    if task == "panoptic":
        samples = read_panoptic(files.json(task), files.panoptic_maps, files.images, label_of=classes.labels())
    else:
        label_of = classes.labels() if task == "instance" else None
        samples = read_coco(files.json(task), files.images, exhaustive=True, label_of=label_of)
    files.check_photos(sample.image_path.stem for sample in samples)
    return samples


def _raw_samples(files: AdeFiles, classes: Classes, *, task: str) -> Sequence[Sample]:
    stems = files.raw_stems(with_instances=task != "semantic")
    pairs = [(files.image(stem), files.semantic / f"{stem}.png") for stem in stems]
    if task == "semantic":
        return LabelledImages(pairs, partial(LabelRegions, **RAW_VALUES))
    return LabelledImages(pairs, partial(_raw_segments, instances=files.instances, task=task))


def _raw_segments(semantic_path: Path, size_hw: tuple[int, int], *, instances: Path, task: str) -> RawSegments:
    return RawSegments(RawMaps(semantic_path, instances / semantic_path.name, size_hw), task)


def _examine_semantic(files: AdeFiles, photos: Photos) -> Iterator[Finding]:
    """The raw maps, or the prepared ones where they are all that is kept."""
    folder, values = files.semantic, RAW_VALUES
    if not list_pngs(folder) and files.is_prepared("semantic"):
        folder, values = files.prepared_semantic, {"classes": NUM_CLASSES}
    maps = list_pngs(folder)
    if not maps:
        yield Finding("missing", f"no map in annotations/{files.split}", folder, GET_SCENES)
        return
    stems = sorted({path.stem for path in files.images.glob("[!.]*.jpg")} | maps.keys())
    pairs = [(files.image(stem), folder / f"{stem}.png") for stem in stems]
    common = {"name": f"{files.split} semantic", "download": GET_SCENES, **values}
    yield from check_label_maps(pairs, photos, source=folder, **common)


def _examine_instances(files: AdeFiles) -> Iterator[Finding]:
    """The raw maps, unless all that is made of them is there without them."""
    if not list_pngs(files.instances):
        if not all(map(files.is_prepared, ("instance", "panoptic", "entity"))):
            yield Finding("missing", f"no map in annotations_instance/{files.split}", files.instances, GET_INSTANCES)
        return
    stems = sorted(list_pngs(files.semantic).keys() | list_pngs(files.instances).keys())
    maps = [(files.semantic / f"{stem}.png", files.instances / f"{stem}.png") for stem in stems]
    found = in_parallel(_instance_labels, maps, name="maps")
    yield from report_maps([path for _, path in maps], found, source=files.instances)
    labels = {stem: shown for stem, shown in zip(stems, found) if isinstance(shown, list)}
    counts, used = {stem: len(shown) for stem, shown in labels.items()}, [k for shown in labels.values() for k in shown]
    yield from check_counts(counts, used, source=files.instances, name=f"{files.split} instances")


def _instance_labels(paths: tuple[Path, Path]) -> list[int] | Exception:
    """The class of every instance of a map, or what is wrong with it; it must be of the size of the semantic one."""
    semantic_path, instance_path = paths
    if not instance_path.is_file():
        return FileNotFoundError(instance_path)
    try:
        like = semantic_path if semantic_path.is_file() else instance_path
        return RawSegments(RawMaps(semantic_path, instance_path, read_size_hw(like)), "instance").labels().tolist()
    except InputError as error:
        return error


def _examine_prepared(files: AdeFiles, photos: Photos, *, tasks: Sequence[str]) -> Iterator[Finding]:
    for task in tasks:
        path = files.json(task)
        common = {"name": path.stem, "download": GET_SCENES}
        if task == "semantic" or not path.is_file():
            continue
        if task == "panoptic":
            maps = files.panoptic_maps.joinpath
            options = {"classes": NUM_CLASSES, "may_hide": True}
            yield from check_panoptic(path, files.images.joinpath, maps, photos, **common, **options)
        else:
            classes = NUM_THINGS if task == "instance" else None
            yield from check_instances(path, files.images.joinpath, photos, **common, classes=classes)


def _checked(task: str) -> str:
    if task not in TASKS:
        raise InputError(f"ADE20K has no task={task}; choose from {', '.join(TASKS)}.")
    return task
