"""Multi-scale test: the full view at several sizes, the same entity found again by Hungarian matching.

Source: paper section 5.2 and Table 7, row 5, where it barely helps: what the model learns from crops is more.
Shapes: S scales, Q queries, K classes, h and w the stride-4 grid of a scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .entities import Entities
from .errors import InputError
from .fusion import fuse
from .images import ImageLike, as_rgb
from .matcher import match
from .predictor import EntitySegmenter
from .queries import Queries
from .resampling import view_weights
from .views import Views, batch_views, make_views


@torch.inference_mode()
def segment_multi_scale(
    model: EntitySegmenter,
    image: ImageLike,
    *,
    sizes: Sequence[tuple[int, int]] = ((800, 1333), (1040, 1732)),
    min_score: float | None = None,
    overlap: bool = False,
) -> Entities:
    """Every entity of one image, from its full view at several sizes.

    The queries of each further scale are matched to those of the first by what they say: their mask probabilities,
    compared at the stride-4 grid of the first scale, and their class probabilities. Both are averaged over matched
    queries.

    Args:
        model: any model; its image-level queries answer, so it needs no association module.
        image: path, PIL image, uint8 RGB array [H,W,3] or uint8 tensor [3,H,W].
        sizes: (short side, bound on the long side) of each scale.
        min_score: entities below it are left out; None for the model's own threshold.
        overlap: let masks overlap, see ``fuse``.

    Returns:
        Entities, best score first; embeddings and ``query_ids`` are those of the first scale.

    Raises:
        InputError: if the image cannot be read, or there is no size.
    """
    if not sizes:
        raise InputError("a multi-scale test needs at least one (short side, max side)")
    image = as_rgb(image)
    views = [make_views(image, crops=0, short_side=short, max_side=longest) for short, longest in sizes]
    scales = [_with_masks(model(item)) for item in views]
    orders = [_matched(scales[0], scale, views[0], item) for scale, item in zip(scales, views)]
    min_score = model.settings.min_score if min_score is None else min_score
    joined = _as_one_image(views)
    return fuse(_averaged(scales, orders), joined, min_score=min_score, overlap=overlap)[0]


def _with_masks(queries: Queries) -> Queries:
    """The same queries of one image with their masks [1,1,Q,h,w] as mask features: each query reads its own plane.

    Q planes take less than the C of the mask features, and scales with different embeddings can then be joined.
    """
    planes = queries.mask_logits().transpose(1, 2)  # [1,Q,1,h,w] -> [1,1,Q,h,w]
    own = torch.eye(planes.shape[2], device=planes.device, dtype=planes.dtype)[None]
    return replace(queries, mask_embeddings=own, mask_features=planes, intermediate=())


def _matched(first: Queries, other: Queries, first_view: Views, other_view: Views) -> Tensor:
    """For each query of the first scale the query of the other one that means the same, int64 [Q].

    The cost is 0 for equal queries and positive for others: a dice with squares in the denominator, since the plain
    one prefers a sharper mask to the same mask, and the distance of the class probabilities.
    """
    grid_hw = first.mask_features.shape[-2:]
    ours, theirs = _probs_at(first, first_view, grid_hw), _probs_at(other, other_view, grid_hw)
    size = theirs.square().sum(1)[:, None] + ours.square().sum(1)  # [Q,Q]
    mask_cost = 1 - 2 * (theirs @ ours.T) / size.clamp(min=1e-6)
    classes = (scale.class_logits[0].float().softmax(-1) for scale in (other, first))
    queries, partners = match(mask_cost + torch.cdist(*classes, p=1) / 2)
    return queries[partners.argsort()]


def _probs_at(queries: Queries, view: Views, grid_hw: tuple[int, int]) -> Tensor:
    """Mask probabilities at the points of a grid over the image, padding left out; float [Q,hw]."""
    planes = queries.mask_features[0, 0].float()
    rows, columns = (
        view_weights(
            planes.shape[axis - 2],
            padded=view.pixels.shape[axis - 2],
            valid=int(view.sizes_hw[0, 0, axis]),
            target=grid_hw[axis],
            two_step=False,
            device=planes.device,
        )
        for axis in (0, 1)
    )
    return (rows @ planes @ columns.T).sigmoid().flatten(1)  # [Q,h,w] -> [Q,hw]


def _averaged(scales: Sequence[Queries], orders: Sequence[Tensor]) -> Queries:
    """One set of queries that sees each scale as a view of one image."""
    probs = [scale.class_logits[:, order].softmax(-1) for scale, order in zip(scales, orders)]
    mean = torch.stack(probs).mean(0)
    largest = [max(scale.mask_features.shape[axis] for scale in scales) for axis in (-2, -1)]
    planes = [_grown(scale.mask_features[0, :, order], largest) for scale, order in zip(scales, orders)]
    return replace(scales[0], class_logits=mean.log(), mask_features=torch.cat(planes)[None])


def _grown(planes: Tensor, size_hw: Sequence[int]) -> Tensor:
    """Repeat the last row and column, [1,Q,h,w] to [1,Q,*size_hw]: what lies beyond the edge reads as the edge does."""
    below, right = (new - old for new, old in zip(size_hw, planes.shape[-2:]))
    return F.pad(planes, (0, right, 0, below), mode="replicate")


def _as_one_image(views: Sequence[Views]) -> Views:
    """Views of one image at several sizes as its T views on one canvas."""
    joined = batch_views(views)
    return Views(
        joined.pixels.transpose(0, 1),  # [S,1,3,H,W] -> [1,S,3,H,W]
        joined.boxes_xyxy.transpose(0, 1),
        joined.sizes_hw.transpose(0, 1),
        joined.image_sizes_hw[:1],
        (0,) * len(views),
    )
