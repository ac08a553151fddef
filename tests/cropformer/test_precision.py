"""bf16: how far it may be from fp32, and what stays in fp32. Measured on the bundled model and a few photos."""

from pathlib import Path

import numpy as np
import pytest
import torch

import cropformer
from cropformer import InputError, make_views

PHOTOS = sorted((Path(__file__).parents[1] / "data" / "coco_tiny" / "images").glob("*.jpg"))


def in_both(model: cropformer.EntitySegmenter, image: object) -> list[cropformer.Queries]:
    """The model's queries in fp32 and in bf16."""
    settings = model.settings
    views = make_views(image, crops=4, short_side=settings.short_side, max_side=settings.max_side)
    with torch.inference_mode():
        exact = model(views)
        with torch.autocast("cpu", torch.bfloat16):
            return [exact, model(views)]


def test_a_tiny_model_in_bf16(tiny_model, photo):
    exact, rounded = in_both(tiny_model, photo)
    spread = exact.mask_logits().std()
    error = (rounded.mask_logits() - exact.mask_logits()).abs()
    assert 0 < error.mean() < 0.1 * spread
    agreeing = (rounded.mask_logits() > 0) == (exact.mask_logits() > 0)
    assert agreeing.float().mean() > 0.95


@pytest.fixture(scope="module", params=PHOTOS, ids=lambda path: path.stem)
def pair(request) -> tuple[cropformer.Queries, cropformer.Queries]:
    return tuple(in_both(cropformer.load("nano"), request.param))


def test_the_bundled_model_in_bf16(pair):
    """Of the queries that are anything: 99 % of the mask pixels agree, logits are 0.4 apart at a spread of 10."""
    exact, rounded = pair
    found = exact.class_scores()[0] > 0.3
    assert found.any()
    theirs, ours = exact.mask_logits()[:, found], rounded.mask_logits()[:, found]
    assert ((ours > 0) == (theirs > 0)).float().mean() > 0.99
    assert 0 < (ours - theirs).abs().mean() < 0.4
    assert (rounded.class_scores() - exact.class_scores()).abs().max() < 0.15


def test_what_leaves_the_network_is_fp32(pair):
    _, rounded = pair
    for name in ("embeddings", "class_logits", "mask_embeddings", "mask_features"):
        assert getattr(rounded, name).dtype == torch.float32


@pytest.mark.parametrize("path", PHOTOS[:2], ids=lambda path: path.stem)
def test_entities_in_bf16(path):
    """Nine pixels of ten and more lie in the same entity."""
    model = cropformer.load("nano")
    exact, rounded = (model.segment(path, precision=precision).masks() for precision in ("fp32", "bf16"))
    shared = np.einsum("ihw,jhw->ij", exact.astype(np.float32), rounded.astype(np.float32)).max(1).sum()
    nobody = (~exact.any(0) & ~rounded.any(0)).sum()
    assert (shared + nobody) / exact[0].size > 0.9


def test_fp32_is_what_comes_unasked(tiny_model, photo):
    free, exact = tiny_model.segment(photo), tiny_model.segment(photo, precision="fp32")
    assert np.array_equal(free.id_map(), exact.id_map())
    assert np.array_equal(free.scores, exact.scores)
    assert not np.array_equal(free.scores, tiny_model.segment(photo, precision="bf16").scores)


def test_precisions_are_listed(tiny_model, photo):
    with pytest.raises(InputError, match="no precision 'fp8'; use fp32 or bf16"):
        tiny_model.segment(photo, precision="fp8")
