"""VIPSeg: every pixel of clips at 5 frames per second, 124 classes of which 58 are countable; raw or prepared.

Below the root, or below ``VIPSeg`` in it:

    imgs/VIDEO/FRAME.jpg
    panomasks/VIDEO/FRAME.png         16-bit codes; none for the videos of test
    {train,val,test}.txt              names of videos
    panoVIPSeg_categories.json

and, once prepared, 720 pixels high as all published numbers have them, in ``VIPSeg_720P`` there or beside it:

    images/VIDEO/FRAME.jpg and panomasks/VIDEO/FRAME.png
    panomasksRGB/VIDEO/FRAME.png      ids that last through a video
    panoptic_gt_VIPSeg.json and panoptic_gt_VIPSeg_{train,val}.json
"""

from collections.abc import Iterator
from pathlib import Path

from cropformer import InputError
from entitytransfer.adapter import Adapter, SampleSet
from entitytransfer.checks.images import Photos
from entitytransfer.checks.vipseg import check_prepared, check_raw
from entitytransfer.classes import ENTITY
from entitytransfer.doctor import Finding
from entitytransfer.preparation.vipseg import join_splits, prepare_split
from entitytransfer.readers.vipseg_clips import RawClips, read_prepared
from entitytransfer.readers.vipseg_codes import classes_of, read_categories
from entitytransfer.readers.vipseg_files import ANNOTATED, GET, PUBLISHED_VIDEOS, locate_files
from entitytransfer.scorecard import check_choice
from entitytransfer.tasks import clip_task_adapter

TASKS = ("panoptic", "entity")
SPLITS = tuple(PUBLISHED_VIDEOS)


def adapter(*, task: str = "panoptic") -> Adapter:
    """From disk to metric: "panoptic" (VPQ and STQ, 124 classes) or "entity" (AP of tracks that share no pixel).

    Raises:
        InputError: there is no such task.
    """
    check_choice("task", task, choices=TASKS)
    return clip_task_adapter(task, read)


def read(root: Path | str, *, split: str = "train", task: str = "panoptic") -> SampleSet:
    """Open a split, from the prepared files where they are, else from the raw ones; its samples are clips, by name.

    Both have the same tracks in the same order: one for each stuff class, one for each thing. The frames have their
    own size in the raw files, and reading tracks is slower there, because all maps of a clip say which there are.

    Args:
        root: the folder that holds ``VIPSeg``, or that folder itself, or ``VIPSeg_720P``.
        split: "train", "val", or "test", which is never prepared and whose clips have no annotation.
        task: "panoptic": labels 0 to 123. "entity": label 0.

    Raises:
        InputError: there is no such choice, or files are missing or damaged.
    """
    check_choice("task", task, choices=TASKS)
    check_choice("split", split, choices=SPLITS)
    files, by_class = locate_files(root), task == "panoptic"
    if split in ANNOTATED and files.json(split).is_file():
        clips = read_prepared(files, split, by_class=by_class)
        return SampleSet(clips, clips.segments.classes if by_class else ENTITY)
    if not files.list_file(split).is_file():
        raise InputError(f"{root} holds no {split} of VIPSeg: there is no {files.list_file(split).name} in it. {GET}")
    videos, classes = files.complete_videos(split), classes_of(read_categories(files.categories))
    label_of = classes.labels() if by_class else None
    return SampleSet(RawClips(files, videos, classes.is_thing, label_of), classes if by_class else ENTITY)


def prepare(root: Path | str, *, split: str | None = None, workers: int = 1) -> Iterator[str]:
    """Make the prepared files, what is there but left as it is; a line for each JSON file.

    The lists of videos need no end of line after the last one, from whose name the official script takes a letter
    where there is none.

    Args:
        root: as in ``read``.
        split: "train" or "val"; None prepares both, and writes the file of both.
        workers: processes.

    Raises:
        InputError: there is no such split, raw files are missing or damaged, or the place cannot be written.
    """
    if split is not None:
        check_choice("split", split, choices=ANNOTATED)
    files = locate_files(root)
    for name in ANNOTATED if split is None else (split,):
        yield prepare_split(files, name, workers=workers)
    if split is None:
        yield join_splits(files)


def examine(
    root: Path | str, *, full: bool = False, split: str | None = None, task: str = "panoptic"
) -> Iterator[Finding]:
    """Say what is missing or broken; the choices are those of ``read``.

    Args:
        root: the dataset's folder.
        full: decode every frame instead of reading the head of its file. Maps are decoded in any case.
        split: None examines train and val, and test if it is there.
        task: the files are the same for both.

    Raises:
        InputError: there is no such choice.
    """
    check_choice("task", task, choices=TASKS)
    files, photos = locate_files(root), Photos(full=full)
    for name in SPLITS if split is None else (split,):
        check_choice("split", name, choices=SPLITS)
        is_prepared = name in ANNOTATED and files.json(name).is_file()
        if files.list_file(name).is_file():
            yield from check_raw(files, name, photos)
            if name in ANNOTATED and not is_prepared:
                advice = f"Run 'entitytransfer prepare dataset=vipseg root={root}': it is read faster, at 720 pixels."
                yield Finding("note", f"{name} is not prepared", files.prepared, advice)
        elif not is_prepared and (split is not None or name in ANNOTATED):
            yield Finding("missing", f"no {name}.txt and no {files.json(name).name}", Path(root), GET)
        if is_prepared:
            yield from check_prepared(files, name, photos)
