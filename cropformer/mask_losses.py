"""Mask losses at points: masks are made from features a set at a time, read at their points, and dropped again.

Shapes: S prediction sets, B images, T views, C channels, M matched pairs of a set, P points, h and w of the features.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from .point_sampling import sample_planes
from .precision import full_precision

ReadPoints = Callable[[int, Tensor], tuple[Tensor, Tensor, Tensor]]
"""(set, its masks [MT,h,w]) to points [MT,P,2] and the values of the masks and of the truth there, [MT,P] each."""


def cross_entropy_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy, mean over points and sum over masks; [M,P] and [M,P] to a scalar."""
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return losses.mean(1).sum()


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """One minus the smoothed dice overlap, sum over masks; [M,P] and [M,P] to a scalar."""
    probs = logits.sigmoid()
    overlap = 2 * (probs * targets).sum(-1)
    return (1 - (overlap + 1) / (probs.sum(-1) + targets.sum(-1) + 1)).sum()


class MaskLosses(torch.autograd.Function):
    """Cross-entropy and dice of every prediction set, [S,2].

    The backward pass needs no mask either: gradients at the points are spread over one set's masks at a time, and the
    gradient of the features, by far the largest, is summed in place. Left to itself, autograd would keep the masks of
    all sets and make one such gradient for each.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, embeddings: Tensor, features: Tensor, counts: Sequence[int], read: ReadPoints
    ) -> Tensor:
        """Losses of masks that are products of ``embeddings`` and ``features``; both float32.

        Args:
            ctx: what the backward pass needs.
            embeddings: [S,M,C], of the pairs of each set, image by image.
            features: [B,T,C,h,w].
            counts: pairs of each image, B numbers that add up to M.
            read: chooses the points of a set.
        """
        ctx.counts, kept, losses = counts, [], []
        with full_precision(features.device):
            for index, vectors in enumerate(embeddings):
                points_xy, logits, targets = read(index, _masks(vectors, features, counts))
                losses.append(_terms(logits, targets))
                kept += [points_xy, logits, targets]
        ctx.save_for_backward(embeddings, features, *kept)
        return torch.stack(losses)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Gradients for the embeddings and the features, from ``grad`` [S,2]."""
        embeddings, features, *kept = ctx.saved_tensors
        grad_embeddings, grad_features = embeddings.new_zeros(embeddings.shape), features.new_zeros(features.shape)
        with full_precision(features.device):
            for index, vectors in enumerate(embeddings):
                points_xy, logits, targets = kept[3 * index : 3 * index + 3]
                grad_points = _grad_at_points(logits, targets, grad[index])
                grad_masks = _spread(grad_points, points_xy, features.shape[-2:])
                grads = grad_embeddings[index], grad_features
                _differentiate_masks(vectors, features, ctx.counts, grad_masks, out=grads)
        return grad_embeddings, grad_features, None, None


def _masks(vectors: Tensor, features: Tensor, counts: Sequence[int]) -> Tensor:
    """Masks of one set, [M,C] and [B,T,C,h,w] to [MT,h,w]."""
    views, _, *size_hw = features.shape[1:]
    masks = features.new_empty(len(vectors), views, *size_hw)
    for image, (vector, out) in _by_image(counts, vectors, masks.flatten(2)):  # [M,T,h,w] -> [M,T,hw]
        for view, planes in enumerate(features[image].flatten(2)):  # [T,C,h,w] -> T x [C,hw]
            torch.mm(vector, planes, out=out[:, view])
    return masks.flatten(0, 1)


def _differentiate_masks(
    vectors: Tensor, features: Tensor, counts: Sequence[int], grad_masks: Tensor, *, out: tuple[Tensor, Tensor]
) -> None:
    """Gradients of ``_masks``: that of the vectors [M,C] is written, that of the features [B,T,C,h,w] is added to."""
    grad_vectors, grad_features = out
    grad_masks = grad_masks.unflatten(0, (len(vectors), features.shape[1]))  # [MT,h,w] -> [M,T,h,w]
    parts = (vectors, grad_masks.flatten(2), grad_vectors)  # [M,T,h,w] -> [M,T,hw]
    for image, (vector, grad_mask, grad_vector) in _by_image(counts, *parts):
        grad_mask = grad_mask.transpose(0, 1)  # [M,T,hw] -> [T,M,hw]
        planes = features[image].flatten(2)  # [T,C,h,w] -> [T,C,hw]
        torch.sum(grad_mask @ planes.mT, 0, out=grad_vector)
        grad_features[image].flatten(2).baddbmm_(vector.T.expand(len(planes), -1, -1), grad_mask)  # [C,M] -> [T,C,M]


def _by_image(counts: Sequence[int], *tensors: Tensor) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
    """The parts of tensors [M,...] that belong to each image that has any."""
    parts = zip(*(tensor.split(list(counts)) for tensor in tensors))
    return ((image, part) for image, part in enumerate(parts) if counts[image])


def _terms(logits: Tensor, targets: Tensor) -> Tensor:
    return torch.stack((cross_entropy_loss(logits, targets), dice_loss(logits, targets)))


def _grad_at_points(logits: Tensor, targets: Tensor, grad: Tensor) -> Tensor:
    """Gradient [MT,P] of both terms for the masks at the points, from that of the terms [2]."""
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        return torch.autograd.grad(_terms(leaf, targets), leaf, grad)[0]


def _spread(grad_points: Tensor, points_xy: Tensor, size_hw: Sequence[int]) -> Tensor:
    """Gradient [MT,h,w] of masks from that [MT,P] of what ``sample_planes`` read from them."""
    with torch.enable_grad():
        planes = grad_points.new_zeros(len(grad_points), *size_hw, requires_grad=True)
        return torch.autograd.grad(sample_planes(planes, points_xy), planes, grad_points)[0]
