"""Panoptic regions: queries weighed against each other pixel by pixel, in an image or in the frames of a clip together.

Shapes: F frames, Q queries, N regions, H, W image pixels, y and x pixels of a tile.
Source: the inference of Mask2Former and, over the frames of a clip, of DVIS.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cropformer import FrameQueries, mask_probs
from entitytransfer.classes import Classes


@dataclass(frozen=True)
class Regions:
    """The N regions of F frames, best class probability first.

    Attributes:
        query_ids: int64 [N], the best query of each, which stands for those that are merged into it.
        class_probs: float32 [N,K+1].
        scores: float32 [N].
        labels: int64 [N].
        embeddings: float32 [N,C].
        id_maps: int16 [H,W] of each frame: 0 = none, i + 1 = region i.
    """

    query_ids: np.ndarray
    class_probs: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    embeddings: np.ndarray
    id_maps: list[np.ndarray]


def find_regions(
    frames: Sequence[FrameQueries], classes: Classes, *, min_score: float, min_visible: float, max_memory: int | None
) -> Regions:
    """The regions of an image, or of F frames that share their queries; arguments as of `heads.PanopticHead`.

    A query counts, and is visible enough, or not, in all frames together.
    """
    first = frames[0]
    is_real = first.class_probs.argmax(1) < len(classes)
    chosen = is_real & (first.class_scores > min_score)
    asked = first.select(chosen)
    count = len(asked.query_ids)
    painted = [_paint(frame.select(chosen), max_memory=max_memory) for frame in frames] if count else []
    members = _merge(asked.labels.tolist(), asked.class_scores.tolist(), _visible(painted, min_visible), classes)
    numbers = np.zeros(count + 1, dtype=np.int16)
    for number, queries in enumerate(members, start=1):
        numbers[[query + 1 for query in queries]] = number
    best = asked.select(torch.tensor([queries[0] for queries in members], dtype=torch.int64))
    fields = (best.query_ids, best.class_probs, best.class_scores, best.labels, best.embeddings)
    nothing = np.zeros(first.size_hw, dtype=np.int16)
    id_maps = [numbers[one.ids] for one in painted] or [nothing] * len(frames)
    return Regions(*(field.cpu().numpy() for field in fields), id_maps)


@dataclass(frozen=True)
class _Painted:
    """One frame: who owns each pixel, and how much.

    Attributes:
        ids: int16 [H,W], 0 for nobody and i + 1 for query i.
        won: int64 [Q], pixels where the query has the largest product of class and mask probability.
        areas: int64 [Q], pixels where its mask probability is one half at least.
        owned: int64 [Q], pixels where both hold.
    """

    ids: np.ndarray
    won: Tensor
    areas: Tensor
    owned: Tensor


def _paint(frame: FrameQueries, *, max_memory: int | None) -> _Painted:
    count, device = len(frame.query_ids), frame.class_scores.device
    ids = torch.zeros(frame.size_hw, dtype=torch.int16, device=device)
    won, areas, owned = (torch.zeros(count, dtype=torch.int64, device=device) for _ in range(3))
    for where, probs in mask_probs(frame, max_memory=max_memory):
        inside = probs >= 0.5
        winners = probs.mul_(frame.class_scores[:, None, None]).argmax(0)  # [Q,y,x] -> [y,x]
        owners = (winners + 1) * inside.gather(0, winners[None])[0]
        ids[where] = owners.short()
        won += winners.flatten().bincount(minlength=count)
        areas += inside.flatten(1).sum(1)
        owned += owners.flatten().bincount(minlength=count + 1)[1:]
    return _Painted(ids.cpu().numpy(), won, areas, owned)


def _visible(painted: Sequence[_Painted], min_visible: float) -> list[int]:
    """The queries that win enough of their pixels, and own one at least, in all frames together."""
    if not painted:
        return []
    won, areas, owned = (sum(getattr(one, name) for one in painted) for name in ("won", "areas", "owned"))
    is_visible = won.double() / areas.clamp(min=1) >= min_visible
    return (is_visible & (owned > 0)).nonzero()[:, 0].tolist()


def _merge(labels: list[int], scores: list[float], queries: list[int], classes: Classes) -> list[list[int]]:
    """The queries of each region, best first; stuff of one class is one region."""
    regions: dict[tuple[int, int], list[int]] = {}
    for query in sorted(queries, key=lambda query: (-scores[query], query)):
        label = labels[query]
        regions.setdefault((label, query if classes.is_thing[label] else -1), []).append(query)
    return list(regions.values())
