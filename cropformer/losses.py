"""Set losses: each entity is matched to one query, which is then pulled towards its class and its mask.

Source: paper equation 7; weights, points and normalisation as published.
Shapes: S prediction sets, B images, T views, Q queries, K classes, C channels, N entities of an image (the most of any
image in a batch), M matched pairs of a set, P points, h and w of the mask features.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from .joint_targets import JointTargets
from .mask_losses import MaskLosses
from .matcher import CostWeights, match_sets, matching_cost
from .point_sampling import DrawPoints, sample_features, sample_masks, uncertain_points, uniform_points
from .precision import full_precision
from .queries import Queries
from .views import Target


@dataclass(frozen=True)
class Matches:
    """The matched pairs of all prediction sets, image by image.

    Attributes:
        images: int64 [M], ascending; every set matches as many queries of an image.
        queries: int64 [S,M].
        entities: int64 [S,M], counted within their image.
        counts: pairs of each image, B numbers.
    """

    images: Tensor
    queries: Tensor
    entities: Tensor
    counts: list[int]

    def pick(self, values: Tensor) -> Tensor:
        """Those of the matched queries, [S,B,Q,...] to [S,M,...]."""
        return values[self.places]

    @property
    def places(self) -> tuple[Tensor, Tensor, Tensor]:
        """Where the matched queries stand in a tensor [S,B,Q,...]."""
        return torch.arange(len(self.queries), device=self.images.device)[:, None], self.images, self.queries


@dataclass(frozen=True)
class Normalisers:
    """What mask and dice losses are divided by: mean entity counts of a group, see ``entity_counts``."""

    view: float
    fused: float


@dataclass(frozen=True)
class SetLoss:
    """Matching, class, mask and dice losses for every prediction set of a batch of queries.

    Attributes:
        points: P, for each mask in the matching and in the losses.
        oversample: candidates for each importance-sampled point.
        importance: share of the points chosen by uncertainty.
        no_object: weight of the "no object" class.
        weights: weights of the three terms, in the matching and in the losses.
        draw: source of random points; None draws uniformly on the queries' device. Asked for the points of all
            matchings first, then for those of the losses, set by set from the last one on.
    """

    points: int = 12544
    oversample: float = 3.0
    importance: float = 0.75
    no_object: float = 0.1
    weights: CostWeights = field(default_factory=CostWeights)
    draw: DrawPoints | None = None

    def __call__(
        self, queries: Queries, targets: Sequence[Target], *, normaliser: float | None = None
    ) -> dict[str, Tensor]:
        """Weighted losses ``class``, ``mask`` and ``dice`` of the last set, and ``class_0``... of the earlier ones.

        Args:
            queries: of B images, with their intermediate sets.
            targets: B targets, each with the T views of the queries.
            normaliser: what mask and dice losses are divided by, at least 1; None for the entities of these targets.
        """
        draw = self.draw or uniform_points(queries.class_logits.device)
        truth = JointTargets.join(targets)
        sets = (queries, *queries.intermediate)
        matches, surplus = self.match(sets, truth, draw=draw)
        class_losses = self._class_losses(sets, truth, matches, surplus)
        mask_losses = self._mask_losses(sets, truth, matches, draw=draw)
        mask_losses = mask_losses / max(sum(truth.counts) if normaliser is None else normaliser, 1.0)
        weights = (self.weights.classes, self.weights.mask, self.weights.dice)
        terms = (class_losses, *mask_losses.unbind(1))
        by_term = [(weight * values).unbind() for weight, values in zip(weights, terms)]
        names = ("", *(f"_{i}" for i in range(len(queries.intermediate))))
        return {
            term + name: value
            for name, *values in zip(names, *by_term)
            for term, value in zip(("class", "mask", "dice"), values)
        }

    @torch.no_grad()
    def match(self, sets: Sequence[Queries], truth: JointTargets, *, draw: DrawPoints) -> tuple[Matches, Tensor]:
        """Match all prediction sets.

        Returns:
            The matches, and ``surplus`` bool [S,B,Q]: the queries that must learn to say "no object".
        """
        cost, surplus = self.costs(sets, truth, draw=draw)
        queries, entities = match_sets(cost, counts=truth.counts)
        counts = [min(count, cost.shape[2]) for count in truth.counts]
        images = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(cost.device)
        return Matches(images, queries, entities, counts), surplus

    @torch.no_grad()
    def costs(self, sets: Sequence[Queries], truth: JointTargets, *, draw: DrawPoints) -> tuple[Tensor, Tensor]:
        """Costs of all queries for all entities, float32 [S,B,Q,N], and ``surplus`` as in ``match``.

        A set at a time, so that the values at its points stay in cache, and nothing waits for an accelerator.
        """
        features = sets[0].mask_features  # [B,T,C,h,w]
        views = features.shape[1]
        table = features.flatten(0, 1).permute(0, 2, 3, 1).float().contiguous()  # [BT,C,h,w] -> [BT,h,w,C]
        costs, surplus = [], []
        for predictions in sets:
            points_xy = torch.cat([draw(1, self.points) for _ in truth.counts])  # [B,P,2]
            read = sample_features(table, points_xy.repeat_interleave(views, dim=0)).unflatten(0, (-1, views))
            with full_precision(table.device):
                embeddings = predictions.mask_embeddings.float()
                point_logits = embeddings @ read.flatten(1, 2).mT  # [B,T,P,C] -> [B,TP,C]; [B,Q,TP]
                point_targets = truth.at(points_xy)
                class_logits = predictions.class_logits
                costs.append(
                    matching_cost(class_logits, point_logits, truth.labels, point_targets, weights=self.weights)
                )
                surplus.append(_surplus(point_logits, point_targets, truth))
        return torch.stack(costs), torch.stack(surplus)

    def _class_losses(self, sets: Sequence[Queries], truth: JointTargets, matches: Matches, surplus: Tensor) -> Tensor:
        """Cross-entropy over all queries of a set, weighted and divided by the sum of the weights; [S]."""
        logits = torch.stack([predictions.class_logits.float() for predictions in sets])  # [S,B,Q,K+1]
        classes = torch.full(logits.shape[:-1], logits.shape[-1] - 1, device=logits.device)
        classes[matches.places] = truth.labels[matches.images, matches.entities]
        weights = self.no_object * surplus.float()
        weights[matches.places] = 1.0
        losses = F.cross_entropy(logits.flatten(0, 2), classes.flatten(), reduction="none")  # [SBQ,K+1] -> [SBQ]
        losses = losses.view_as(weights) * weights
        return losses.sum((1, 2)) / weights.sum((1, 2)).clamp(min=1e-6)

    def _mask_losses(
        self, sets: Sequence[Queries], truth: JointTargets, matches: Matches, *, draw: DrawPoints
    ) -> Tensor:
        """Binary cross-entropy and dice at uncertain points, each summed over pairs and views; [S,2].

        A view that does not show the entity counts too, with an empty mask, as in the published batch-level loss.
        """
        embeddings = matches.pick(torch.stack([predictions.mask_embeddings for predictions in sets]).float())
        chosen = truth.planes(matches.images, matches.entities)  # [S,MT]
        numbers = {"points": self.points, "oversample": self.oversample, "importance": self.importance}

        def read(index: int, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            points_xy, logits = uncertain_points(masks, draw, **numbers)
            return points_xy, logits, sample_masks(truth.masks, points_xy, chosen=chosen[index])

        return MaskLosses.apply(embeddings, sets[0].mask_features.float(), matches.counts, read)


def _surplus(point_logits: Tensor, point_targets: Tensor, truth: JointTargets) -> Tensor:
    """Queries [B,Q] that are wrong if unmatched: all where all is annotated, else those mostly on entities."""
    everywhere = truth.exhaustive[:, None].expand(point_logits.shape[:2])
    if truth.all_exhaustive or not point_targets.shape[1]:
        return everywhere
    probs = point_logits.sigmoid()
    known = probs @ point_targets.amax(1)[..., None]  # [B,Q,TP] @ [B,TP,1] -> [B,Q,1]
    return everywhere | (known[..., 0] > 0.5 * probs.sum(-1))


def entity_counts(targets: Sequence[Target]) -> tuple[int, int]:
    """What normalises the image level and the batch level: entities in each view that shows them, and entities."""
    return sum(int(target.valid.sum()) for target in targets), sum(len(target.labels) for target in targets)


def cropformer_losses(
    queries: Queries, targets: Sequence[Target], *, loss: SetLoss, normalisers: Normalisers | None = None
) -> dict[str, Tensor]:
    """All weighted losses of a step: image level (``view/...``, halved) and batch level (``fused/...``).

    With T = 1 there is no batch level, and the image-level losses count in full.

    Args:
        queries: of B images and T views.
        targets: B targets with T views.
        loss: the set loss for both levels.
        normalisers: mean counts over all groups of a step; None for those of these targets.
    """
    view, fused = (normalisers.view, normalisers.fused) if normalisers else (None, None)
    singles = [single for target in targets for single in target.per_view()]
    if queries.per_view is None:
        return {f"view/{name}": value for name, value in loss(queries, singles, normaliser=view).items()}
    image_level = loss(queries.per_view, singles, normaliser=view)
    losses = {f"view/{name}": 0.5 * value for name, value in image_level.items()}
    return losses | {f"fused/{name}": value for name, value in loss(queries, targets, normaliser=fused).items()}
