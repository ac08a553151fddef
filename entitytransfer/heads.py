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
            _check_classes(queries, self.classes)
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
        _check_classes(queries, self.classes)
        return [self._instances(frame) for frame in frame_queries(queries, views, source=self.source)]

    def _instances(self, frame: FrameQueries) -> Entities:
        probs, order = frame.class_probs[:, :-1].flatten().sort(descending=True, stable=True)  # [Q,K] -> [QK]
        pairs = order[: self.top_k]
        rows, labels = pairs // len(self.classes), pairs % len(self.classes)
        masks = whole_masks(frame.select(rows.unique()), max_memory=self.max_memory)
        found = {query: i for i, query in enumerate(masks.query_ids.tolist())}
        queries = frame.query_ids[rows].tolist()
        kept = [pair for pair, query in enumerate(queries) if query in found]
        which = [found[queries[pair]] for pair in kept]
        return Entities.from_rles(
            frame.size_hw,
            [masks.rles[i] for i in which],
            probs[: self.top_k].cpu().numpy()[kept] * masks.scores[which],
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
        _check_classes(queries, self.classes)
        return [self._regions(frame) for frame in frame_queries(queries, views, source=self.source)]

    def _regions(self, frame: FrameQueries) -> Entities:
        is_real = frame.class_probs.argmax(1) < len(self.classes)
        frame = frame.select(is_real & (frame.class_scores > self.min_score))
        if not len(frame.query_ids):
            return Entities.empty(frame.size_hw)
        ids, kept = self._paint(frame)
        regions = self._merge(frame.labels.tolist(), frame.class_scores.tolist(), kept)
        numbers = np.zeros(len(frame.query_ids) + 1, dtype=ids.dtype)
        for number, members in enumerate(regions, start=1):
            numbers[[query + 1 for query in members]] = number
        best = frame.select(torch.tensor([members[0] for members in regions], dtype=torch.int64))
        return Entities.from_id_map(
            numbers[ids],
            best.class_scores.cpu().numpy(),
            best.labels.cpu().numpy(),
            embeddings=best.embeddings.cpu().numpy(),
            query_ids=best.query_ids.cpu().numpy(),
        )

    def _paint(self, frame: FrameQueries) -> tuple[np.ndarray, list[int]]:
        """Who owns each pixel, int16 [H,W], 0 for nobody and i + 1 for query i; and the queries that are visible."""
        count, device = len(frame.query_ids), frame.class_scores.device
        ids = torch.zeros(frame.size_hw, dtype=torch.int16, device=device)
        won, areas, painted = (torch.zeros(count, dtype=torch.int64, device=device) for _ in range(3))
        for where, probs in mask_probs(frame, max_memory=self.max_memory):
            inside = probs >= 0.5
            winners = probs.mul_(frame.class_scores[:, None, None]).argmax(0)  # [Q,y,x] -> [y,x]
            owners = (winners + 1) * inside.gather(0, winners[None])[0]
            ids[where] = owners.short()
            won += winners.flatten().bincount(minlength=count)
            areas += inside.flatten(1).sum(1)
            painted += owners.flatten().bincount(minlength=count + 1)[1:]
        visible = won.double() / areas.clamp(min=1) >= self.min_visible
        return ids.cpu().numpy(), (visible & (painted > 0)).nonzero()[:, 0].tolist()

    def _merge(self, labels: list[int], scores: list[float], queries: list[int]) -> list[list[int]]:
        """The queries of each region, best first; stuff of one class is one region."""
        regions: dict[tuple[int, int], list[int]] = {}
        for query in sorted(queries, key=lambda query: (-scores[query], query)):
            label = labels[query]
            regions.setdefault((label, query if self.classes.is_thing[label] else -1), []).append(query)
        return list(regions.values())


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
        _check_classes(queries, self.classes)
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


def _check_classes(queries: Queries, classes: Classes) -> None:
    known = queries.class_logits.shape[-1] - 1
    if known != len(classes):
        raise InputError(
            f"The model tells {known} classes apart and the dataset has {len(classes)}; fine-tune it on the dataset, "
            "or choose weights that were."
        )
