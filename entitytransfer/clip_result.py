"""What was found in one clip of a dataset: whole tracks, as metrics count them and as result files hold them.

Legend: N tracks · F frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cropformer import rle


@dataclass(frozen=True, eq=False)
class ClipResult:
    """The tracks that were found in one clip; panoptic ones share no pixel of a frame.

    Attributes:
        rles: N tracks of F compressed COCO RLEs, None where the track is not visible.
        track_ids: int64 [N], from 1; results of an instance head that differ in their class alone have the same.
        labels: int64 [N].
        scores: float64 [N], each of a track as a whole.
    """

    rles: Sequence[Sequence[rle.RLE | None]]
    track_ids: np.ndarray
    labels: np.ndarray
    scores: np.ndarray

    @classmethod
    def of(
        cls,
        rles: Sequence[Sequence[rle.RLE | None]],
        *,
        track_ids: Sequence[int] | np.ndarray,
        labels: Sequence[int] | np.ndarray,
        scores: Sequence[float] | np.ndarray,
    ) -> "ClipResult":
        """The tracks of these columns, N each."""
        kinds = (track_ids, np.int64), (labels, np.int64), (scores, np.float64)
        return cls(rles, *(np.asarray(values, dtype=kind) for values, kind in kinds))

    def id_map(self, frame: int, size_hw: tuple[int, int]) -> np.ndarray:
        """The track that each pixel of a frame shows, int64 [H,W], 0 for none; of several the first one."""
        rows = [row for row, track in enumerate(self.rles) if track[frame] is not None]
        places = rle.decode_id_map([self.rles[row][frame] for row in rows], size_hw)
        return np.append(0, self.track_ids[rows])[places]

    def __len__(self) -> int:
        """Number of tracks."""
        return len(self.rles)
