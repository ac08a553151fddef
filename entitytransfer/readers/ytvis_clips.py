"""Clips with tracks in the format of YouTube-VIS: a `ClipSample` for each, made when it is asked for.

Legend: N tracks, crowds not among them unless it says so · F frames · h, w pixels of a view.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np

from cropformer import Cut, InputError, cut_rles, rle
from entitytransfer.classes import Classes
from entitytransfer.clip_sample import ClipSample, ClipTruth
from entitytransfer.readers.annotation_index import Texts, open_index
from entitytransfer.readers.track_index import ABSENT, TrackIndex, build_track_index


@dataclass(frozen=True)
class ClipTracks:
    """The encoded tracks of one clip, its crowds last, which only metrics look at.

    Attributes:
        size_hw: of its frames.
        class_labels: classes of all tracks.
        category_ids: the same as the file calls them.
        counts: of all tracks in the first frame, then in the second, and so on; compressed or `ABSENT`.
        areas: the same, as the file states them.
        num_frames: F.
        crowds: how many of the tracks are crowds.
    """

    size_hw: tuple[int, int]
    class_labels: tuple[int, ...]
    category_ids: tuple[int, ...]
    counts: Texts
    areas: tuple[float, ...]
    num_frames: int
    crowds: int = 0

    def labels(self) -> np.ndarray:
        """Return one class label per track: int64 [N]."""
        return np.array(self.class_labels[: self._tracks], dtype=np.int64)

    def rles(self, frame: int) -> list[rle.RLE | None]:
        """Return the masks of a frame as compressed COCO RLE, None for a track that is not visible."""
        return self._all_rles(frame)[: self._tracks]

    def cut(self, frame: int, cut: Cut) -> np.ndarray:
        """Cut what a view shows of a frame out of the runs of its masks: bool [N,h,w]."""
        found = self.rles(frame)
        masks = np.zeros((len(found), *cut.size_hw), dtype=bool)
        visible = [index for index, one in enumerate(found) if one is not None]
        masks[visible] = cut_rles([found[index] for index in visible], cut)
        return masks

    def truth(self) -> ClipTruth:
        """Return the tracks and the crowds."""
        frames = [self._all_rles(frame) for frame in range(self.num_frames)]
        tracks = len(self.class_labels)
        return ClipTruth(
            rles=[[frame[track] for frame in frames] for track in range(tracks)],
            labels=np.array(self.class_labels, dtype=np.int64),
            category_ids=np.array(self.category_ids, dtype=np.int64),
            track_ids=np.arange(1, tracks + 1),
            areas=np.array(self.areas, dtype=np.float64).reshape(self.num_frames, tracks).T,  # [FN] -> [F,N] -> [N,F]
            is_crowd=np.arange(tracks) >= self._tracks,
        )

    @property
    def _tracks(self) -> int:
        return len(self.class_labels) - self.crowds

    def _all_rles(self, frame: int) -> list[rle.RLE | None]:
        first = range(self.num_frames)[frame] * len(self.class_labels)
        size = list(self.size_hw)
        cells = self.counts[first : first + len(self.class_labels)]
        return [None if counts == ABSENT else {"size": size, "counts": counts} for counts in cells]


@dataclass(frozen=True, eq=False)
class YtvisClips(Sequence[ClipSample]):
    """Clips of an annotation file, each a `ClipSample` when it is asked for.

    Attributes:
        folder: what the names of the frames are relative to.
        tracks: what the file says.
        members: int64, which of its clips these are.
        exhaustive: whether every region, or every one of a known category, is annotated.
        label_of: category id → class label; None makes every track class 0.
        gaps_are_unknown: whether nothing is known about a frame without any mask.
    """

    folder: Path
    tracks: TrackIndex
    members: np.ndarray
    exhaustive: bool
    label_of: Mapping[int, int] | None
    gaps_are_unknown: bool = False

    @property
    def sizes_hw(self) -> np.ndarray:
        """Height and width of every clip, int64 [clips,2]."""
        return self.tracks.sizes_hw[self.members]

    @property
    def entity_counts(self) -> np.ndarray:
        """Number of tracks of every clip that are visible in some frame, int64 [clips]."""
        return np.array([self._visible_tracks(clip) for clip in self.members.tolist()], dtype=np.int64)

    @property
    def first_frames(self) -> list[str]:
        """The name of the first frame of every clip."""
        return [self.tracks.file_names[first] for first in self.tracks.first_frame[self.members].tolist()]

    def select(self, kept: Sequence[bool]) -> "YtvisClips":
        """Some of the clips."""
        return replace(self, members=self.members[np.asarray(kept, dtype=bool)])

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.members)

    @overload
    def __getitem__(self, number: int) -> ClipSample: ...

    @overload
    def __getitem__(self, number: slice) -> "YtvisClips": ...

    def __getitem__(self, number: "int | slice") -> "ClipSample | YtvisClips":
        """One clip, or some of them."""
        if isinstance(number, slice):
            return replace(self, members=self.members[number])
        clip = int(self.members[number])
        index, (frames, tracks, cells) = self.tracks, self._slices(clip)
        categories = tuple(index.category_ids[tracks].tolist())
        annotation = ClipTracks(
            size_hw=tuple(index.sizes_hw[clip].tolist()),
            class_labels=tuple(0 if self.label_of is None else self.label_of[one] for one in categories),
            category_ids=categories,
            counts=index.counts[cells],
            areas=tuple(index.areas[cells].tolist()),
            num_frames=frames.stop - frames.start,
            crowds=int(index.crowds[clip]),
        )
        paths = tuple(self.folder / name for name in index.file_names[frames])
        clip_id = json.loads(index.clip_ids[clip])
        annotated = self._annotated(annotation)
        return ClipSample(clip_id, paths, annotation.size_hw, annotation, self.exhaustive, annotated)

    def _visible_tracks(self, clip: int) -> int:
        frames, tracks, cells = self._slices(clip)
        lengths = np.diff(self.tracks.counts.edges[cells.start : cells.stop + 1])
        visible = lengths.reshape(frames.stop - frames.start, -1).any(axis=0)  # [FN] -> [F,N] -> [N]
        return int(visible[: tracks.stop - tracks.start - self.tracks.crowds[clip]].sum())

    def _slices(self, clip: int) -> list[slice]:
        """Its frames, tracks and cells."""
        parts = (self.tracks.first_frame, self.tracks.first_track, self.tracks.first_cell)
        return [slice(*first[clip : clip + 2].tolist()) for first in parts]

    def _annotated(self, annotation: ClipTracks) -> tuple[int, ...] | None:
        """See `ClipSample.annotated`; a file without any track is one that a server scores."""
        if not len(self.tracks.category_ids):
            return ()
        if not self.gaps_are_unknown or not annotation.class_labels:
            return None
        lengths = np.diff(annotation.counts.edges).reshape(annotation.num_frames, -1)  # [FN] -> [F,N]
        known = np.flatnonzero(lengths.any(axis=1))
        return None if len(known) == annotation.num_frames else tuple(known.tolist())


def read_clips(
    annotations: Path | str,
    folder: Path | str,
    *,
    exhaustive: bool = False,
    label_of: Mapping[int, int] | None = None,
    gaps_are_unknown: bool = False,
) -> YtvisClips:
    """Open a file in the format of YouTube-VIS: its clips by ascending id; crowds are in their truth alone.

    The file is parsed when it is opened for the first time; see `annotation_index`.

    Args:
        annotations: the JSON file.
        folder: what the names of its frames are relative to.
        exhaustive: whether every region, or every one of a known category, is annotated.
        label_of: category id → class label; None makes every track class 0.
        gaps_are_unknown: whether nothing is known about a frame without any mask.

    Raises:
        InputError: the file is missing or not that, or a record is damaged or contradicts another.
    """
    path = Path(annotations)
    index = open_index(path, build_track_index, TrackIndex)
    unknown = [] if label_of is None else [c for c in np.unique(index.category_ids).tolist() if c not in label_of]
    if unknown:
        raise InputError(f"{path} has tracks of category {unknown[0]}, which is none of the {len(label_of)} known.")
    members = np.arange(len(index.clip_ids))
    return YtvisClips(Path(folder), index, members, exhaustive, label_of, gaps_are_unknown)


def read_clip_classes(annotations: Path | str) -> Classes:
    """Read the categories that a file lists, by ascending id. Raises InputError as `read_clips` does."""
    index = open_index(Path(annotations), build_track_index, TrackIndex)
    ids = tuple(index.listed_categories.tolist())
    return Classes(tuple(index.category_names), ids, is_thing=(True,) * len(ids))
