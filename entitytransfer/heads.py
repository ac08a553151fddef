"""Heads: what the queries of a model mean on a dataset, and how they become its results.

Each takes the queries and views of B images, or of the F frames of B clips, and gives one result for each image or
frame. Mask probabilities are averaged over the views that show a pixel, so that all heads work with and without crops.

Shapes: Q queries, K classes, N regions, H, W image pixels, y and x pixels of a tile.
Source: the inference of Mask2Former, but for the map of `DichotomousHead`, for which none was published.
"""

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from cropformer import (
    Entities,
    FrameQueries,
    InputError,
    Queries,
    Source,
    Views,
    frame_queries,
    fuse,
    mask_probs,
    rle,
    whole_masks,
)
from entitytransfer.classes import ENTITY, Classes
from entitytransfer.panoptic_regions import find_regions


@dataclass(frozen=True)
class EntityHead:
    """Entities that share no pixel, see ``cropformer.fuse``.

    Attributes:
        classes: with one class all labels are 0, whatever classes the model knows.
        min_score: entities below it are left out.
        source: which predictions are fused (Table 8b).
        compat: "official" for the choices of the published pipeline.
        overlap: let every entity keep all its pixels.
        max_memory: bound in bytes on the temporaries.
    """

    task: ClassVar[str] = "entity"
    classes: Classes = ENTITY
    _: KW_ONLY
    min_score: float = 0.0
    source: Source = "B-OC"
    compat: Literal["official"] | None = None
    overlap: bool = False
    max_memory: int | None = None

    def predict(self, queries: Queries, views: Views) -> list[Entities]:
        """The entities of each image.

        Raises:
            InputError: the model knows other classes than the dataset, which has several; or an option of ``fuse``
                makes no sense.
        """
        single = len(self.classes) == 1
        if not single:
            check_classes(queries, self.classes)
        found = fuse(
            queries,
            views,
            min_score=self.min_score,
            compat=self.compat,
            source=self.source,
            overlap=self.overlap,
            max_memory=self.max_memory,
        )
        return [replace(one, labels=np.zeros_like(one.labels)) if single else one for one in found]


@dataclass(frozen=True)
class InstanceHead:
    """The best pairs of a query and a class; their masks may overlap, and one query may stand for several classes.

    The score is the class probability times the mean mask probability inside the mask. Among equal class probabilities
    the first query goes first, then the first class. Queries without a pixel above one half are left out.

    Attributes:
        classes: of the dataset.
        top_k: how many pairs.
        source: which predictions are fused (Table 8b).
        max_memory: bound in bytes on the temporaries.
    """

    task: ClassVar[str] = "instance"
    classes: Classes
    _: KW_ONLY
    top_k: int = 100
    source: Source = "B-OC"
    max_memory: int | None = None

    @torch.inference_mode()
    def predict(self, queries: Queries, views: Views) -> list[Entities]:
        """The instances of each image. Raises InputError if the model knows other classes than the dataset."""
        check_classes(queries, self.classes)
        return [self._instances(frame) for frame in frame_queries(queries, views, source=self.source)]

    def _instances(self, frame: FrameQueries) -> Entities:
        probs, rows, labels = best_pairs(frame.class_probs, top_k=self.top_k)
        masks = whole_masks(frame.select(rows.unique()), max_memory=self.max_memory)
        found = {query: i for i, query in enumerate(masks.query_ids.tolist())}
        queries = frame.query_ids[rows].tolist()
        kept = [pair for pair, query in enumerate(queries) if query in found]
        which = [found[queries[pair]] for pair in kept]
        return Entities.from_rles(
            frame.size_hw,
            [masks.rles[i] for i in which],
            probs.cpu().numpy()[kept] * masks.scores[which],
            labels.cpu().numpy()[kept],
            embeddings=masks.embeddings[which],
            query_ids=masks.query_ids[which],
        )


@dataclass(frozen=True)
class PanopticHead:
    """Regions that share no pixel, at most one for a class that is not countable; some pixels are in none.

    A query counts if its best class is a real one with a probability above ``min_score``. A pixel is won by the largest
    product of class and mask probability, by the first query among equals, and belongs to it if the mask probability
    is one half at least. A query that wins less than ``min_visible`` times its pixels of one half and above is left
    out, and what it won stays free. The score is the class probability, of merged regions the best one, whose query
    and embedding stand for all.

    Attributes:
        classes: of the dataset.
        min_score: see above.
        min_visible: likewise.
        source: which predictions are fused (Table 8b).
        max_memory: bound in bytes on the temporaries.
    """

    task: ClassVar[str] = "panoptic"
    classes: Classes
    _: KW_ONLY
    min_score: float = 0.8
    min_visible: float = 0.8
    source: Source = "B-OC"
    max_memory: int | None = None

    @torch.inference_mode()
    def predict(self, queries: Queries, views: Views) -> list[Entities]:
        """The regions of each image. Raises InputError if the model knows other classes than the dataset."""
        check_classes(queries, self.classes)
        return [self._regions(frame) for frame in frame_queries(queries, views, source=self.source)]

    def _regions(self, frame: FrameQueries) -> Entities:
        found = find_regions(
            [frame],
            self.classes,
            min_score=self.min_score,
            min_visible=self.min_visible,
            max_memory=self.max_memory,
        )
        return Entities.from_id_map(
            found.id_maps[0], found.scores, found.labels, embeddings=found.embeddings, query_ids=found.query_ids
        )


@dataclass(frozen=True)
class SemanticHead:
    """One region for each class in the image; together they cover it, and share no pixel.

    The class of a pixel has the largest sum over queries of class times mask probability, among equals the first one;
    "no object" takes no part. The score is the mean of that sum over the region, 1 at most. Where no view shows the
    image, which happens with ``source="B-C"`` and small crops, every sum is zero.

    Attributes:
        classes: of the dataset.
        source: which predictions are fused (Table 8b).
        max_memory: bound in bytes on the temporaries.
    """

    task: ClassVar[str] = "semantic"
    classes: Classes
    _: KW_ONLY
    source: Source = "B-OC"
    max_memory: int | None = None

    @torch.inference_mode()
    def predict(self, queries: Queries, views: Views) -> list[Entities]:
        """The regions of each image. Raises InputError if the model knows other classes than the dataset."""
        check_classes(queries, self.classes)
        return [self._regions(frame) for frame in frame_queries(queries, views, source=self.source)]

    def _regions(self, frame: FrameQueries) -> Entities:
        device, count = frame.class_probs.device, len(self.classes)
        labels = torch.zeros(frame.size_hw, dtype=torch.int16, device=device)
        totals = torch.zeros(count, dtype=torch.float64, device=device)
        for where, sums in _weighted_sums(frame, frame.class_probs[:, :-1], max_memory=self.max_memory):
            best, winners = sums.max(2)  # [y,x,K] -> [y,x]
            labels[where] = winners.short()
            totals += winners.flatten().bincount(best.flatten().double(), minlength=count)
        id_map = labels.cpu().numpy()
        areas = np.bincount(id_map.ravel(), minlength=count)
        present = np.flatnonzero(areas)
        scores = np.minimum(totals.cpu().numpy()[present] / areas[present], 1)
        return Entities.from_rles(frame.size_hw, rle.encode_id_map(id_map, present), scores, present)


@dataclass(frozen=True)
class DichotomousHead:
    """One soft map of the foreground at the size of the image: how likely each pixel belongs to it.

    That is the sum over queries of the probability of being an object times the mask probability, 1 at most.

    Attributes:
        classes: of the dataset; every class of the model counts as foreground.
        source: which predictions are fused (Table 8b).
        max_memory: bound in bytes on the temporaries.
    """

    task: ClassVar[str] = "dichotomous"
    classes: Classes = ENTITY
    _: KW_ONLY
    source: Source = "B-OC"
    max_memory: int | None = None

    @torch.inference_mode()
    def predict(self, queries: Queries, views: Views) -> list[np.ndarray]:
        """A map of each image, uint8 [H,W], 255 = certainly foreground."""
        return [self._map(frame) for frame in frame_queries(queries, views, source=self.source)]

    def _map(self, frame: FrameQueries) -> np.ndarray:
        foreground = torch.zeros(frame.size_hw, dtype=torch.uint8, device=frame.class_probs.device)
        weights = frame.class_probs[:, :-1].sum(1, keepdim=True)  # [Q,1]
        for where, sums in _weighted_sums(frame, weights, max_memory=self.max_memory):
            foreground[where] = sums[..., 0].clamp(max=1).mul(255).round().byte()
        return foreground.cpu().numpy()


def _weighted_sums(
    frame: FrameQueries, weights: Tensor, *, max_memory: int | None
) -> Iterator[tuple[tuple[slice, slice], Tensor]]:
    """Where a tile lies, and the sums over queries of weights [Q,K] times mask probability there, float [y,x,K]."""
    for where, probs in mask_probs(frame, max_memory=max_memory):
        yield where, probs.permute(1, 2, 0) @ weights  # [Q,y,x] -> [y,x,Q]; [y,x,K]


def best_pairs(class_probs: Tensor, *, top_k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The ``top_k`` best pairs of a row and a real class of probabilities [N,K+1]: their probabilities, rows, labels.

    Best first; among equals the first row, then the first class.
    """
    probs, order = class_probs[:, :-1].flatten().sort(descending=True, stable=True)  # [N,K] -> [NK]
    pairs, classes = order[:top_k], class_probs.shape[1] - 1
    return probs[:top_k], pairs // classes, pairs % classes


def check_classes(queries: Queries, classes: Classes) -> None:
    """Raise InputError if the model knows other classes than the dataset."""
    known = queries.class_logits.shape[-1] - 1
    if known != len(classes):
        raise InputError(
            f"The model tells {known} classes apart and the dataset has {len(classes)}; fine-tune it on the dataset, "
            "or choose weights that were."
        )
