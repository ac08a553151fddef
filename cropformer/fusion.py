"""View fusion: Queries and Views to Entities, one query at a time onto one id map.

Each query's masks in its views are resized, made probabilities and averaged where views overlap (paper section 4,
"Inference"). The best class score goes first and keeps the pixels that it claims. Nothing of size
queries x pixels exists: the memory beside the id map is that of one entity's box.

Shapes: B images, T views, F frames, Q queries, H and W image pixels, h and w the stride-4 grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from . import rle
from .entities import Entities
from .errors import InputError
from .queries import Queries
from .resampling import view_weights
from .views import Views

Compat = Literal["official"] | None
Source = Literal["B-OC", "B-O", "B-C", "I-O"]
"""Which predictions are fused (Table 8b): of the Batch or Image decoder, of the Original view, the Crops, or both."""


@dataclass(frozen=True)
class ViewMap:
    """How the stride-4 logits of one view lie in its image: ``box_xyxy``, row weights [y,h], column weights [x,w]."""

    box_xyxy: tuple[int, int, int, int]
    rows: Tensor
    columns: Tensor

    def covered_box(self, positive: Tensor) -> tuple[int, int, int, int] | None:
        """Image box that bool ``positive`` [h,w] can reach once resized.

        None if there is none: nothing is positive, or only padding, or only what falls between the pixels of an
        image that is coarser than the grid.
        """
        y = (self.rows[:, positive.any(1)] > 0).any(1).nonzero()
        x = (self.columns[:, positive.any(0)] > 0).any(1).nonzero()
        if not (len(y) and len(x)):
            return None
        left, top = self.box_xyxy[:2]
        return left + int(x[0]), top + int(y[0]), left + int(x[-1]) + 1, top + int(y[-1]) + 1

    def paste_back(self, logits: Tensor, box_xyxy: tuple[int, int, int, int]) -> Tensor:
        """Logits [h,w] at the image pixels of a box inside this view; the inverse of ``cut_view``. Float [y,x]."""
        left, top = self.box_xyxy[:2]
        x0, y0, x1, y1 = box_xyxy
        rows, columns = self.rows[y0 - top : y1 - top], self.columns[x0 - left : x1 - left]
        (r0, r1), (c0, c1) = _used(rows), _used(columns)
        return rows[:, r0:r1] @ logits[r0:r1, c0:c1] @ columns[:, c0:c1].T


def _used(weights: Tensor) -> tuple[int, int]:
    """First and last grid position that a band of consecutive weight rows reads; half open."""
    first, last = weights[0].nonzero(), weights[-1].nonzero()
    return int(first[0]), int(last[-1]) + 1


@torch.inference_mode()
def fuse(
    queries: Queries,
    views: Views,
    *,
    min_score: float = 0.0,
    compat: Compat = None,
    source: Source = "B-OC",
    overlap: bool = False,
) -> list[Entities]:
    """The entities of every image, or of every frame of every clip, in order.

    Args:
        queries: the model's answer.
        views: the views it was asked about.
        min_score: entities below it are left out; no pixel of theirs is computed.
        compat: "official" keeps every choice of the published pipeline: two-step resizing, a quality factor
            that is the sigmoid of a probability, hidden and weak entities exported, order by class score.
        source: which predictions are fused. A photo or frame without crops has its full view alone for all of them.
        overlap: let every entity keep all its pixels; otherwise a pixel belongs to the best class score.

    Returns:
        B * F results. ``query_ids`` tells which query an entity came from; entities of two frames with the same
        query are the same entity. The score is the class score times the mean mask probability of the
        visible pixels.

    Raises:
        InputError: if there is no such source.
    """
    if source not in get_args(Source):
        raise InputError(f"there is no prediction source {source!r}; the sources are {', '.join(get_args(Source))}")
    results = []
    for image in range(len(views.image_sizes_hw)):
        for frame in sorted(set(views.frames)):
            members = [t for t, f in enumerate(views.frames) if f == frame]
            chosen, row, members = _choose(queries, image, members, views=len(views.frames), source=source)
            maps = _view_maps(views, image, members, mask_features=chosen.mask_features, compat=compat)
            # The image decoder's queries hold one view each, as their only one.
            features = [0] if source == "I-O" else members
            size_hw = tuple(views.image_sizes_hw[image].tolist())
            painting = _Painting(size_hw, overlap=overlap, device=chosen.mask_features.device)
            results.append(_paint(chosen, row, features, maps, painting, min_score=min_score, compat=compat))
    return results


def _choose(
    queries: Queries, image: int, members: list[int], *, views: int, source: Source
) -> tuple[Queries, int, list[int]]:
    """The queries to read, their row in the batch, and the views to fuse, for one prediction source."""
    if source == "I-O" and queries.per_view is not None:
        return queries.per_view, image * views + members[0], members[:1]
    kept = {"B-OC": members, "B-O": members[:1], "B-C": members[1:] or members, "I-O": members[:1]}
    return queries, image, kept[source]


def _view_maps(views: Views, image: int, members: list[int], *, mask_features: Tensor, compat: Compat) -> list[ViewMap]:
    maps = []
    for t in members:
        box, valid_hw = views.boxes_xyxy[image, t].tolist(), views.sizes_hw[image, t].tolist()
        rows, columns = (
            view_weights(
                mask_features.shape[-2:][axis],
                padded=views.pixels.shape[-2:][axis],
                valid=valid_hw[axis],
                target=box[3 - axis] - box[1 - axis],
                two_step=compat == "official",
                device=mask_features.device,  # the views may have stayed on the CPU
            )
            for axis in (0, 1)
        )
        maps.append(ViewMap(tuple(box), rows, columns))
    return maps


class _Painting:
    """The one id map of an image: 0 where a pixel is free, i + 1 where entity i is.

    With ``overlap`` each mask is encoded as soon as it is painted, and its pixels are free again.
    """

    def __init__(self, size_hw: tuple[int, int], *, overlap: bool, device: torch.device) -> None:
        self.ids = torch.zeros(size_hw, dtype=torch.int32, device=device)
        self.overlap = overlap
        self.rles: list[rle.RLE] = []

    def add(self, claim: _Claim | None, *, number: int) -> None:
        """Paint what entity ``number`` claims; None adds an entity without a pixel."""
        if claim is not None:
            claim.region.masked_fill_(claim.visible, number + 1)
        if self.overlap:
            self.rles += rle.encode_id_map(self.ids.cpu().numpy(), [number + 1])
            self.ids.zero_()

    def finish(self, count: int) -> list[rle.RLE]:
        """The masks of all ``count`` entities."""
        return self.rles if self.overlap else rle.encode_id_map(self.ids.cpu().numpy(), np.arange(1, count + 1))


def _paint(
    queries: Queries,
    row: int,
    features: list[int],
    maps: list[ViewMap],
    painting: _Painting,
    *,
    min_score: float,
    compat: Compat,
) -> Entities:
    """Walk the queries of one image in the order of their class score; each claims what is still free."""
    official = compat == "official"
    class_scores, order = queries.class_scores()[row].sort(descending=True, stable=True)
    kept, scores = [], []
    for class_score, query in zip(class_scores.tolist(), order.tolist()):
        if class_score < min_score:
            break
        claim = _claim(queries.mask_logits_of(row, query)[features].float(), maps, painting.ids)
        score = class_score * (claim.quality(official=official) if claim else 0.0)
        if official or (claim and score >= min_score):
            painting.add(claim, number=len(kept))
            kept.append(query)
            scores.append(score)
    return Entities.from_rles(
        tuple(painting.ids.shape),
        painting.finish(len(kept)),
        scores,
        queries.labels()[row, kept].cpu().numpy(),
        embeddings=queries.embeddings[row, kept].float().cpu().numpy(),
        query_ids=kept,
        sort=not official,
    )


@dataclass(frozen=True)
class _Claim:
    """The free pixels that one query asks for: ``region`` of the id map, ``visible`` bool and ``probs`` [y,x] in it."""

    region: Tensor
    visible: Tensor
    probs: Tensor

    def quality(self, *, official: bool) -> float:
        """Mean mask probability of the visible pixels.

        The published one takes the sigmoid of what already is a probability, so it lies in (0.62, 0.74).
        """
        probs = self.probs[self.visible]
        return float(probs.sigmoid().sum() / (len(probs) + 1e-6)) if official else float(probs.mean())


def _claim(logits: Tensor, maps: list[ViewMap], ids: Tensor) -> _Claim | None:
    """Fuse one query's logits [T,h,w] and find its free pixels in the id map ``ids`` [H,W]; None if there are none."""
    boxes = [view.covered_box(plane > 0) for view, plane in zip(maps, logits)]
    boxes = [box for box in boxes if box is not None]
    if not boxes:
        return None
    x0, y0, x1, y1 = (edge(side) for edge, side in zip((min, min, max, max), zip(*boxes)))
    probs = fused_probs(logits, maps, (x0, y0, x1, y1))
    region = ids[y0:y1, x0:x1]
    visible = (probs > 0.5) & (region == 0)
    return _Claim(region, visible, probs) if bool(visible.any()) else None


def fused_probs(logits: Tensor, maps: list[ViewMap], box_xyxy: tuple[int, int, int, int]) -> Tensor:
    """Mean probability over the views that cover each pixel of a box; logits [T,h,w] to float [y,x].

    Outside the box of positive logits no view is above one half, so neither is the mean: the box is enough.
    """
    x0, y0, x1, y1 = box_xyxy
    total = logits.new_zeros(y1 - y0, x1 - x0)
    count = torch.zeros_like(total)
    for plane, view in zip(logits, maps):
        left, top, right, bottom = view.box_xyxy
        part = (max(x0, left), max(y0, top), min(x1, right), min(y1, bottom))
        if part[0] >= part[2] or part[1] >= part[3]:
            continue
        window = (slice(part[1] - y0, part[3] - y0), slice(part[0] - x0, part[2] - x0))
        total[window] += view.paste_back(plane, part).sigmoid()
        count[window] += 1
    return total / count.clamp(min=1)
