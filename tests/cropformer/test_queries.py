"""Queries: masks on demand are the masks that the full product gives, wherever and for whomever they are asked."""

import pytest
import torch
import torch.nn.functional as F

from cropformer import Queries

B, T, Q, C, H, W = 3, 2, 5, 4, 6, 8


@pytest.fixture
def queries() -> Queries:
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    return Queries(random(B, Q, C), random(B, Q, 4), random(B, Q, C), random(B, T, C, H, W))


def dense_masks(queries: Queries) -> torch.Tensor:
    """[B,Q,T,h,w], one scalar product at a time."""
    products = queries.mask_embeddings[:, :, None, :, None, None] * queries.mask_features[:, None]
    return products.sum(3)


def test_scores_and_labels_ignore_no_object():
    logits = torch.tensor([[[1.0, 3.0, 0.0, 9.0], [2.0, 0.0, 0.0, 0.0]]])
    queries = Queries(torch.zeros(1, 2, C), logits, torch.zeros(1, 2, C), torch.zeros(1, 1, C, 2, 2))
    assert queries.labels().tolist() == [[1, 0]]
    probs = logits.exp() / logits.exp().sum(-1, keepdim=True)
    assert queries.class_scores()[0].tolist() == pytest.approx([probs[0, 0, 1].item(), probs[0, 1, 0].item()])


def test_all_masks(queries):
    assert torch.allclose(queries.mask_logits(), dense_masks(queries), atol=1e-5)


@pytest.mark.parametrize("size_hw", [(3, 4), (13, 5)])
def test_resizing_features_is_resizing_masks(queries, size_hw):
    masks = dense_masks(queries).flatten(0, 2)[:, None]  # [B,Q,T,h,w] -> [BQT,1,h,w]
    resized = F.interpolate(masks, size=size_hw, mode="bilinear", align_corners=False)
    ours = queries.mask_logits(size_hw=size_hw)
    assert ours.shape == (B, Q, T, *size_hw)
    assert torch.allclose(ours.flatten(0, 2), resized[:, 0], atol=1e-5)


def test_masks_at_points(queries):
    """The same points in every view; first all points of view 0, then of view 1."""
    points = torch.rand(B, 9, 2, generator=torch.Generator().manual_seed(1))
    at_points = queries.mask_logits_at(points)
    assert at_points.shape == (B, Q, T * 9)
    for image, masks in enumerate(dense_masks(queries)):
        grid = (2 * points[image] - 1).expand(Q, 1, -1, -1)
        views = [F.grid_sample(masks[:, t, None], grid, align_corners=False)[:, 0, 0] for t in range(T)]
        assert torch.allclose(at_points[image], torch.cat(views, dim=1), atol=1e-5)


@pytest.mark.parametrize(
    "pairs",
    [
        [(0, 4), (0, 1), (1, 2), (2, 0), (2, 3), (2, 1)],
        [(1, 1)],  # images without a match on both sides
        [(0, 0), (2, 0)],
        [],
    ],
)
def test_masks_of_matched_queries_and_their_gradients(queries, pairs):
    images, chosen = torch.tensor(pairs, dtype=torch.long).view(-1, 2).unbind(1)
    embeddings, features = queries.mask_embeddings.requires_grad_(), queries.mask_features.requires_grad_()
    ours = queries.matched_mask_logits(images, chosen)
    expected = dense_masks(queries)[images, chosen]
    assert ours.shape == (len(pairs), T, H, W)
    assert torch.allclose(ours, expected, atol=1e-5)
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(2))
    gradients = [torch.autograd.grad((m * weights).sum(), (embeddings, features)) for m in (ours, expected)]
    for mine, theirs in zip(*gradients):
        assert torch.allclose(mine, theirs, atol=1e-4)
