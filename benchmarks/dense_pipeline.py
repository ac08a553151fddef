"""The published way from queries to entities: every mask of every query at image size, all at once.

It is the peer of ``cropformer.fuse`` in the benchmarks and its reference in the tests, where it runs in double
precision. Steps and oddities are those of the published CropFormer's post-processing; with ``official=False`` it
makes our choices instead: one resize, a mean of probabilities as quality, hidden and weak entities left out.

Shapes: T views, Q queries, N entities, H and W image pixels, h and w the stride-4 grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cropformer import Queries, Views


@dataclass(frozen=True)
class DenseResult:
    """Entities in the order of the output.

    Attributes:
        masks: bool [N,H,W] if masks may overlap, else None.
        ids: int32 [H,W], i + 1 where entity i is, 0 elsewhere; None if masks may overlap.
        scores: N scores.
        query_ids: the query of each entity.
    """

    masks: Tensor | None
    ids: Tensor | None
    scores: list[float]
    query_ids: list[int]


@torch.inference_mode()
def dense_fuse(
    queries: Queries,
    views: Views,
    *,
    image: int = 0,
    members: list[int],
    official: bool,
    source: str = "B-OC",
    overlap: bool = False,
    min_score: float = 0.0,
    dtype: torch.dtype = torch.float32,
) -> DenseResult:
    """Fuse the views ``members`` of one image; the other arguments are those of ``fuse``."""
    row, shown = image, {"B-OC": members, "B-O": members[:1], "B-C": members[1:], "I-O": members[:1]}[source]
    planes = shown
    if source == "I-O":
        queries, row, planes = queries.per_view, image * len(views.frames) + members[0], [0]
    embeddings, features = queries.mask_embeddings[row].to(dtype), queries.mask_features[row, planes].to(dtype)
    logits = torch.einsum("qc,tchw->qthw", embeddings, features)
    probs = mean_probs(logits, views, image, shown, official=official)
    class_scores = queries.class_logits[row].to(dtype).softmax(-1)[:, :-1].amax(-1)
    return paint(probs, class_scores, official=official, overlap=overlap, min_score=min_score)


def mean_probs(logits: Tensor, views: Views, image: int, members: list[int], *, official: bool) -> Tensor:
    """Masks [Q,T,h,w] of the views ``members`` as mean probabilities at image size, [Q,H,W]."""
    height, width = views.image_sizes_hw[image].tolist()
    total, count = logits.new_zeros(len(logits), height, width), logits.new_full((height, width), 1e-16)
    net_hw = tuple(views.pixels.shape[-2:])
    if official:
        logits = F.interpolate(logits, size=net_hw, mode="bilinear", align_corners=False)
    for plane, t in enumerate(members):
        x0, y0, x1, y1 = views.boxes_xyxy[image, t].tolist()
        valid_hw, target_hw = views.sizes_hw[image, t].tolist(), (y1 - y0, x1 - x0)
        if official:
            valid = logits[:, plane, : valid_hw[0], : valid_hw[1]][None]
            placed = F.interpolate(valid, size=target_hw, mode="bilinear", align_corners=False)[0]
        else:
            placed = read_once(logits[:, plane], net_hw, valid_hw, target_hw)
        total[:, y0:y1, x0:x1] += placed.sigmoid()
        count[y0:y1, x0:x1] += 1
    return total / count


def read_once(masks: Tensor, net_hw: tuple[int, int], valid_hw: list[int], target_hw: tuple[int, int]) -> Tensor:
    """Each image pixel reads the logits [Q,h,w] once, where its centre falls; [Q,*target_hw]."""
    y, x = (
        2 * (torch.arange(target, dtype=masks.dtype) + 0.5) / target * (valid / padded) - 1
        for target, valid, padded in zip(target_hw, valid_hw, net_hw)
    )
    grid = torch.stack((x.expand(len(y), -1), y[:, None].expand(-1, len(x))), dim=-1)
    return F.grid_sample(masks[None], grid[None], padding_mode="border", align_corners=False)[0]


def paint(probs: Tensor, class_scores: Tensor, *, official: bool, overlap: bool, min_score: float) -> DenseResult:
    """Best class score first; a pixel belongs to the first query whose mask holds it, if it is kept."""
    free = torch.ones(probs.shape[1:], dtype=torch.bool)
    masks, scores, kept = [], [], []
    for query in class_scores.argsort(descending=True, stable=True).tolist():
        mask = probs[query] > 0.5
        visible = mask if overlap else mask & free
        score = (class_scores[query] * quality(probs[query][visible], official=official)).item()
        if official or (visible.any() and score >= min_score):
            free &= ~visible
            masks.append(visible)
            scores.append(score)
            kept.append(query)
    order = range(len(kept)) if official else sorted(range(len(kept)), key=lambda i: -scores[i])
    result = [scores[i] for i in order], [kept[i] for i in order]
    if overlap:
        stacked = torch.stack([masks[i] for i in order]) if masks else probs[:0].bool()
        return DenseResult(stacked, None, *result)
    ids = torch.zeros(probs.shape[1:], dtype=torch.int32)
    for number, i in enumerate(order, start=1):
        ids[masks[i]] = number
    return DenseResult(None, ids, *result)


def quality(visible: Tensor, *, official: bool) -> Tensor:
    """Mean of the visible probabilities; the published one takes the sigmoid of them again."""
    return visible.sigmoid().sum() / (len(visible) + 1e-6) if official else visible.mean()
