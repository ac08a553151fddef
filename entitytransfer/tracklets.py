"""Identity over time: links the queries of consecutive windows into tracks whose ids last for the whole clip.

n queries of a window · L live tracks · K classes · C channels · N entities of a frame · H, W image pixels.
"""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from cropformer import Entities
from entitytransfer.tracking.resemblance import SharedFrame, cosine, shared_iou
from entitytransfer.tracking.window_result import WindowResult

_COUNTABLE = -1  # in place of the label of a track that is no stuff


@dataclass(frozen=True, eq=False)
class FrameResult:
    """One frame of a segmented clip.

    Attributes:
        index: frame number in the clip, from 0.
        time_s: seconds from the start of the clip.
        entities: what the model found in this frame.
        track_ids: int64 [N], one per entity, equal in every frame that shows the same entity; from 1.
        image: uint8 RGB [H,W,3], the frame itself, so that an overlay needs no second decoding; None in results that
            were read back from disk.
    """

    index: int
    time_s: float
    entities: Entities
    track_ids: np.ndarray
    image: np.ndarray | None


class Links(NamedTuple):
    """Which tracks the n queries of a window continue, and what is known of them by then.

    Those of the last window of a track are final: its label and score come from them, see `ClipHead.judge`.

    Attributes:
        track_ids: int64 [n].
        class_probs: float64 [n,K+1], mean over the windows of the track so far.
        qualities: float64 [n], likewise of the mean mask probability.
    """

    track_ids: np.ndarray
    class_probs: np.ndarray
    qualities: np.ndarray


@dataclass(frozen=True)
class LinkRules:
    """What continues a track.

    The numbers were chosen on synthetic clips of things that cross, hide and come back, with perturbed masks and
    embeddings, so that ids switch least.

    Attributes:
        overlap: frames at the start of a window that the window before ended with.
        embedding_weight: share of the embeddings in the resemblance, 0 to 1.
        min_similarity: resemblance below which a query is a new entity.
        min_reappearance: cosine below which a query does not continue a track that was out of sight.
        memory: windows in a row that a track survives without being seen.
    """

    overlap: int = 1
    embedding_weight: float = 0.5
    min_similarity: float = 0.4
    min_reappearance: float = 0.75
    memory: int = 10


class _Track(NamedTuple):
    """What is kept of a live track.

    Attributes:
        embedding: float32 [C], of its latest query.
        seen_in: the latest window that showed it.
        windows: how many did.
        prob_sum: float64 [K+1], class probabilities added up over them.
        quality_sum: likewise.
        stuff_label: the class of a track that is not countable.
    """

    embedding: np.ndarray
    seen_in: int
    windows: int
    prob_sum: np.ndarray
    quality_sum: float
    stuff_label: int


class Linker:
    """Gives the queries of window after window their track ids; memory does not grow with the clip.

    Queries continue the live tracks that they resemble most, one to one (Hungarian assignment). First come the
    tracks that the shared frames show: resemblance is ``embedding_weight`` x cosine of the query embeddings + the rest
    x mask IoU on the frames that both windows show. Then those out of sight, by the cosine alone. A query that
    continues no track founds one with a new id; ids are never used twice. Of a class that is not countable there is
    one track in the whole clip.
    (Identity from query embeddings: MinVIS, Huang et al. 2022, section 3.3.)

    Args:
        rules: what continues a track; None for the usual.
    """

    def __init__(self, rules: LinkRules | None = None) -> None:
        self.rules = rules or LinkRules()
        self._tracks: dict[int, _Track] = {}
        self._shared: list[SharedFrame] = []
        self._window = 0
        self._next_id = 1

    def link(self, window: WindowResult) -> Links:
        """The tracks of the queries of the next window, whose first ``overlap`` frames are the last ones of the last.

        Which entity of a frame is which query is in ``window.rows``.
        """
        track_ids = self._stuff_tracks(window)
        self._continue_tracks(window, track_ids)
        track_ids[track_ids == 0] = self._new_ids(np.count_nonzero(track_ids == 0))
        self._remember(window, track_ids)
        shared = range(max(len(window.frames) - self.rules.overlap, 0), len(window.frames))
        self._shared = [SharedFrame(window.frames[i].rles, track_ids[window.rows(i)]) for i in shared]
        tracks = [self._tracks[track_id] for track_id in track_ids.tolist()]
        self._forget()
        return Links(
            track_ids,
            np.array([track.prob_sum / track.windows for track in tracks]).reshape(window.class_probs.shape),
            np.array([track.quality_sum / track.windows for track in tracks]),
        )

    def _stuff_tracks(self, window: WindowResult) -> np.ndarray:
        """The track of each query of a class that has one, int64 [n]; 0 for the others."""
        known = {t.stuff_label: track_id for track_id, t in self._tracks.items() if t.stuff_label != _COUNTABLE}
        return np.array([known.get(label, 0) for label in _stuff_labels(window)], dtype=np.int64)

    def _continue_tracks(self, window: WindowResult, track_ids: np.ndarray) -> None:
        """Fill in the live track that each countable query continues, where there is one."""
        live = np.array([i for i in sorted(self._tracks) if self._tracks[i].stuff_label == _COUNTABLE], dtype=np.int64)
        free = np.flatnonzero(~window.is_stuff)
        if not live.size or not free.size:
            return
        alike = cosine(np.stack([self._tracks[i].embedding for i in live.tolist()]), window.embeddings[free])
        iou, is_shown = shared_iou(self._shared, window, live, free)
        rules, weight = self.rules, self.rules.embedding_weight
        seen = np.where(is_shown[:, None], weight * alike + (1 - weight) * iou, 0)
        hidden = np.where(is_shown[:, None], 0, alike)
        for similarity, least in ((seen, rules.min_similarity), (hidden, rules.min_reappearance)):
            similarity = np.where((similarity >= least) & (track_ids[free] == 0), similarity, 0)
            rows, columns = linear_sum_assignment(similarity, maximize=True)
            accepted = similarity[rows, columns] > 0
            track_ids[free[columns[accepted]]] = live[rows[accepted]]

    def _new_ids(self, count: int) -> np.ndarray:
        first, self._next_id = self._next_id, self._next_id + count
        return np.arange(first, self._next_id)

    def _remember(self, window: WindowResult, track_ids: np.ndarray) -> None:
        new = _Track(np.zeros(0), 0, 0, np.zeros(window.class_probs.shape[1]), 0.0, _COUNTABLE)
        rows = zip(track_ids.tolist(), window.embeddings, window.class_probs, window.qualities, _stuff_labels(window))
        for track_id, embedding, probs, quality, stuff_label in rows:
            before = self._tracks.get(track_id, new)
            self._tracks[track_id] = _Track(
                embedding,
                self._window,
                before.windows + 1,
                before.prob_sum + probs,
                before.quality_sum + float(quality),
                stuff_label,
            )

    def _forget(self) -> None:
        """Let go of the tracks that were out of sight for too long; stuff is never."""
        oldest = self._window - self.rules.memory
        kept = {i: t for i, t in self._tracks.items() if t.seen_in >= oldest or t.stuff_label != _COUNTABLE}
        self._tracks = kept
        self._window += 1

    def state(self) -> dict[str, Any]:
        """All that `restore` needs, as numbers, texts, lists, dicts and arrays that are not shared with this linker."""
        tracks = self._tracks.values()
        columns = {name: np.array([getattr(track, name) for track in tracks]) for name in _Track._fields}
        shared = [
            {"rles": [dict(one) for one in frame.rles], "track_ids": frame.track_ids.copy()} for frame in self._shared
        ]
        return {
            "rules": asdict(self.rules),
            "window": self._window,
            "next_id": self._next_id,
            "track_ids": np.array(list(self._tracks), dtype=np.int64),
            "tracks": columns,
            "shared": shared,
        }

    @classmethod
    def restore(cls, state: dict[str, Any]) -> "Linker":
        """The linker that wrote this state; it goes on exactly as that one would have.

        Lists do in place of arrays, so the state may come from JSON.
        """
        linker = cls(LinkRules(**state["rules"]))
        linker._window, linker._next_id = int(state["window"]), int(state["next_id"])
        rows = zip(*(state["tracks"][name] for name in _Track._fields))
        for track_id, (embedding, seen_in, windows, prob_sum, quality_sum, label) in zip(state["track_ids"], rows):
            linker._tracks[int(track_id)] = _Track(
                np.asarray(embedding, dtype=np.float32),
                int(seen_in),
                int(windows),
                np.asarray(prob_sum, dtype=np.float64),
                float(quality_sum),
                int(label),
            )
        linker._shared = [
            SharedFrame(list(frame["rles"]), np.asarray(frame["track_ids"], dtype=np.int64))
            for frame in state["shared"]
        ]
        return linker


def _stuff_labels(window: WindowResult) -> list[int]:
    """The class of each query that is stuff, and what stands for it where one is not."""
    return np.where(window.is_stuff, window.class_probs[:, :-1].argmax(axis=1), _COUNTABLE).tolist()
