"""View fusion: Queries and Views to Entities, one query at a time onto one id map.

Each query's masks in its views are resized, made probabilities and averaged where views overlap (paper section 4,
"Inference"). The best class score goes first and keeps the pixels that it claims. A query costs what its mask covers
of the ground that is still free: tiles that it cannot reach, or that are full, are never looked at. Nothing of size
queries x pixels exists.

Shapes: B images, T views, F frames, Q queries, N tiles, H and W image pixels, h and w the stride-4 grid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from . import rle
from .candidates import Candidate, candidates
from .entities import Entities
from .frame_queries import FrameQueries, Source, frame_queries
from .memory import temporaries_bound
from .painting import Painting
from .queries import Queries
from .views import Views

Compat = Literal["official"] | None

_LEAST_QUALITY = 0.499  # the mean of probabilities above one half, with room for rounding


@torch.inference_mode()
def fuse(
    queries: Queries,
    views: Views,
    *,
    min_score: float = 0.0,
    compat: Compat = None,
    source: Source = "B-OC",
    overlap: bool = False,
    max_memory: int | None = None,
) -> list[Entities]:
    """The entities of every image, or of every frame of every clip, in order.

    Args:
        queries: the model's answer.
        views: the views it was asked about.
        min_score: entities below it are left out; of those whose class score is below it no pixel is computed.
        compat: "official" keeps every choice of the published pipeline: two-step resizing, a quality factor
            that is the sigmoid of a probability, hidden and weak entities exported, order by class score.
        source: which predictions are fused. A photo or frame without crops has its full view alone for all of them.
        overlap: let every entity keep all its pixels; otherwise a pixel belongs to the best class score.
        max_memory: bound in bytes on the temporaries beside the id map; the result does not depend on it. Never
            less is taken than the logits of 16 queries and one tile of 64x64 pixels need.

    Returns:
        B * F results. ``query_ids`` tells which query an entity came from; entities of two frames with the same
        query are the same entity. The score is the class score times the mean mask probability of the
        visible pixels.

    Raises:
        InputError: if there is no such source, or the memory is not positive.
    """
    rules = _Rules(min_score, official=compat == "official", overlap=overlap, memory=temporaries_bound(max_memory))
    frames = frame_queries(queries, views, source=source, two_step=rules.official)
    return [_fuse_frame(frame, rules=rules) for frame in frames]


@torch.inference_mode()
def whole_masks(frame: FrameQueries, *, max_memory: int | None = None) -> Entities:
    """The mask of every query whatever its class says, with all its pixels; those without a pixel are left out.

    Args:
        frame: the queries of one image.
        max_memory: see ``fuse``.

    Returns:
        Masks that may overlap, best score first, which here is the mean mask probability inside the mask.

    Raises:
        InputError: if the memory is not positive.
    """
    certain = replace(frame, class_scores=torch.ones_like(frame.class_scores))
    rules = _Rules(0.0, official=False, overlap=True, memory=temporaries_bound(max_memory))
    return _fuse_frame(certain, rules=rules)


@dataclass(frozen=True)
class _Rules:
    """What is the same for all images of a call."""

    min_score: float
    official: bool
    overlap: bool
    memory: int


def _fuse_frame(frame: FrameQueries, *, rules: _Rules) -> Entities:
    """One image, or one frame of a clip."""
    class_scores, order = frame.class_scores.sort(descending=True, stable=True)
    strong = [score for score in class_scores.tolist() if score >= rules.min_score]
    asked = frame.select(order[: len(strong)])
    painting = Painting(frame.tiling, count=len(strong))
    walk = candidates(asked.mask_embeddings, asked.planes, asked.tiling, free=painting.free, memory=rules.memory)
    claims = [
        _claim(candidate, class_score, painting, number=number, rules=rules)
        for number, (class_score, candidate) in enumerate(zip(strong, walk), start=1)
    ]
    return _entities(asked, claims, painting, rules=rules)


@dataclass(frozen=True)
class _Claim:
    """What came of one query: its score, float []; whether it is kept, bool []; its mask, where masks may overlap."""

    score: Tensor
    kept: Tensor
    rles: list[rle.RLE]


def _claim(candidate: Candidate, class_score: float, painting: Painting, *, number: int, rules: _Rules) -> _Claim:
    """Let one query claim its free pixels, and give them back if its score is too low.

    Without overlap nothing here waits for a GPU: whether an entity is kept stays there until all queries are done.
    """
    total, area = _visible(candidate, painting, number=number, official=rules.official)
    if rules.official:
        score, kept = class_score * total / (area + 1e-6), torch.ones_like(area, dtype=torch.bool)
    else:
        score = class_score * total / area.clamp(min=1)
        kept = (area > 0) & (score >= rules.min_score)
    if rules.overlap:
        rles = painting.encode([number], tiles=candidate.tiles) if kept else []
        painting.clear(candidate.tiles)
        return _Claim(score, kept, rles)
    if not rules.official and class_score * _LEAST_QUALITY < rules.min_score:
        for _, tiles in candidate.steps:
            painting.release(tiles, number=number, unless=kept)
    return _Claim(score, kept, [])


def _visible(candidate: Candidate, painting: Painting, *, number: int, official: bool) -> tuple[Tensor, Tensor]:
    """Paint the free pixels of a query: the sum of their mask probabilities, and how many they are.

    The published pipeline takes the sigmoid of what already is a probability, so its quality, the mean, lies in
    (0.62, 0.74). Tiles are summed one by one first, so that the steps do not change the rounding.
    """
    totals, areas = [candidate.logits[0].new_zeros(1)], [painting.free.new_zeros(1)]
    for group, tiles in candidate.steps:
        probs = painting.tiling.fused_probs(candidate.logits, tiles, views=group.views)
        visible = painting.claim(tiles, probs > 0.5, number=number)
        probs = probs.sigmoid_() if official else probs
        totals.append(probs.mul_(visible).flatten(1).sum(1))  # [N,y,x] -> [N]
        areas.append(visible.flatten(1).sum(1))
    return torch.cat(totals).sum(), torch.cat(areas).sum()


def _entities(frame: FrameQueries, claims: list[_Claim], painting: Painting, *, rules: _Rules) -> Entities:
    """The entities that are kept, one claim for each query of the frame, as read from a GPU in one go."""
    nothing = [frame.query_ids.new_zeros(0)]
    kept = torch.cat([*nothing, *(claim.kept[None] for claim in claims)]).nonzero()[:, 0].tolist()
    scores = torch.cat([*nothing, *(claim.score[None] for claim in claims)]).tolist()
    rles = [mask for claim in claims for mask in claim.rles]
    return Entities.from_rles(
        frame.size_hw,
        rles if rules.overlap else painting.encode([i + 1 for i in kept]),
        [scores[i] for i in kept],
        frame.labels.cpu()[kept].numpy(),
        embeddings=frame.embeddings.cpu()[kept].numpy(),
        query_ids=frame.query_ids.cpu()[kept].numpy(),
        sort=not rules.official,
    )
