"""UVO 1.0: objects of any kind, in clips at 30 frames per second, in clips at one, and in single frames.

Below the root:

    VideoDenseSet/UVO_video_{train,val,test}_dense.json                   kind="dense"
    VideoSparseSet/UVO_sparse_{train,val}_video*.json                     kind="sparse"
    FrameSet/UVO_frame_{train,val,test}.json                              kind="frame"
    uvo_videos_{dense,sparse}/YTID.mp4                                    as published
    uvo_videos_{dense,sparse}_frames/YTID/N.png                           made of them by ``prepare``

The frames may also lie in ``JPEGImages`` in that folder, or in ``uvo_frames_{dense,sparse}``; those of the frame set
are frames of the sparse videos. Every object is annotated; all count as one class.
"""

from collections.abc import Iterator
from pathlib import Path

from cropformer import InputError
from entitytransfer.adapter import Adapter, SampleSet
from entitytransfer.checks.clips import check_clips
from entitytransfer.checks.images import Photos
from entitytransfer.checks.instances import check_instances
from entitytransfer.classes import ENTITY
from entitytransfer.doctor import Finding
from entitytransfer.preparation.uvo import UvoVideos, extract_frames, listed_frames
from entitytransfer.readers.coco_json import read_coco
from entitytransfer.readers.ytvis_clips import read_clips
from entitytransfer.scorecard import check_choice
from entitytransfer.tasks import clip_task_adapter, task_adapter

KINDS = ("dense", "sparse", "frame")
SPLITS = ("train", "val", "test")
TASKS = {"dense": ("entity", "instance"), "sparse": ("entity", "instance"), "frame": ("entity", "recall", "instance")}
PUBLISHED_VIDEOS = {"train": 503, "val": 256, "test": 265}  # of the dense set
TOP_K = 100  # results for a clip, which has 13 objects on average

_FILES = {
    "dense": "VideoDenseSet/UVO_video_{split}_dense.json",
    "sparse": "VideoSparseSet/UVO_sparse_{split}_video*.json",
    "frame": "FrameSet/UVO_frame_{split}.json",
}
_INTERPOLATED = "interpolation"
_GET = (
    "Ask the authors of UVO for its JSON files and videos (annotations CC BY 4.0, videos of Kinetics-400 under the "
    "terms of their owners) and unpack them in the root."
)
_GET_FRAMES = "Extract them with 'entitytransfer prepare dataset=uvo kind={kind} root={root}'."


def adapter(*, task: str = "entity", kind: str = "dense") -> Adapter:
    """From disk to metric, always of one class.

    Args:
        task: "entity": AP of tracks, or of masks in frames, that share no pixel. "instance": the best 100 of each
            clip, which may overlap. "recall": AR@k, of the frame set only.
        kind: as in ``read``.

    Raises:
        InputError: there is no such task or kind.
    """
    _check_choices(kind, task)
    return task_adapter(task, read) if kind == "frame" else clip_task_adapter(task, read, top_k=TOP_K)


def read(
    root: Path | str,
    *,
    kind: str = "dense",
    split: str = "train",
    task: str = "entity",
    interpolated: bool = False,
) -> SampleSet:
    """Open a split; its samples are clips, by ascending id, or images.

    Args:
        root: the dataset's folder.
        kind: "dense", "sparse", or "frame" for images.
        split: "train", "val" or "test", whose annotations may be kept back.
        task: as in ``adapter``; it does not change what is read.
        interpolated: of the sparse set, take the file with tracks filled in between the annotated frames.

    Raises:
        InputError: there is no such choice, or files are missing or damaged.
    """
    _check_choices(kind, task)
    path = _annotations(Path(root), kind=kind, split=split, interpolated=interpolated)
    if path is None:
        raise InputError(f"{root} holds no {kind} set of UVO: there is no {_name(kind, split)} in it. {_GET}")
    videos = _videos(Path(root), kind)
    frames = videos.find_frames()
    if frames is None:
        raise InputError(f"There is no folder {videos.frames}. {_GET_FRAMES.format(kind=kind, root=root)}")
    if kind == "frame":
        return SampleSet(read_coco(path, frames, exhaustive=True), ENTITY)
    return SampleSet(read_clips(path, frames, exhaustive=True, gaps_are_unknown=kind == "sparse"), ENTITY)


def prepare(root: Path | str, *, kind: str = "dense", split: str | None = None, workers: int = 1) -> Iterator[str]:
    """Extract the frames that the annotation files list from the videos; those that are there stay.

    Args:
        root: the dataset's folder.
        kind: as in ``read``.
        split: None takes every split whose annotation file is there.
        workers: processes.

    Yields:
        A line for each split.

    Raises:
        InputError: there is no such choice or no annotation file, videos are missing or damaged (all others are done
            before it says so), or the place cannot be written.
    """
    check_choice("kind", kind, choices=KINDS)
    videos, found = _videos(Path(root), kind), False
    for name in SPLITS if split is None else (split,):
        for interpolated in (False, True) if kind == "sparse" else (False,):
            path = _annotations(Path(root), kind=kind, split=name, interpolated=interpolated)
            if path is not None:
                found = True
                yield f"{path.stem}: {extract_frames(videos, listed_frames(path), source=path, workers=workers)}"
    if not found:
        raise InputError(f"{root} holds no {kind} set of UVO: there is no {_name(kind, split or '*')} in it. {_GET}")


def examine(
    root: Path | str,
    *,
    full: bool = False,
    kind: str = "dense",
    split: str | None = None,
    task: str = "entity",
    interpolated: bool = False,
) -> Iterator[Finding]:
    """Say what is missing or broken; the choices are those of ``read``.

    Args:
        root: the dataset's folder.
        full: decode every frame instead of reading the head of its file.
        kind: what to examine.
        split: None examines train and val.
        task: as in ``adapter``; the files are the same for all.
        interpolated: as in ``read``.

    Raises:
        InputError: there is no such choice.
    """
    _check_choices(kind, task)
    root, photos = Path(root), Photos(full=full)
    videos = _videos(root, kind)
    get_frames = _GET_FRAMES.format(kind=kind, root=root) if videos.folder.is_dir() else _GET
    for name in ("train", "val") if split is None else (split,):
        path = _annotations(root, kind=kind, split=name, interpolated=interpolated)
        if path is None:
            yield Finding("missing", f"no {_name(kind, name)}", root, _GET)
            continue
        folder, common = videos.find_frames() or videos.frames, {"name": f"UVO {kind} {name}", "download": get_frames}
        if kind == "frame":
            yield from check_instances(path, folder.joinpath, photos, **common)
        else:
            published = PUBLISHED_VIDEOS[name] if kind == "dense" else None
            hidden = name == "test"
            yield from check_clips(path, folder, photos, videos=published, may_lack_annotations=hidden, **common)


def _check_choices(kind: str, task: str) -> None:
    check_choice("kind", kind, choices=KINDS)
    check_choice("task", task, choices=TASKS[kind])


def _videos(root: Path, kind: str) -> UvoVideos:
    return UvoVideos(root, "dense" if kind == "dense" else "sparse")


def _annotations(root: Path, *, kind: str, split: str, interpolated: bool) -> Path | None:
    """The annotation file of a split."""
    check_choice("split", split, choices=SPLITS)
    paths = sorted(root.glob(_name(kind, split)))
    if kind == "sparse":
        paths = [path for path in paths if (_INTERPOLATED in path.name) == interpolated]
    return next(iter(paths), None)


def _name(kind: str, split: str) -> str:
    return _FILES[kind].format(split=split)
