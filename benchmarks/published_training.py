"""The training step evaluated as the published one: whole masks of all queries, one set and one image at a time.

It takes our model and targets and gives the losses of ``cropformer_losses``, from random points that are drawn in the
published order. As published: masks of all queries at stride 4 are kept for every prediction set, those of all queries
and the full-size targets as floats are read at the points of the matching, every matching waits for its own transfer,
and the chosen points are read once more for the gradient.

Shapes: B images, T views, Q queries, N entities of an image, M matched pairs, P points, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from benchmarks.published_network import PredictionSets, published_network
from cropformer import EntitySegmenter, SetLoss, Target

Pairs = list[tuple[Tensor, Tensor]]
"""For each image the matched queries and their entities, int64 [n] each."""


def published_losses(
    model: EntitySegmenter, pixels: Tensor, targets: Sequence[Target], *, loss: SetLoss
) -> dict[str, Tensor]:
    """Losses of pixels [B,T,3,H,W] with T > 1 and B targets; ``loss`` gives the numbers, and ``loss.draw`` the points.

    Targets must be annotated exhaustively.
    """
    output = published_network(model, pixels)
    singles = [single for target in targets for single in target.per_view()]
    image_level = set_losses(output.per_view, singles, loss=loss)
    losses = {f"view/{name}": 0.5 * value for name, value in image_level.items()}
    return losses | {f"fused/{name}": value for name, value in set_losses(output.fused, targets, loss=loss).items()}


def set_losses(sets: PredictionSets, targets: Sequence[Target], *, loss: SetLoss) -> dict[str, Tensor]:
    """Weighted losses of the last set, then of the earlier ones, named as ours are."""
    entities = max(1, sum(len(target.labels) for target in targets))
    masks = [target.masks.float() for target in targets]  # B x [N,T,H,W]
    losses = {}
    last = len(sets.masks) - 1
    for index in (last, *range(last)):
        name = "" if index == last else f"_{index}"
        logits, predicted = sets.class_logits[index], sets.masks[index]
        pairs = [match(logits[i], predicted[i], target.labels, masks[i], loss=loss) for i, target in enumerate(targets)]
        mask_loss, dice_loss = mask_losses(predicted, masks, pairs, loss=loss)
        losses[f"class{name}"] = loss.weights.classes * class_loss(logits, targets, pairs, loss=loss)
        losses[f"mask{name}"] = loss.weights.mask * mask_loss / entities
        losses[f"dice{name}"] = loss.weights.dice * dice_loss / entities
    return losses


@torch.no_grad()
def match(
    class_logits: Tensor, predicted: Tensor, labels: Tensor, masks: Tensor, *, loss: SetLoss
) -> tuple[Tensor, Tensor]:
    """Match one image: [Q,K+1], [Q,T,h,w], [N] and [N,T,H,W] to the queries and entities of its pairs."""
    points_xy = loss.draw(1, loss.points)
    logits = at_points(predicted, points_xy.repeat(len(predicted), 1, 1)).flatten(1)  # [Q,T,P] -> [Q,TP]
    truth = at_points(masks, points_xy.repeat(len(masks), 1, 1)).flatten(1)  # [N,T,P] -> [N,TP]
    on = F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits), reduction="none")
    off = F.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits), reduction="none")
    mask_cost = (on @ truth.T + off @ (1 - truth).T) / logits.shape[1]
    probs = logits.sigmoid()
    dice_cost = 1 - (2 * probs @ truth.T + 1) / (probs.sum(-1)[:, None] + truth.sum(-1)[None] + 1)
    class_cost = -class_logits.softmax(-1)[:, labels]
    cost = loss.weights.mask * mask_cost + loss.weights.classes * class_cost + loss.weights.dice * dice_cost
    queries, entities = linear_sum_assignment(cost.cpu().numpy())
    return torch.from_numpy(queries), torch.from_numpy(entities)


def class_loss(class_logits: Tensor, targets: Sequence[Target], pairs: Pairs, *, loss: SetLoss) -> Tensor:
    """Weighted cross-entropy of [B,Q,K+1]."""
    classes = torch.full(class_logits.shape[:2], class_logits.shape[-1] - 1)
    for image, (target, (queries, entities)) in enumerate(zip(targets, pairs)):
        classes[image, queries] = target.labels[entities]
    weight = torch.ones(class_logits.shape[-1])
    weight[-1] = loss.no_object
    return F.cross_entropy(class_logits.transpose(1, 2), classes, weight)  # [B,Q,K+1] -> [B,K+1,Q]


def mask_losses(predicted: Tensor, masks: Sequence[Tensor], pairs: Pairs, *, loss: SetLoss) -> tuple[Tensor, Tensor]:
    """Cross-entropy and dice of the matched ones of [B,Q,T,h,w] against those of B x [N,T,H,W], each a sum."""
    images = torch.cat([torch.full_like(queries, image) for image, (queries, _) in enumerate(pairs)])
    chosen = predicted[images, torch.cat([queries for queries, _ in pairs])]  # [M,T,h,w]
    truth = torch.cat([masks[image][entities] for image, (_, entities) in enumerate(pairs)])  # [M,T,H,W]
    chosen, truth = (planes.flatten(0, 1)[:, None] for planes in (chosen, truth))  # -> [MT,1,h,w]
    with torch.no_grad():
        points_xy = unsure_points(chosen, loss=loss)
        labels = at_points(truth, points_xy)[:, 0]  # [MT,1,P] -> [MT,P]
    logits = at_points(chosen, points_xy)[:, 0]
    cross_entropy = F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(1).sum()
    probs = logits.sigmoid()
    dice = 1 - (2 * (probs * labels).sum(-1) + 1) / (probs.sum(-1) + labels.sum(-1) + 1)
    return cross_entropy, dice.sum()


def unsure_points(planes: Tensor, *, loss: SetLoss) -> Tensor:
    """Points [MT,P,2] where [MT,1,h,w] are near zero, and some anywhere."""
    unsure = int(loss.importance * loss.points)
    candidates = loss.draw(len(planes), int(loss.oversample * loss.points))
    doubt = -at_points(planes, candidates)[:, 0].abs()  # [MT,1,3P] -> [MT,3P]
    index = doubt.topk(unsure, dim=1).indices
    index += candidates.shape[1] * torch.arange(len(planes))[:, None]
    near = candidates.flatten(0, 1)[index.flatten()].view(len(planes), unsure, 2)  # [MT,3P,2] -> [MT,unsure,2]
    return torch.cat((near, loss.draw(len(planes), loss.points - unsure)), dim=1)


def at_points(planes: Tensor, points_xy: Tensor) -> Tensor:
    """Planes [N,T,h,w] at points [N,P,2] that their views share; [N,T,P]."""
    return F.grid_sample(planes, 2 * points_xy[:, :, None] - 1, align_corners=False)[..., 0]  # [N,T,P,1] -> [N,T,P]
