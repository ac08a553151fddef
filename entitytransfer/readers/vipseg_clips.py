"""The clips of VIPSeg, each a `ClipSample` when it is asked for: of the prepared files, or of the raw ones.

Legend: N tracks · F frames · H, W image pixels.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np

from cropformer import InputError
from entitytransfer.clip_sample import ClipSample
from entitytransfer.readers.annotation_index import Texts, open_index
from entitytransfer.readers.label_png import read_size
from entitytransfer.readers.map_tracks import MapTracks, TrackTable, count_pixels
from entitytransfer.readers.panoptic_png import read_id_map
from entitytransfer.readers.segment_index import SegmentIndex, build_segment_index
from entitytransfer.readers.vipseg_codes import category_of_segment, read_segments
from entitytransfer.readers.vipseg_files import RawVideo, VipsegFiles
from entitytransfer.readers.ytvis_clips import ClipTracks


@dataclass(frozen=True)
class PreparedTracks(MapTracks):
    """Tracks in maps of RGB ids; a JSON says which.

    Attributes:
        listed: these.
    """

    listed: TrackTable = field(kw_only=True)

    @property
    def table(self) -> TrackTable:
        """What the JSON says."""
        return self.listed

    def read_map(self, path: Path) -> np.ndarray:
        """Ids, int32 [H,W]."""
        return read_id_map(path)


@dataclass(frozen=True)
class RawTracks(MapTracks):
    """Tracks in raw maps; to see which, all of these are read, once for each clip whose tracks are asked for.

    Attributes:
        is_thing: of each class.
    """

    is_thing: tuple[bool, ...] = field(kw_only=True)

    def read_map(self, path: Path) -> np.ndarray:
        """Codes of segments, uint16 [H,W]."""
        return read_segments(path, self.is_thing)

    @cached_property
    def table(self) -> TrackTable:
        """What the maps show, in the order in which it appears."""
        areas = count_pixels([self.numbers(frame) for frame in range(len(self.map_paths))])
        return TrackTable(
            ids=np.array(list(areas), dtype=np.int64),
            category_ids=np.array([category_of_segment(code) for code in areas], dtype=np.int64),
            areas=np.array(list(areas.values()), dtype=np.float64).reshape(-1, len(self.map_paths)).T,  # [N,F] -> [F,N]
        )


@dataclass(frozen=True, eq=False)
class PreparedClips(Sequence[ClipSample]):
    """The clips of a prepared file.

    Attributes:
        images: the folder with a folder of JPEGs for each video.
        maps: the folder with a folder of PNGs for each video.
        segments: what the file says.
        label_of: category id → class label; None makes every track class 0.
        members: int64, which of its clips these are.
    """

    images: Path
    maps: Path
    segments: SegmentIndex
    label_of: Mapping[int, int] | None
    members: np.ndarray

    @property
    def sizes_hw(self) -> np.ndarray:
        """Height and width of every clip, int64 [clips,2]."""
        return self.segments.sizes_hw[self.members]

    @property
    def entity_counts(self) -> np.ndarray:
        """Number of tracks of every clip, int64 [clips]."""
        return (np.diff(self.segments.first_track) - self.segments.crowds)[self.members]

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.members)

    @overload
    def __getitem__(self, number: int) -> ClipSample: ...

    @overload
    def __getitem__(self, number: slice) -> "PreparedClips": ...

    def __getitem__(self, number: "int | slice") -> "ClipSample | PreparedClips":
        """One clip, or some of them."""
        if isinstance(number, slice):
            return replace(self, members=self.members[number])
        clip = int(self.members[number])
        clip_id, names = json.loads(self.segments.clip_ids[clip]), self.segments.maps_of(clip)
        images = tuple(self.images / str(clip_id) / f"{Path(name).stem}.jpg" for name in names)
        maps = tuple(self.maps / str(clip_id) / name for name in names)
        size_hw = tuple(self.segments.sizes_hw[clip].tolist())
        tracks = PreparedTracks(maps, size_hw, self.label_of, listed=self.segments.tracks_of(clip))
        return ClipSample(clip_id, images, size_hw, tracks, exhaustive=True)


@dataclass(frozen=True, eq=False)
class RawClips(Sequence[ClipSample]):
    """Clips of raw files; those without maps have no annotation.

    Attributes:
        files: where they are.
        videos: what there is of each.
        is_thing: of each class.
        label_of: category id → class label; None makes every track class 0.
    """

    files: VipsegFiles
    videos: Sequence[RawVideo]
    is_thing: tuple[bool, ...]
    label_of: Mapping[int, int] | None

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.videos)

    @overload
    def __getitem__(self, number: int) -> ClipSample: ...

    @overload
    def __getitem__(self, number: slice) -> "RawClips": ...

    def __getitem__(self, number: "int | slice") -> "ClipSample | RawClips":
        """One clip, whose size is that of its first file, or some of them.

        Raises:
            InputError: that file is damaged.
        """
        if isinstance(number, slice):
            return replace(self, videos=self.videos[number])
        video = self.videos[number]
        images, maps = self.files.images_of(video), self.files.maps_of(video)
        size_hw = read_size((maps or images)[0])
        if not maps:
            nothing = ClipTracks(size_hw, (), (), Texts.pack([]), (), len(images))
            return ClipSample(video.name, images, size_hw, nothing, exhaustive=True, annotated=())
        tracks = RawTracks(maps, size_hw, self.label_of, is_thing=self.is_thing)
        return ClipSample(video.name, images, size_hw, tracks, exhaustive=True)


def read_prepared(files: VipsegFiles, split: str, *, by_class: bool) -> PreparedClips:
    """Open the prepared file of a split; it is parsed when that is done for the first time, see `annotation_index`.

    Args:
        files: where it is.
        split: "train" or "val".
        by_class: whether labels are in the order of the ids of the categories, or all 0.

    Raises:
        InputError: the file or a folder is missing, or a record is damaged or contradicts another.
    """
    path, images, maps = files.json(split), files.prepared_images, files.prepared_maps
    for folder in (images, maps):
        if not folder.is_dir():
            raise InputError(f"There is no folder {folder}, of which {path.name} speaks; put it back or prepare again.")
    index = open_index(path, build_segment_index, SegmentIndex)
    label_of = index.classes.labels() if by_class else None
    return PreparedClips(images, maps, index, label_of, np.arange(len(index.clip_ids)))
