"""A prepared file of VIPSeg as memory-mapped arrays: every record checked, the masks left in their PNGs.

Legend: V clips · N tracks · F frames.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from cropformer import InputError
from entitytransfer.classes import Classes
from entitytransfer.readers.annotation_index import MappedIndex, Texts
from entitytransfer.readers.coco_json import listed_classes, load_json
from entitytransfer.readers.map_tracks import TrackTable
from entitytransfer.readers.panoptic_frames import PanopticFrame
from entitytransfer.readers.records import Id
from entitytransfer.readers.track_index import starts
from entitytransfer.readers.vipseg_json import vipseg_truth


@dataclass(frozen=True, eq=False)
class SegmentIndex(MappedIndex):
    """The clips of a prepared file in its order, and their tracks in the order in which they appear, crowds last.

    Attributes:
        sizes_hw: int64 [V,2].
        first_frame: int64 [V+1]; the frames of clip v are those from ``first_frame[v]`` to ``first_frame[v + 1]``.
        first_track: int64 [V+1], the same of its tracks.
        first_cell: int64 [V+1], the same of its F * N cells, those of its first frame first.
        crowds: int64 [V]; so many of the tracks of each clip, its last ones, are crowds.
        track_ids: int64 [tracks], their ids in the maps.
        category_ids: int64 [tracks].
        areas: float64 [cells], as the file states them; 0 where a frame does not list a track.
        listed_categories: int64 [C], ascending.
        listed_things: bool [C].
        category_names: C of them.
        clip_ids: V of them, as JSON, because some are numbers and some strings.
        file_names: of all maps.
        path: the file that the arrays are mapped from; None if they are in memory.
    """

    sizes_hw: np.ndarray
    first_frame: np.ndarray
    first_track: np.ndarray
    first_cell: np.ndarray
    crowds: np.ndarray
    track_ids: np.ndarray
    category_ids: np.ndarray
    areas: np.ndarray
    listed_categories: np.ndarray
    listed_things: np.ndarray
    category_names: Texts
    clip_ids: Texts
    file_names: Texts
    path: Path | None = None

    suffix: ClassVar[str] = ".v1.segments"

    @property
    def classes(self) -> Classes:
        """The categories that the file lists."""
        ids, things = self.listed_categories.tolist(), self.listed_things.tolist()
        return Classes(tuple(self.category_names), tuple(ids), tuple(things))

    def maps_of(self, clip: int) -> Texts:
        """The names of the maps of a clip."""
        return self.file_names[slice(*self.first_frame[clip : clip + 2].tolist())]

    def tracks_of(self, clip: int) -> TrackTable:
        """The tracks of a clip."""
        tracks, cells = (slice(*first[clip : clip + 2].tolist()) for first in (self.first_track, self.first_cell))
        areas = self.areas[cells].reshape(len(self.maps_of(clip)), -1)  # [FN] -> [F,N]
        return TrackTable(self.track_ids[tracks], self.category_ids[tracks], areas, int(self.crowds[clip]))


def build_segment_index(path: Path) -> SegmentIndex:
    """Read a prepared file.

    Raises:
        InputError: it is not that, or a record is damaged or contradicts another; with file and record.
    """
    content = load_json(path, fields=("videos", "annotations", "categories"))
    truth, classes = vipseg_truth(content, Path(), source=path), listed_classes(content)
    frames = [list(clip.values()) for clip in truth.clips.values()]
    category_ids = np.array(classes.category_ids, dtype=np.int64)
    tables = [_join(clip_id, clip, category_ids, path) for clip_id, clip in zip(truth.clips, frames)]
    return SegmentIndex(
        sizes_hw=np.array([clip[0].size_hw for clip in frames], dtype=np.int64).reshape(-1, 2),
        first_frame=starts(map(len, frames)),
        first_track=starts(len(table.ids) for table in tables),
        first_cell=starts(table.areas.size for table in tables),
        crowds=np.array([table.crowds for table in tables], dtype=np.int64),
        track_ids=np.concatenate([np.zeros(0, np.int64), *(table.ids for table in tables)]),
        category_ids=np.concatenate([np.zeros(0, np.int64), *(table.category_ids for table in tables)]),
        areas=np.concatenate([np.zeros(0), *(table.areas.reshape(-1) for table in tables)]),  # [F,N] -> [FN]
        listed_categories=category_ids,
        listed_things=np.array(classes.is_thing, dtype=bool),
        category_names=Texts.pack(classes.names),
        clip_ids=Texts.pack(map(json.dumps, truth.clips)),
        file_names=Texts.pack(frame.png_path.name for clip in frames for frame in clip),
    )


def _join(clip_id: Id, frames: Sequence[PanopticFrame], category_ids: np.ndarray, source: Path) -> TrackTable:
    """The tracks of the segments that the frames of a clip list; one that is a crowd anywhere is a crowd."""
    if not frames or len({frame.size_hw for frame in frames}) > 1:
        raise InputError(f"{source}: the frames of {clip_id} have several sizes, or there is none; correct its list.")
    classes: dict[int, int] = {}
    crowds: set[int] = set()
    for one in (frame.segments for frame in frames):
        for track_id, number in zip(one.ids.tolist(), one.classes.tolist()):
            if classes.setdefault(track_id, number) != number:
                raise InputError(f"{source}: the segment {track_id} of {clip_id} has two categories; correct the file.")
        crowds.update(one.ids[one.is_crowd].tolist())
    ids = sorted(classes, key=crowds.__contains__)
    columns = {track_id: column for column, track_id in enumerate(ids)}
    areas = np.zeros((len(frames), len(ids)))
    for row, one in zip(areas, (frame.segments for frame in frames)):
        row[[columns[track_id] for track_id in one.ids.tolist()]] = one.areas
    found = category_ids[[classes[track_id] for track_id in ids]]
    return TrackTable(np.array(ids, dtype=np.int64), found, areas, len(crowds))
