"""Tracks that are kept as a map for each frame, a PNG with a number for each pixel; numbers last through the clip.

Legend: N tracks · F frames · H, W image pixels · h, w pixels of a view.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cropformer import Cut, InputError, cut_masks, rle
from entitytransfer.clip_sample import ClipTruth


@dataclass(frozen=True)
class TrackTable:
    """The tracks of one clip, its crowds last, which only metrics look at.

    Attributes:
        ids: int64 [N], their numbers in the maps.
        category_ids: int64 [N].
        areas: float64 [F,N], pixels; 0 where a track is not in the frame.
        crowds: how many of the tracks are crowds.
    """

    ids: np.ndarray
    category_ids: np.ndarray
    areas: np.ndarray
    crowds: int = 0


@dataclass(frozen=True)
class MapTracks(ABC):
    """The tracks of one clip as a `ClipAnnotation`: a frame's map is read whenever its masks are asked for.

    Attributes:
        map_paths: F files.
        size_hw: of the frames.
        label_of: category id → class label; None makes every track class 0.
    """

    map_paths: tuple[Path, ...]
    size_hw: tuple[int, int]
    label_of: Mapping[int, int] | None

    @property
    @abstractmethod
    def table(self) -> TrackTable:
        """Which tracks there are."""

    @abstractmethod
    def read_map(self, path: Path) -> np.ndarray:
        """Read a file: integers [H,W], 0 = VOID."""

    def labels(self) -> np.ndarray:
        """Return one class label per track: int64 [N]."""
        return self._labels(self.table.category_ids[self._entities])

    def rles(self, frame: int) -> list[rle.RLE | None]:
        """Return the masks of a frame as compressed COCO RLE, None for a track that is not in it."""
        return self._all_rles(frame)[self._entities]

    def cut(self, frame: int, cut: Cut) -> np.ndarray:
        """Return what a view shows of the tracks in a frame: bool [N,h,w]."""
        shown = cut_masks(self.numbers(frame)[None], cut)  # [H,W] -> [1,H,W] -> [1,h,w]
        return shown == self.table.ids[self._entities, None, None]  # [1,h,w] == [N,1,1] -> [N,h,w]

    def truth(self) -> ClipTruth:
        """Return the tracks and the crowds."""
        table, frames = self.table, [self._all_rles(frame) for frame in range(len(self.map_paths))]
        tracks = len(table.ids)
        return ClipTruth(
            rles=[[frame[track] for frame in frames] for track in range(tracks)],
            labels=self._labels(table.category_ids),
            category_ids=table.category_ids,
            track_ids=table.ids,
            areas=table.areas.T.copy(),  # [F,N] -> [N,F]
            is_crowd=np.arange(tracks) >= self._entities.stop,
        )

    def numbers(self, frame: int) -> np.ndarray:
        """Read a map: integers [H,W].

        Raises:
            InputError: it is missing or damaged, or has another size than the frames.
        """
        path = self.map_paths[frame]
        numbers = self.read_map(path)
        if numbers.shape != self.size_hw:
            raise InputError(
                f"{path} has height and width {numbers.shape} but its clip {self.size_hw}; put back the original PNG."
            )
        return numbers

    @property
    def _entities(self) -> slice:
        return slice(len(self.table.ids) - self.table.crowds)

    def _labels(self, category_ids: np.ndarray) -> np.ndarray:
        known = self.label_of
        return np.array([0 if known is None else known[one] for one in category_ids.tolist()], dtype=np.int64)

    def _all_rles(self, frame: int) -> list[rle.RLE | None]:
        encoded = rle.encode_id_map(self.numbers(frame), self.table.ids)
        return [one if area else None for one, area in zip(encoded, self.table.areas[frame], strict=True)]


def count_pixels(maps: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
    """Pixels of every small number but 0 in each map, int64 [F], numbers in the order in which they appear."""
    areas: dict[int, np.ndarray] = {}
    for frame, numbers in enumerate(maps):
        pixels = np.bincount(numbers.reshape(-1))  # [H,W] -> [HW]
        for number in np.flatnonzero(pixels).tolist():
            if number:
                areas.setdefault(number, np.zeros(len(maps), dtype=np.int64))[frame] = pixels[number]
    return areas
