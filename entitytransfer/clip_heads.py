"""Clip heads: the heads of `heads`, deciding for all frames of a window together, and at the end for whole tracks.

Each is the head of an image as well. A window of one frame has the result of an image, but for the score of instances.

Shapes: F frames, Q queries, K classes, N tracks.
Source: the inference of Mask2Former on videos (one window, the whole clip), and of DVIS for panoptic clips.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch

from cropformer import Entities, FrameQueries, InputError, Queries, Source, Views, frame_queries, whole_masks
from entitytransfer.classes import Classes
from entitytransfer.heads import EntityHead, InstanceHead, PanopticHead, best_pairs, check_classes
from entitytransfer.panoptic_regions import Regions, find_regions
from entitytransfer.tracking.window_result import WindowResult, gather_window

_LEAST = np.finfo(np.float32).tiny  # a class score of 0 has the quality 0, not NaN


class Verdict(NamedTuple):
    """What becomes of the tracks of a clip: rows int64 [n] of the N tracks, which may repeat, labels, and scores."""

    rows: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


class ClipHead(Protocol):
    """What the queries of a model mean in a clip.

    Attributes:
        task: "entity", "instance" or "panoptic".
        classes: K classes.
    """

    task: str
    classes: Classes

    def predict_window(self, queries: Queries, views: Views) -> WindowResult:
        """The frames of one window."""

    def judge(self, class_probs: np.ndarray, qualities: np.ndarray) -> Verdict:
        """The final labels and scores of N tracks.

        Args:
            class_probs: float [N,K+1], mean over the windows of each track.
            qualities: float [N], likewise of the mean mask probability.
        """


class ClipEntityHead(EntityHead):
    """Entities that share no pixel of a frame: `EntityHead` for clips, with the scores of each frame.

    The score of a track is its mean class probability times its mean mask probability.
    """

    def predict_window(self, queries: Queries, views: Views) -> WindowResult:
        """The entities of each frame; errors as in `EntityHead`, and InputError if the frames share no queries."""
        first = _frames(queries, views, source=self.source)[0]
        found = self.predict(queries, views)
        scores = first.class_scores.cpu().numpy()
        probs = np.stack([scores, 1 - scores], axis=1) if len(self.classes) == 1 else first.class_probs.cpu().numpy()
        qualities = [one.scores / np.maximum(scores[one.query_ids], _LEAST) for one in found]
        return gather_window(found, class_probs=probs, embeddings=first.embeddings.cpu().numpy(), qualities=qualities)

    def judge(self, class_probs: np.ndarray, qualities: np.ndarray) -> Verdict:
        """Every track with its best class."""
        return _best_classes(class_probs, qualities)


@dataclass(frozen=True)
class ClipInstanceHead(InstanceHead):
    """The best pairs of a query and a class in a window, and of a track and a class in the clip.

    Masks are those of `InstanceHead`, one for each query and frame. The score is the class probability alone, as in
    Mask2Former for videos and what followed it, whose published AP it makes comparable.

    Attributes:
        top_k: how many pairs: 10 is usual in YouTube-VIS, 100 in UVO, whose clips show more.
        use_quality: multiply scores by the mean mask probability, as image heads do.
    """

    top_k: int = 10
    use_quality: bool = False

    @torch.inference_mode()
    def predict_window(self, queries: Queries, views: Views) -> WindowResult:
        """The instances of each frame; InputError if the model knows other classes, or the frames share no queries."""
        check_classes(queries, self.classes)
        frames = _frames(queries, views, source=self.source)
        _, rows, _ = best_pairs(frames[0].class_probs, top_k=self.top_k)
        asked = [frame.select(rows.unique()) for frame in frames]
        masks = [whole_masks(frame, max_memory=self.max_memory) for frame in asked]
        probs, scores, labels, embeddings = _arrays(frames[0])
        window = gather_window(masks, class_probs=probs, embeddings=embeddings, qualities=[one.scores for one in masks])
        scores[window.query_ids] *= window.qualities if self.use_quality else 1
        window.frames[:] = [_labelled(one, scores, labels) for one in masks]
        return window

    def judge(self, class_probs: np.ndarray, qualities: np.ndarray) -> Verdict:
        """The best pairs of a track and a class."""
        scores, rows, labels = (part.numpy() for part in best_pairs(torch.from_numpy(class_probs), top_k=self.top_k))
        return Verdict(rows, labels, scores * qualities[rows] if self.use_quality else scores)


class ClipPanopticHead(PanopticHead):
    """Regions that share no pixel of a frame: `PanopticHead` for clips, whose areas are those in all frames together.

    Whether a query is visible, and which class it has, is decided once for the window; a class that is not countable
    has one region in it, and one track in the clip. The score is the class probability.
    """

    @torch.inference_mode()
    def predict_window(self, queries: Queries, views: Views) -> WindowResult:
        """The regions of each frame; InputError if the model knows other classes, or the frames share no queries."""
        check_classes(queries, self.classes)
        frames = _frames(queries, views, source=self.source)
        found = find_regions(
            frames,
            self.classes,
            min_score=self.min_score,
            min_visible=self.min_visible,
            max_memory=self.max_memory,
        )
        probs, _, labels, embeddings = _arrays(frames[0])
        is_stuff = ~np.array(self.classes.is_thing)[labels]
        return gather_window(
            [_shown(found, id_map) for id_map in found.id_maps],
            class_probs=_of_one_kind(probs, is_stuff, self.classes),
            embeddings=embeddings,
            is_stuff=is_stuff,
        )

    def judge(self, class_probs: np.ndarray, qualities: np.ndarray) -> Verdict:
        """Every track with its best class."""
        return _best_classes(class_probs, qualities)


def _frames(queries: Queries, views: Views, *, source: Source) -> list[FrameQueries]:
    """The frames of one window. Raises InputError where each has queries of its own."""
    if source == "I-O" and len(set(views.frames)) > 1:
        raise InputError("The source I-O has other queries in each frame; use window=1, or another source.")
    return list(frame_queries(queries, views, source=source))


def _arrays(frame: FrameQueries) -> tuple[np.ndarray, ...]:
    """Class probabilities, best of them, labels and embeddings of all queries."""
    fields = (frame.class_probs, frame.class_scores, frame.labels, frame.embeddings)
    probs, scores, labels, embeddings = (field.cpu().numpy() for field in fields)
    return probs, scores.copy(), labels, embeddings


def _labelled(masks: Entities, scores: np.ndarray, labels: np.ndarray) -> Entities:
    """The same masks with the scores and labels of their queries, [Q] each."""
    ids = np.empty(0, dtype=np.int64) if masks.query_ids is None else masks.query_ids
    return Entities.from_rles(masks.size_hw, masks.rles, scores[ids], labels[ids], masks.embeddings, masks.query_ids)


def _shown(found: Regions, id_map: np.ndarray) -> Entities:
    """The regions that a frame shows."""
    entities = Entities.from_id_map(id_map, found.scores, found.labels, found.embeddings, found.query_ids)
    return entities.select(entities.areas() > 0)


def _of_one_kind(probs: np.ndarray, is_stuff: np.ndarray, classes: Classes) -> np.ndarray:
    """Probabilities [Q,K+1] without those of classes of the other kind: no mean makes stuff of a countable track."""
    is_thing = np.array([*classes.is_thing, True])
    other = is_thing[None] == is_stuff[:, None]
    other[:, -1] = False
    return np.where(other, 0, probs)


def _best_classes(class_probs: np.ndarray, qualities: np.ndarray) -> Verdict:
    labels = class_probs[:, :-1].argmax(axis=1)
    rows = np.arange(len(labels))
    return Verdict(rows, labels, class_probs[rows, labels] * qualities)
