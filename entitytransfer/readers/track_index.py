"""A YouTube-VIS file, or one of UVO's in its format, as memory-mapped arrays: every record checked, masks compressed.

Legend: V clips · N tracks · F frames.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from cropformer import InputError
from entitytransfer.readers.annotation_index import MappedIndex, Texts
from entitytransfer.readers.coco_json import listed_classes
from entitytransfer.readers.records import Id, Record, by_id, records, shown
from entitytransfer.readers.ytvis_json import YtvisFile, index_ytvis, scan_ytvis, tracks_and_areas

ABSENT = ""  # in place of the counts of a track that is not visible


@dataclass(frozen=True, eq=False)
class TrackIndex(MappedIndex):
    """The clips of a file by ascending id, and their tracks, crowds last.

    A clip of F frames with N tracks has F * N cells, those of its first frame first.

    Attributes:
        sizes_hw: int64 [V,2].
        first_frame: int64 [V+1]; the frames of clip v are those from ``first_frame[v]`` to ``first_frame[v + 1]``.
        first_track: int64 [V+1], the same of its tracks.
        first_cell: int64 [V+1], the same of its cells.
        crowds: int64 [V]; so many of the tracks of each clip, its last ones, are crowds.
        category_ids: int64 [tracks].
        areas: float64 [cells], as the file states them, 0 for null; pixels of the mask where it does not.
        listed_categories: int64 [C], ascending; the ids that the file lists, used or not.
        category_names: C of them.
        clip_ids: V of them, as JSON, because some are numbers and some strings.
        file_names: of all frames.
        counts: of all cells; compressed COCO counts or `ABSENT`.
        path: the file that the arrays are mapped from; None if they are in memory.
    """

    sizes_hw: np.ndarray
    first_frame: np.ndarray
    first_track: np.ndarray
    first_cell: np.ndarray
    crowds: np.ndarray
    category_ids: np.ndarray
    areas: np.ndarray
    listed_categories: np.ndarray
    category_names: Texts
    clip_ids: Texts
    file_names: Texts
    counts: Texts
    path: Path | None = None

    suffix: ClassVar[str] = ".v1.tracks"


@dataclass(frozen=True)
class _Clip:
    """What the index takes from one clip: its tracks sorted, crowds last, and F * N cells."""

    file_names: list[str]
    category_ids: np.ndarray
    crowds: int
    areas: np.ndarray
    counts: list[str]


def build_track_index(path: Path) -> TrackIndex:
    """Read a ground-truth file clip by clip; one without annotations has no tracks.

    Raises:
        InputError: the file is not that, or a record is damaged or contradicts another; with file and record.
    """
    content = scan_ytvis(path, may_lack_annotations=True)
    listed = by_id(records(content["videos"], source=path, kind="video"))
    file = index_ytvis(content, path)
    categories = np.array(_whole(file.category_numbers, path), dtype=np.int64)
    clips = [_read(file, video_id, video, categories) for video_id, video in listed.items()]
    return TrackIndex(
        sizes_hw=np.array([video.size_hw for video in file.videos.values()], dtype=np.int64).reshape(-1, 2),
        first_frame=starts([len(clip.file_names) for clip in clips]),
        first_track=starts([len(clip.category_ids) for clip in clips]),
        first_cell=starts([len(clip.counts) for clip in clips]),
        crowds=np.array([clip.crowds for clip in clips], dtype=np.int64),
        category_ids=np.concatenate([np.zeros(0, np.int64), *(clip.category_ids for clip in clips)]),
        areas=np.concatenate([np.zeros(0), *(clip.areas for clip in clips)]),
        listed_categories=categories,
        category_names=Texts.pack(listed_classes(content).names),
        clip_ids=Texts.pack(map(json.dumps, listed)),
        file_names=Texts.pack(name for clip in clips for name in clip.file_names),
        counts=Texts.pack(counts for clip in clips for counts in clip.counts),
    )


def frame_names(video: Record, num_frames: int) -> list[str]:
    """The ``file_names`` of a clip, one for each frame.

    Raises:
        InputError: they are not that.
    """
    names = video.field("file_names")
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise video.error(f"'file_names' must be a list of names, not {shown(names)}")
    if len(names) != num_frames:
        raise video.error(f"'length' is {num_frames}, but 'file_names' has {len(names)} entries")
    return names


def _read(file: YtvisFile, video_id: Id, listed: Record, categories: np.ndarray) -> _Clip:
    video = file.videos[video_id]
    names = frame_names(listed, video.num_frames)
    tracks, stated = tracks_and_areas(video, file.category_numbers)
    order = np.argsort(tracks.is_crowd, kind="stable")
    masks = [tracks.masks[index] for index in order.tolist()]
    return _Clip(
        file_names=names,
        category_ids=categories[tracks.category_ids[order] - 1],
        crowds=int(tracks.is_crowd.sum()),
        areas=stated[order].T.reshape(-1),  # [N,F] -> [F,N] -> [FN]
        counts=[ABSENT if mask is None else mask["counts"] for frame in zip(*masks) for mask in frame],
    )


def _whole(category_ids: Iterable[Id], path: Path) -> list[int]:
    """The ids, which must be numbers."""
    for one in category_ids:
        if type(one) is not int:
            raise InputError(f"{path} has a category with the id {shown(one)}; number the categories.")
    return list(category_ids)


def starts(lengths: Iterable[int]) -> np.ndarray:
    """Where each of some parts of these lengths begins, and where the last one ends: int64, one more than parts."""
    return np.cumsum([0, *lengths], dtype=np.int64)
