"""What a clip head says about one window: its queries once, and the masks that they have in each frame.

Legend: F frames · n queries of the window · N entities of a frame · K classes · C channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cropformer import Entities


@dataclass(frozen=True, eq=False)
class WindowResult:
    """The F frames of one window, decided together.

    Attributes:
        query_ids: int64 [n], ascending: the queries that have a mask in a frame at least.
        class_probs: float32 [n,K+1], the last class is "no object".
        embeddings: float32 [n,C].
        qualities: float32 [n], mean mask probability inside the masks of all frames; 1 where the head does not ask.
        is_stuff: bool [n], whether the class of a query is not countable, so that a clip has one region of it.
        frames: entities of each frame, whose ``query_ids`` are among these.
    """

    query_ids: np.ndarray
    class_probs: np.ndarray
    embeddings: np.ndarray
    qualities: np.ndarray
    is_stuff: np.ndarray
    frames: list[Entities]

    def rows(self, frame: int) -> np.ndarray:
        """Which of the n queries each entity of a frame belongs to: int64 [N]."""
        found = self.frames[frame]
        ids = np.empty(0, dtype=np.int64) if found.query_ids is None else found.query_ids
        return np.searchsorted(self.query_ids, ids)


def gather_window(
    frames: list[Entities],
    *,
    class_probs: np.ndarray,
    embeddings: np.ndarray,
    qualities: Sequence[np.ndarray] | None = None,
    is_stuff: np.ndarray | None = None,
) -> WindowResult:
    """Put the frames of a window together.

    Args:
        frames: entities of each frame with their query ids; those without an entity may lack them.
        class_probs: float [Q,K+1] of all queries of the model.
        embeddings: float [Q,C] likewise.
        qualities: mean mask probability of each entity, float [N] for each frame; None = 1. Those of a query are
            averaged by area.
        is_stuff: bool [Q]; None = no class is.
    """
    ids = [frame.query_ids for frame in frames if len(frame)]
    query_ids = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *ids]))
    result = WindowResult(
        query_ids,
        class_probs[query_ids].astype(np.float32),
        embeddings[query_ids].astype(np.float32),
        np.ones(len(query_ids), dtype=np.float32),
        np.zeros(len(query_ids), dtype=bool) if is_stuff is None else is_stuff[query_ids],
        frames,
    )
    if qualities is not None:
        result.qualities[:] = _mean_qualities(result, qualities)
    return result


def _mean_qualities(window: WindowResult, qualities: Sequence[np.ndarray]) -> np.ndarray:
    totals, areas = np.zeros((2, len(window.query_ids)))
    for number, (frame, quality) in enumerate(zip(window.frames, qualities)):
        rows, frame_areas = window.rows(number), frame.areas()
        totals[rows] += quality * frame_areas
        areas[rows] += frame_areas
    return totals / np.maximum(areas, 1)
