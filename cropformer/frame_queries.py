"""The queries of one image, or of one frame of a clip, with the views that their masks are read from.

Shapes: T views, Q queries, K classes, C channels, h and w the grid of the mask features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from .errors import InputError
from .queries import Queries
from .tiling import Tiling, make_tiling
from .views import Views

Source = Literal["B-OC", "B-O", "B-C", "I-O"]
"""Which predictions are fused (Table 8b): of the Batch or Image decoder, of the Original view, the Crops, or both."""


@dataclass(frozen=True)
class FrameQueries:
    """Q queries, and where their masks lie in one image.

    Attributes:
        query_ids: int64 [Q], the model's number of each.
        class_probs: float [Q,K+1], the last class is "no object".
        class_scores: float [Q], that of the best real class.
        labels: int64 [Q], which one that is.
        embeddings: float [Q,C].
        mask_embeddings: float [Q,C].
        planes: mask features [C,h,w] of each of the T views.
        tiling: where the views lie in the image.
    """

    query_ids: Tensor
    class_probs: Tensor
    class_scores: Tensor
    labels: Tensor
    embeddings: Tensor
    mask_embeddings: Tensor
    planes: tuple[Tensor, ...]
    tiling: Tiling

    @property
    def size_hw(self) -> tuple[int, int]:
        """Size of the image."""
        return self.tiling.size_hw

    def select(self, indices: Tensor) -> FrameQueries:
        """Some of the queries, int64 [n] or bool [Q], in this order."""
        names = ("query_ids", "class_probs", "class_scores", "labels", "embeddings", "mask_embeddings")
        return replace(self, **{name: getattr(self, name)[indices] for name in names})


def frame_queries(
    queries: Queries, views: Views, *, source: Source = "B-OC", two_step: bool = False
) -> Iterator[FrameQueries]:
    """The queries of every image, or of every frame of every clip, in order: B * F of them.

    Args:
        queries: the model's answer.
        views: the views it was asked about.
        source: which predictions are read. A photo or frame without crops has its full view alone for all of them.
        two_step: resize masks to the network input first, as the published pipeline does, see ``view_weights``.

    Raises:
        InputError: if there is no such source.
    """
    if source not in get_args(Source):
        raise InputError(f"there is no prediction source {source!r}; the sources are {', '.join(get_args(Source))}")
    for image in range(len(views.image_sizes_hw)):
        for frame in sorted(set(views.frames)):
            members = [t for t, f in enumerate(views.frames) if f == frame]
            yield _frame(queries, views, image, members, source=source, two_step=two_step)


def _frame(
    queries: Queries, views: Views, image: int, members: list[int], *, source: Source, two_step: bool
) -> FrameQueries:
    """One image, or one frame of a clip, from its views ``members``."""
    chosen, row, members = _choose(queries, image, members, views=len(views.frames), source=source)
    features = chosen.mask_features[row]  # [T,C,h,w]
    height, width = features.shape[-2:]
    probs = chosen.class_logits[row].softmax(-1)
    return FrameQueries(
        query_ids=torch.arange(len(probs), device=features.device),
        class_probs=probs,
        class_scores=chosen.class_scores()[row],
        labels=chosen.labels()[row],
        embeddings=chosen.embeddings[row].float(),
        mask_embeddings=chosen.mask_embeddings[row],
        # The image decoder's queries hold one view each, as their only one.
        planes=tuple(features[t] for t in ([0] if source == "I-O" else members)),
        tiling=make_tiling(views, image, members, grid_hw=(height, width), two_step=two_step, device=features.device),
    )


def _choose(
    queries: Queries, image: int, members: list[int], *, views: int, source: Source
) -> tuple[Queries, int, list[int]]:
    """The queries to read, their row in the batch, and the views to fuse, for one prediction source."""
    if source == "I-O" and queries.per_view is not None:
        return queries.per_view, image * views + members[0], members[:1]
    kept = {"B-OC": members, "B-O": members[:1], "B-C": members[1:] or members, "I-O": members[:1]}
    return queries, image, kept[source]
