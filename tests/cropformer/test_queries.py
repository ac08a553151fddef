"""Queries: masks on demand are the masks that the full product gives, wherever and for whomever they are asked."""

import pytest
import torch
import torch.nn.functional as F

from cropformer import Queries
from cropformer.queries import resize_features

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


@pytest.mark.parametrize("size_hw", [(12, 20), (6, 10), (3, 5), (1, 1), (24, 5), (8, 8), (50, 90)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_leaving_out_lines_before_a_resize_changes_no_bit(size_hw, dtype):
    features = torch.randn(B, T, C, 24, 40, generator=torch.Generator().manual_seed(1)).to(dtype)
    planes = F.interpolate(features.flatten(0, 1), size=size_hw, mode="bilinear", align_corners=False)
    assert torch.equal(resize_features(features, size_hw).flatten(0, 1), planes)
