"""Mask losses: values and gradients are those of the plain way, which keeps every mask; the masks are not kept."""

import pytest
import torch
from torch import Tensor

from cropformer.mask_losses import MaskLosses, cross_entropy_loss, dice_loss
from cropformer.point_sampling import sample_planes

S, B, T, C, H, W, P = 3, 4, 2, 5, 6, 8, 40


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Truth:
    """The same random points and targets for both ways."""

    def __init__(self, pairs: int) -> None:
        self.points = random(S, pairs * T, P, 2, seed=0).sigmoid()
        self.targets = random(S, pairs * T, P, seed=1).sigmoid()

    def read(self, index: int, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.points[index], sample_planes(masks, self.points[index]), self.targets[index]


def plain_losses(embeddings: Tensor, features: Tensor, counts: list[int], truth: Truth) -> Tensor:
    """All masks of all sets by one product for each pair, differentiated by autograd."""
    images = [image for image, count in enumerate(counts) for _ in range(count)]
    losses = []
    for index in range(S):
        masks = (embeddings[index, :, None, :, None, None] * features[images]).sum(2).flatten(0, 1)  # [M,T,C,h,w]
        _, logits, targets = truth.read(index, masks)
        losses.append(torch.stack((cross_entropy_loss(logits, targets), dice_loss(logits, targets))))
    return torch.stack(losses)


@pytest.mark.parametrize("counts", [[3, 1, 0, 2], [0, 0, 1, 0], [2, 2, 2, 2]], ids=str)
def test_values_and_gradients_are_those_of_the_plain_way(counts):
    pairs = sum(counts)
    inputs = (
        random(S, pairs, C, seed=2).requires_grad_(),
        random(B, T, C, H, W, seed=3).requires_grad_(),
    )
    truth, upstream = Truth(pairs), random(S, 2, seed=4)
    ours, plain = MaskLosses.apply(*inputs, counts, truth.read), plain_losses(*inputs, counts, truth)
    assert torch.allclose(ours, plain, rtol=1e-6)
    gradients = [torch.autograd.grad(losses, inputs, upstream) for losses in (ours, plain)]
    for mine, theirs in zip(*gradients):
        assert torch.allclose(mine, theirs, rtol=1e-5, atol=1e-6 * theirs.abs().max().item())


def test_a_batch_without_pairs_keeps_its_place_in_the_graph():
    inputs = torch.zeros(S, 0, C, requires_grad=True), random(B, T, C, H, W, seed=3).requires_grad_()
    losses = MaskLosses.apply(*inputs, [0] * B, Truth(0).read)
    gradients = torch.autograd.grad(losses.sum(), inputs)
    assert not losses.any()
    assert [gradient.shape for gradient in gradients] == [tensor.shape for tensor in inputs]
    assert not any(gradient.any() for gradient in gradients)


def test_no_mask_is_kept_for_the_backward_pass():
    pairs, kept = 6, []
    embeddings, features = random(S, pairs, C, seed=2), random(B, T, C, 64, 64, seed=3)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        MaskLosses.apply(embeddings.requires_grad_(), features.requires_grad_(), [3, 1, 0, 2], Truth(pairs).read)
    assert sum(kept) == embeddings.numel() + features.numel() + S * pairs * T * P * 4
