"""Identity over time: links the queries of consecutive windows into tracks whose ids last for the whole clip.

N entities in a frame · Q queries of a window · L live tracks · C channels · H, W image pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from cropformer import Entities

_IOU_MAX_SIDE = 320  # overlap is counted on every k-th pixel, so that the longer side has at most this many


@dataclass(frozen=True, eq=False)
class FrameResult:
    """One frame of a segmented clip.

    Attributes:
        index: frame number in the clip, from 0.
        time_s: seconds from the start of the clip.
        entities: what the model found in this frame.
        track_ids: int64 [N], one per entity, equal in every frame that shows the same entity; from 1.
        image: uint8 RGB [H,W,3], the frame itself, so that an overlay needs no second decoding.
    """

    index: int
    time_s: float
    entities: Entities
    track_ids: np.ndarray
    image: np.ndarray


class _Track(NamedTuple):
    """What is kept of a live track: its latest query embedding [C] and the latest window that showed it."""

    embedding: np.ndarray
    seen_in: int


class Linker:
    """Gives the queries of window after window their track ids; memory does not grow with the clip.

    Queries continue the live tracks that they resemble most, one to one (Hungarian assignment). Resemblance
    is ``embedding_weight`` x cosine of the query embeddings + the rest x mask IoU on the frames that both
    windows show. To a track that these frames do not show only the first term applies, and the cosine must
    reach ``min_reappearance``. A query that continues no track founds one with a new id; ids are never used
    twice.
    (Identity from query embeddings: MinVIS, Huang et al. 2022, section 3.3.)

    Args:
        overlap: frames at the start of a window that the window before ended with.
        embedding_weight: share of the embeddings, 0 to 1; taken as 0 in a window without embeddings.
        min_similarity: resemblance below which a query is a new entity.
        min_reappearance: cosine below which a query does not continue a track that was out of sight.
        memory: windows in a row that a track survives without being seen.
    """

    def __init__(
        self,
        *,
        overlap: int = 1,
        embedding_weight: float = 0.5,
        min_similarity: float = 0.5,
        min_reappearance: float = 0.75,
        memory: int = 5,
    ) -> None:
        self.overlap = overlap
        self.embedding_weight = embedding_weight
        self.min_similarity = min_similarity
        self.min_reappearance = min_reappearance
        self.memory = memory
        self._tracks: dict[int, _Track] = {}
        self._shared: list[tuple[Entities, np.ndarray]] = []
        self._window = 0
        self._next_id = 1

    def link(self, window: Sequence[Entities]) -> list[np.ndarray]:
        """Track ids of each frame of the next window, int64 [N], in the order of its entities.

        Args:
            window: the entities of every frame, with the same query id where the entity is the same; the
                first ``overlap`` frames are the last ones of the window before.

        Raises:
            ValueError: entities without query ids.
        """
        query_ids, embeddings = _queries(window)
        track_ids = self._continue_tracks(window, query_ids, embeddings)
        track_ids[track_ids == 0] = self._new_ids(np.count_nonzero(track_ids == 0))
        self._remember(track_ids, embeddings)
        per_frame = [track_ids[np.searchsorted(query_ids, _frame_query_ids(frame))] for frame in window]
        self._shared = list(zip(window, per_frame))[max(len(window) - self.overlap, 0) :]
        return per_frame

    def _continue_tracks(self, window: Sequence[Entities], query_ids: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
        """The live track that each query continues, int64 [Q]; 0 = none."""
        live_ids = np.array(sorted(self._tracks), dtype=np.int64)
        track_ids = np.zeros(len(query_ids), dtype=np.int64)
        if live_ids.size and query_ids.size:
            similarity = self._similarity(live_ids, window, query_ids, embeddings)
            rows, columns = linear_sum_assignment(similarity, maximize=True)
            accepted = similarity[rows, columns] > 0
            track_ids[columns[accepted]] = live_ids[rows[accepted]]
        return track_ids

    def _similarity(
        self, live_ids: np.ndarray, window: Sequence[Entities], query_ids: np.ndarray, embeddings: np.ndarray
    ) -> np.ndarray:
        """Resemblance of live tracks and queries, float [L,Q]; 0 where a link is ruled out."""
        weight = self.embedding_weight if embeddings.any() else 0.0
        cosine = _cosine(np.stack([self._tracks[i].embedding for i in live_ids.tolist()]), embeddings)
        iou, is_shown = _shared_iou(self._shared, window, live_ids, query_ids)
        similarity = weight * cosine + (1 - weight) * iou
        is_possible = np.where(is_shown[:, None], similarity >= self.min_similarity, cosine >= self.min_reappearance)
        return np.where(is_possible, similarity, 0.0)

    def _new_ids(self, count: int) -> np.ndarray:
        first, self._next_id = self._next_id, self._next_id + count
        return np.arange(first, self._next_id)

    def _remember(self, track_ids: np.ndarray, embeddings: np.ndarray) -> None:
        for track_id, embedding in zip(track_ids.tolist(), embeddings):
            self._tracks[track_id] = _Track(embedding, self._window)
        oldest = self._window - self.memory
        self._tracks = {i: track for i, track in self._tracks.items() if track.seen_in >= oldest}
        self._window += 1


def _queries(window: Sequence[Entities]) -> tuple[np.ndarray, np.ndarray]:
    """The query ids of a window, sorted int64 [Q], and their embeddings [Q,C], or zeros [Q,1]."""
    query_ids = np.concatenate([_frame_query_ids(frame) for frame in window])
    query_ids, first = np.unique(query_ids, return_index=True)
    frames = [frame for frame in window if len(frame)]
    if not frames or any(frame.embeddings is None for frame in frames):
        return query_ids, np.zeros((len(query_ids), 1), dtype=np.float32)
    return query_ids, np.concatenate([frame.embeddings for frame in frames])[first]


def _frame_query_ids(frame: Entities) -> np.ndarray:
    if frame.query_ids is not None:
        return frame.query_ids
    if len(frame):
        raise ValueError("Linking needs entities with query_ids, shared by the frames of a window.")
    return np.empty(0, dtype=np.int64)


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine between the rows of [L,C] and [Q,C], float [L,Q]; opposites count as 0, as do zero vectors."""
    a, b = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (a, b))
    return np.maximum(a @ b.T, 0.0)


def _shared_iou(
    shared: Sequence[tuple[Entities, np.ndarray]],
    window: Sequence[Entities],
    live_ids: np.ndarray,
    query_ids: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Mask IoU over the shared frames, float [L,Q], and which tracks these frames show, bool [L].

    One joint histogram of the two id maps of a frame counts all L x Q intersections in a single pass.
    """
    counts = np.zeros((len(live_ids) + 1, len(query_ids) + 1), dtype=np.int64)
    for (before, track_ids), after in zip(shared, window):
        rows = _numbered_map(before, 1 + np.searchsorted(live_ids, track_ids))
        columns = _numbered_map(after, 1 + np.searchsorted(query_ids, _frame_query_ids(after)))
        joint = np.bincount((rows * counts.shape[1] + columns).reshape(-1), minlength=counts.size)
        counts += joint.reshape(counts.shape)  # [(L+1)*(Q+1)] -> [L+1,Q+1]
    intersection = counts[1:, 1:]
    track_area, query_area = counts[1:].sum(axis=1), counts[:, 1:].sum(axis=0)
    union = track_area[:, None] + query_area - intersection
    return intersection / np.maximum(union, 1), track_area > 0


def _numbered_map(frame: Entities, numbers: np.ndarray) -> np.ndarray:
    """The id map at reduced resolution with entity i shown as ``numbers[i]``, 0 = none."""
    step = -(-max(frame.size_hw) // _IOU_MAX_SIDE)
    return np.concatenate([[0], numbers])[frame.id_map()[::step, ::step]]
