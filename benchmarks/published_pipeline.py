"""The published pipeline from photo to masks: every mask of every query at image size, all at once.

It gives the result of ``segment(photo, compat="official")``. ``dense_pipeline`` is the leaner peer of fusion alone.
Here masks that nobody reads are enlarged too, and every view has canvases of its own, counts included. The number of
those is our reading of a description, chosen because its cost is near what was measured of the published code.
Shapes: T views, Q queries, H and W image pixels.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.dense_pipeline import DenseResult, paint
from benchmarks.published_network import published_network
from cropformer import EntitySegmenter, Views, make_views


@torch.no_grad()
def published_pipeline(model: EntitySegmenter, photo: np.ndarray, *, crops: int) -> DenseResult:
    """Segment one photo, uint8 RGB [H,W,3], at the model's own test size; entities in the order of class scores."""
    sides = {"short_side": model.settings.short_side, "max_side": model.settings.max_side}
    views = make_views(photo, crops=crops, **sides)
    output = published_network(model, views.pixels)
    _unread, masks = (to_network_size(sets.masks[-1], views) for sets in (output.per_view, output.fused))
    class_scores = output.fused.class_logits[-1][0].softmax(-1)[:, :-1].amax(-1)  # [Q]
    probs = average_views(masks[0], views)
    return paint(probs, class_scores, official=True, overlap=False, min_score=0.0)


def to_network_size(masks: Tensor, views: Views) -> Tensor:
    """Masks [B,Q,T,h,w] at the size of the padded network input."""
    size_hw = tuple(views.pixels.shape[-2:])
    large = F.interpolate(masks.flatten(0, 1), size=size_hw, mode="bilinear", align_corners=False)
    return large.unflatten(0, masks.shape[:2])  # [BQ,T,H,W] -> [B,Q,T,H,W]


def average_views(masks: Tensor, views: Views) -> Tensor:
    """Masks [Q,T,H,W] at network size to mean probabilities at image size, float [Q,H,W], by canvases of that size."""
    height, width = views.image_sizes_hw[0].tolist()
    total = masks.new_zeros(len(masks), height, width)
    count = torch.full_like(total, 1e-16)
    for t, (x0, y0, x1, y1) in enumerate(views.boxes_xyxy[0].tolist()):
        valid_h, valid_w = views.sizes_hw[0, t].tolist()
        inside = masks[None, :, t, :valid_h, :valid_w]
        probs = F.interpolate(inside, size=(y1 - y0, x1 - x0), mode="bilinear", align_corners=False)[0].sigmoid()
        canvas, covered = torch.zeros_like(total), torch.zeros_like(total)
        canvas[:, y0:y1, x0:x1], covered[:, y0:y1, x0:x1] = probs, 1
        total, count = total + canvas, count + covered
    return total / count
