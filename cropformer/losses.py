"""Set losses: each entity is matched to one query, which is then pulled towards its class and its mask.

Source: paper equation 7; weights, points and normalisation as published.
Shapes: B images, T views, Q queries, K classes, N entities of an image, M matched pairs of the batch, P points.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from .matcher import CostWeights, match, matching_cost
from .point_sampling import DrawPoints, sample_masks, sample_planes, uncertain_points, uniform_points
from .queries import Queries
from .views import Target


@dataclass(frozen=True)
class Matches:
    """The matched pairs of a batch: ``images``, ``queries``, ``entities``, int64 [M] each."""

    images: Tensor
    queries: Tensor
    entities: Tensor


@dataclass(frozen=True)
class SetLoss:
    """Matching, class, mask and dice losses for every prediction set of a batch of queries.

    Attributes:
        points: P, for each mask in the matching and in the losses.
        oversample: candidates for each importance-sampled point.
        importance: share of the points chosen by uncertainty.
        no_object: weight of the "no object" class.
        weights: weights of the three terms, in the matching and in the losses.
        draw: source of random points; None draws uniformly on the queries' device.
    """

    points: int = 12544
    oversample: float = 3.0
    importance: float = 0.75
    no_object: float = 0.1
    weights: CostWeights = field(default_factory=CostWeights)
    draw: DrawPoints | None = None

    def __call__(self, queries: Queries, targets: Sequence[Target]) -> dict[str, Tensor]:
        """Weighted losses ``class``, ``mask`` and ``dice`` of the last set, and ``class_0``... of the earlier ones.

        Args:
            queries: of B images, with their intermediate sets.
            targets: B targets, each with the T views of the queries.
        """
        draw = self.draw or uniform_points(queries.class_logits.device)
        normaliser = entity_count(targets)
        losses = {}
        for name, predictions in (("", queries), *((f"_{i}", p) for i, p in enumerate(queries.intermediate))):
            matches, surplus = self.match(predictions, targets, draw=draw)
            class_loss = self._class_loss(predictions, targets, matches, surplus)
            mask_loss, dice_loss = self._mask_losses(predictions, targets, matches, draw=draw)
            losses[f"class{name}"] = self.weights.classes * class_loss
            losses[f"mask{name}"] = self.weights.mask * mask_loss / normaliser
            losses[f"dice{name}"] = self.weights.dice * dice_loss / normaliser
        return losses

    @torch.no_grad()
    def match(self, queries: Queries, targets: Sequence[Target], *, draw: DrawPoints) -> tuple[Matches, Tensor]:
        """Match one prediction set.

        Returns:
            The matches, and ``surplus`` bool [B,Q]: the queries that must learn to say "no object".
        """
        points_xy = torch.cat([draw(1, self.points) for _ in targets])  # [B,P,2]
        point_logits = queries.mask_logits_at(points_xy).float()  # [B,Q,TP]
        pairs, surplus = [], torch.ones(queries.class_logits.shape[:2], dtype=torch.bool)
        for image, target in enumerate(targets):
            point_targets = _target_points(target, points_xy[image : image + 1])  # [N,TP]
            cost = matching_cost(
                queries.class_logits[image],
                point_logits[image],
                target.labels,
                point_targets,
                weights=self.weights,
            )
            chosen, entities = match(cost)
            pairs.append((torch.full_like(chosen, image), chosen, entities))
            if not target.exhaustive:
                surplus[image] = _on_known_ground(point_logits[image], point_targets).cpu()
        matches = Matches(*(torch.cat(parts) for parts in zip(*pairs)))
        return matches, surplus.to(points_xy.device)

    def _class_loss(self, queries: Queries, targets: Sequence[Target], matches: Matches, surplus: Tensor) -> Tensor:
        """Cross-entropy over all queries, weighted and divided by the sum of the weights."""
        logits = queries.class_logits.float()
        classes = torch.full(logits.shape[:2], logits.shape[-1] - 1, device=logits.device)
        weights = self.no_object * surplus.float()
        for image, target in enumerate(targets):
            mine = matches.images == image
            classes[image, matches.queries[mine]] = target.labels[matches.entities[mine]]
        weights[matches.images, matches.queries] = 1.0
        losses = F.cross_entropy(logits.flatten(0, 1), classes.flatten(), reduction="none")  # [BQ,K+1] -> [BQ]
        return (losses * weights.flatten()).sum() / weights.sum().clamp(min=1e-6)

    def _mask_losses(
        self, queries: Queries, targets: Sequence[Target], matches: Matches, *, draw: DrawPoints
    ) -> tuple[Tensor, Tensor]:
        """Binary cross-entropy and dice at uncertain points, each summed over pairs and views.

        A view that does not show the entity counts too, with an empty mask, as in the published batch-level loss.
        """
        logits = queries.matched_mask_logits(matches.images, matches.queries).float().flatten(0, 1)  # [MT,h,w]
        masks = [target.masks[matches.entities[matches.images == i]] for i, target in enumerate(targets)]
        masks = torch.cat(masks).flatten(0, 1)  # [M,T,H,W] -> [MT,H,W]
        points_xy = uncertain_points(
            logits.detach(), draw, points=self.points, oversample=self.oversample, importance=self.importance
        )
        point_logits = sample_planes(logits[:, None], points_xy)[:, 0]  # [MT,P]
        point_targets = sample_masks(masks, points_xy)
        return cross_entropy_loss(point_logits, point_targets), dice_loss(point_logits, point_targets)


def cross_entropy_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy, mean over points and sum over masks; [M,P] and [M,P] to a scalar."""
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return losses.mean(1).sum()


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """One minus the smoothed dice overlap, sum over masks; [M,P] and [M,P] to a scalar."""
    probs = logits.sigmoid()
    overlap = 2 * (probs * targets).sum(-1)
    return (1 - (overlap + 1) / (probs.sum(-1) + targets.sum(-1) + 1)).sum()


def entity_count(targets: Sequence[Target]) -> float:
    """Entities for each process, at least 1; the average over processes when training is distributed."""
    count = torch.tensor(float(sum(len(target.labels) for target in targets)))
    if dist.is_available() and dist.is_initialized():
        count = count.to(targets[0].labels.device)
        dist.all_reduce(count)
        count /= dist.get_world_size()
    return max(count.item(), 1.0)


def cropformer_losses(queries: Queries, targets: Sequence[Target], *, loss: SetLoss) -> dict[str, Tensor]:
    """All weighted losses of a step: image level (``view/...``, halved) and batch level (``fused/...``).

    With T = 1 there is no batch level, and the image-level losses count in full.

    Args:
        queries: of B images and T views.
        targets: B targets with T views.
        loss: the set loss for both levels.
    """
    if queries.per_view is None:
        return {f"view/{name}": value for name, value in loss(queries, _single_views(targets)).items()}
    image_level = loss(queries.per_view, _single_views(targets))
    losses = {f"view/{name}": 0.5 * value for name, value in image_level.items()}
    return losses | {f"fused/{name}": value for name, value in loss(queries, targets).items()}


def _single_views(targets: Sequence[Target]) -> list[Target]:
    return [view for target in targets for view in target.per_view()]


def _target_points(target: Target, points_xy: Tensor) -> Tensor:
    """The masks at ``points_xy`` [1,P,2] of every view; float [N,T*P]."""
    count, views = target.masks.shape[:2]
    sampled = sample_masks(target.masks.flatten(0, 1), points_xy)  # [NT,P]
    return sampled.view(count, views * points_xy.shape[1])  # [NT,P] -> [N,TP]


def _on_known_ground(point_logits: Tensor, point_targets: Tensor) -> Tensor:
    """Queries whose mask lies mostly on annotated entities, bool [Q]; only they can be called surplus."""
    probs = point_logits.sigmoid()
    known = probs @ point_targets.amax(0) if len(point_targets) else torch.zeros_like(probs[:, 0])
    return known > 0.5 * probs.sum(-1)
