"""Memory bounds: how they are written, what they allow, and that no result depends on them."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import cropformer
from cropformer import InputError, make_views
from cropformer.layers import in_chunks, token_wise
from cropformer.memory import NetworkMemory, parse_memory

PHOTO = Path(__file__).parents[1] / "data" / "coco_tiny" / "images" / "000000000785.jpg"
BOUNDS = ["1MB", "20MB", "2GB"]


@pytest.mark.parametrize(
    ("bound", "size"),
    [
        ("2GB", 2 * 10**9),
        ("500MB", 500 * 10**6),
        ("500 mb", 500 * 10**6),
        ("1.5GiB", 3 * 2**29),
        ("64KiB", 2**16),
        ("3kB", 3000),
        ("12", 12),
        (12, 12),
        (None, None),
    ],
)
def test_amounts(bound, size):
    assert parse_memory(bound) == size


@pytest.mark.parametrize("bound", ["", "GB", "2TBs", "2 GB extra", "-1GB", "1,5GB", "0", 0, -5, "0.1B"])
def test_no_amounts(bound, tiny_model, photo):
    with pytest.raises(InputError, match="no amount of memory; write it like 2GB, 500MB or 1.5GiB"):
        tiny_model.segment(photo, max_memory=bound)


def same(ours: cropformer.Entities, theirs: cropformer.Entities) -> bool:
    """Whether two results are equal to the last bit."""
    return (
        np.array_equal(ours.id_map(), theirs.id_map())
        and np.array_equal(ours.scores, theirs.scores)
        and np.array_equal(ours.embeddings, theirs.embeddings)
    )


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.filterwarnings("ignore:max_memory is")
def test_no_result_depends_on_the_bound(bound, tiny_model, photo):
    images = [photo, photo[:, ::-1], photo[::-1]]
    for ours, theirs in zip(tiny_model.segment_batch(images, max_memory=bound), tiny_model.segment_batch(images)):
        assert len(ours) > 1
        assert same(ours, theirs)


@pytest.mark.filterwarnings("ignore:max_memory is")
def test_no_result_of_the_bundled_model_depends_on_the_bound():
    model = cropformer.load("nano")
    free = model.segment(PHOTO)
    assert len(free) > 1
    assert all(same(model.segment(PHOTO, max_memory=bound), free) for bound in BOUNDS)


def test_the_bound_decides_how_many_images_share_a_pass(tiny_model, photo, monkeypatch):
    memory = NetworkMemory.estimate(
        make_views(photo, short_side=64, max_side=107).pixels.shape[-2:], views=5, channels=32
    )
    passes = []
    forward = tiny_model.forward
    monkeypatch.setattr(
        tiny_model, "forward", lambda views, **options: passes.append(len(views.pixels)) or forward(views, **options)
    )
    for images in (1, 2, 5):
        tiny_model.segment_batch([photo] * 5, max_memory=memory.encoding + images * memory.shared)
    assert passes == [1] * 5 + [2, 2, 1] + [5]


def test_a_bound_that_cannot_be_kept_is_said(tiny_model, photo):
    with pytest.warns(UserWarning, match="max_memory is 0 MB, but the views of one image need about [1-9]"):
        found = tiny_model.segment(photo, max_memory="1KB")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(tiny_model.segment(photo, max_memory="2GB"), found)


def test_an_accelerator_encodes_as_many_views_as_fit():
    memory = NetworkMemory.estimate((64, 96), views=5, channels=32)
    kept = 2 * memory.shared
    assert [memory.views_at_once(kept + n * memory.encoding, images=2) for n in (0, 1, 3, 99)] == [1, 1, 3, 8]
    assert memory.views_at_once(None, images=2) == 8


def test_an_image_is_decoded_as_if_it_were_alone(tiny_model, photo):
    """To the last bit, and with every field of the queries: why batches and bounds do not matter."""
    pixels = make_views(photo, short_side=64, max_side=107).pixels[0]
    with torch.no_grad():
        features = tiny_model.encode(torch.cat([pixels, pixels.flip(-1)]))
        both, alone = tiny_model.decode(features, views=5), tiny_model.decode(features[5:], views=5)
    together = tiny_model.decode(features, views=5)  # with gradients: as one batch
    assert together.embeddings.requires_grad
    assert torch.equal(both.embeddings[1:], alone.embeddings)
    assert torch.equal(both.mask_embeddings[1:], alone.mask_embeddings)
    assert torch.equal(both.mask_features[1:], alone.mask_features)
    assert torch.equal(both.per_view.class_logits[5:], alone.per_view.class_logits)
    assert torch.equal(both.intermediate[1].mask_embeddings[1:], alone.intermediate[1].mask_embeddings)
    assert torch.allclose(both.per_view.mask_logits(), together.per_view.mask_logits(), atol=1e-3)
    assert torch.allclose(both.class_logits, together.class_logits, atol=1e-4)


# --- parts of a layer that stay in the cache


def test_parts_of_a_tensor_give_the_whole():
    tensors = torch.randn(2, 7, 3), torch.randn(1, 7, 1)
    sizes = []

    def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        sizes.append(a.shape[1])
        return a * b

    with torch.no_grad():
        assert torch.equal(in_chunks(product, *tensors, size=3, dim=1), tensors[0] * tensors[1])
    assert sizes == [3, 3, 1]


def test_parts_are_computed_again_for_the_gradient():
    weight = torch.randn(3, requires_grad=True)
    tokens = torch.randn(2, 7, 3, requires_grad=True)
    sizes = []

    def transform(part: torch.Tensor) -> torch.Tensor:
        sizes.append(part.shape[1])
        return (part * weight).exp()

    result = in_chunks(transform, tokens, size=3, dim=1)
    ours = torch.autograd.grad(result.square().sum(), (tokens, weight))
    assert sorted(sizes) == [1, 1, 3, 3, 3, 3]
    expected = torch.autograd.grad((tokens * weight).exp().square().sum(), (tokens, weight))
    assert all(torch.allclose(mine, plain) for mine, plain in zip(ours, expected))


def test_tokens_in_any_order_of_memory():
    tokens = torch.randn(2, 3, 1500).transpose(1, 2)
    with torch.no_grad():
        assert torch.equal(token_wise(torch.neg, tokens), -tokens)
