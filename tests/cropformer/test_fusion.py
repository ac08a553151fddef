"""View fusion equals a slow and plain reference that holds every mask of every query at image size."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import cropformer
from cropformer import Views, fuse, make_clip_views, make_views

from .fusion_cases import COMPATS, SIDES, assert_same, dense, photo_views, picture, random_queries

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def nano() -> cropformer.EntitySegmenter:
    return cropformer.load("nano")


SOURCES = pytest.mark.parametrize("source", ["B-OC", "B-O", "B-C", "I-O"])


@COMPATS
@SOURCES
@pytest.mark.parametrize("size_hw", [(90, 131), (131, 90), (40, 60), (7, 5)])
def test_photo_with_crops(compat, source, size_hw):
    views = photo_views(size_hw)
    queries = random_queries(views)
    ours = fuse(queries, views, compat=compat, source=source)
    assert len(ours) == 1
    assert_same(ours[0], dense(queries, views, 0, [0, 1, 2, 3, 4], compat=compat, source=source))


@COMPATS
@pytest.mark.parametrize("crops", [0, 8, (1, 3)])
def test_other_layouts(compat, crops):
    views = photo_views((90, 131), crops=crops)
    queries = random_queries(views)
    members = list(range(len(views.frames)))
    assert_same(fuse(queries, views, compat=compat)[0], dense(queries, views, 0, members, compat=compat))


@COMPATS
@SOURCES
def test_batch_of_two_sizes(compat, source):
    views = photo_views((90, 131), (60, 150))
    queries = random_queries(views)
    ours = fuse(queries, views, compat=compat, source=source)
    for image in (0, 1):
        reference = dense(queries, views, image, [0, 1, 2, 3, 4], compat=compat, source=source)
        assert_same(ours[image], reference)


@COMPATS
@pytest.mark.parametrize("source", ["B-OC", "I-O"])
def test_clip(compat, source):
    views = make_clip_views([picture(90, 131)] * 3, **SIDES)
    queries = random_queries(views)
    ours = fuse(queries, views, compat=compat, source=source)
    assert len(ours) == 3
    for frame in range(3):
        assert_same(ours[frame], dense(queries, views, 0, [frame], compat=compat, source=source))


@SOURCES
def test_clip_with_crops(source):
    """Two frames of five views each: every frame is fused from its own views."""
    pair = [make_views(picture(90, 131), crops=4, **SIDES)] * 2
    joined = (torch.cat([getattr(v, name) for v in pair], dim=1) for name in ("pixels", "boxes_xyxy", "sizes_hw"))
    views = Views(*joined, pair[0].image_sizes_hw, (0,) * 5 + (1,) * 5)
    queries = random_queries(views)
    ours = fuse(queries, views, source=source)
    assert_same(ours[0], dense(queries, views, 0, [0, 1, 2, 3, 4], source=source))
    assert_same(ours[1], dense(queries, views, 0, [5, 6, 7, 8, 9], source=source))


@pytest.mark.parametrize("min_score", [0.2, 0.35])
def test_entities_below_the_threshold_claim_nothing(min_score):
    views = photo_views((90, 131))
    queries = random_queries(views)
    ours = fuse(queries, views, min_score=min_score)[0]
    everything = fuse(queries, views)[0]
    assert 0 < len(ours) < len(everything)
    assert ours.scores.min() >= min_score
    assert_same(ours, dense(queries, views, 0, [0, 1, 2, 3, 4], min_score=min_score))


def test_a_threshold_is_the_same_as_never_having_asked_the_weak():
    views = photo_views((90, 131))
    queries = random_queries(views)
    ours = fuse(queries, views, min_score=0.4)[0]
    strong = torch.from_numpy(np.sort(ours.query_ids))
    only_strong = replace(
        queries,
        embeddings=queries.embeddings[:, strong],
        class_logits=queries.class_logits[:, strong],
        mask_embeddings=queries.mask_embeddings[:, strong],
    )
    alone = fuse(only_strong, views)[0]
    assert np.array_equal(alone.id_map(), ours.id_map())
    assert alone.scores.tolist() == ours.scores.tolist()


def test_nobody_reaches_a_threshold_above_one():
    views = photo_views((40, 60))
    entities = fuse(random_queries(views), views, min_score=1.1)[0]
    assert len(entities) == 0
    assert not entities.id_map().any()


def test_what_an_entity_carries():
    """Label, embedding and query of each entity belong together, and the best score comes first."""
    views = photo_views((90, 131))
    queries = random_queries(views)
    entities = fuse(queries, views)[0]
    assert (np.diff(entities.scores) <= 0).all()
    assert 0 not in entities.query_ids  # it has no pixel
    assert entities.labels.tolist() == queries.labels()[0, entities.query_ids].tolist()
    assert np.array_equal(entities.embeddings, queries.embeddings[0, entities.query_ids].numpy())
    assert len(set(entities.labels.tolist())) > 1


def test_the_published_pipeline_exports_every_query():
    views = photo_views((90, 131))
    queries = random_queries(views)
    entities = fuse(queries, views, compat="official")[0]
    class_scores = queries.class_scores()[0, entities.query_ids].numpy()
    assert len(entities) == 14
    assert (np.diff(class_scores) <= 0).all()
    hidden = entities.areas() == 0
    assert hidden[entities.query_ids == 0].all()
    assert not entities.scores[hidden].any()
    ratio = entities.scores[~hidden] / class_scores[~hidden]
    assert ratio.min() > 0.622  # the sigmoid of a probability above one half
    assert ratio.max() < 0.732


def test_more_padding_changes_nothing():
    """A larger canvas whose extra logits repeat the edge gives the same entities."""
    views = photo_views((64, 96), crops=0)
    queries = random_queries(views)
    features = F.pad(queries.mask_features[0], (0, 8, 0, 16), mode="replicate")[None]
    larger = replace(views, pixels=F.pad(views.pixels, (0, 32, 0, 64)))
    ours = fuse(replace(queries, mask_features=features), larger)[0]
    expected = fuse(queries, views)[0]
    assert np.array_equal(ours.id_map(), expected.id_map())
    assert ours.scores == pytest.approx(expected.scores, abs=1e-6)


@COMPATS
def test_a_mask_in_the_padding_alone_is_no_entity(compat):
    views = photo_views((64, 70), crops=0)
    queries = random_queries(views)
    height, width = queries.mask_features.shape[-2:]
    assert (4 * height, 4 * width) == (64, 96)
    features = torch.full_like(queries.mask_features, -1.0)
    features[..., 20:] = 5.0  # the view ends in column 17.5
    entities = fuse(replace(queries, mask_features=features), views, compat=compat)[0]
    assert not entities.id_map().any()
    assert not entities.areas().any()


def test_queries_that_need_gradients_are_welcome():
    views = photo_views((40, 60))
    queries = random_queries(views)
    trained = replace(queries, mask_embeddings=queries.mask_embeddings.clone().requires_grad_())
    assert np.array_equal(fuse(trained, views)[0].id_map(), fuse(queries, views)[0].id_map())


def test_overlapping_entities_keep_all_their_pixels():
    views = photo_views((60, 90))
    queries = random_queries(views)
    apart, whole = fuse(queries, views)[0], fuse(queries, views, overlap=True)[0]
    areas = dict(zip(whole.query_ids.tolist(), whole.areas().tolist()))
    assert len(whole) >= len(apart)
    assert all(areas[query] >= area for query, area in zip(apart.query_ids.tolist(), apart.areas().tolist()))
    best = int(queries.class_scores()[0].argmax())
    masks = {int(query): mask for query, mask in zip(whole.query_ids, whole.masks())}
    kept = {int(query): mask for query, mask in zip(apart.query_ids, apart.masks())}
    assert np.array_equal(masks[best], kept[best])
    assert whole.areas().sum() > apart.areas().sum()


@pytest.mark.parametrize(("compat", "min_score"), [(None, 0.2), ("official", 0.0)])
def test_overlapping_entities_equal_the_dense_ones(compat, min_score):
    views = photo_views((90, 131))
    queries = random_queries(views)
    ours = fuse(queries, views, compat=compat, overlap=True, min_score=min_score)[0]
    assert len(ours) > 5
    assert_same(ours, dense(queries, views, 0, [0, 1, 2, 3, 4], compat=compat, overlap=True, min_score=min_score))


@pytest.mark.parametrize("photo", sorted((DATA / "coco_tiny" / "images").iterdir())[:2], ids=lambda path: path.stem)
@pytest.mark.parametrize("crops", [0, 4, 8])
def test_the_trained_model_on_photos(photo, crops, nano):
    views = make_views(photo, crops=crops, short_side=128, max_side=192)
    members = list(range(len(views.frames)))
    with torch.inference_mode():
        queries = nano(views)
    for compat in (None, "official"):
        assert_same(fuse(queries, views, compat=compat)[0], dense(queries, views, 0, members, compat=compat))


@pytest.mark.parametrize("kind", ["swin", "r50", "hornet"])
def test_the_parity_models(kind):
    model = cropformer.load(DATA / "parity" / f"{kind}_tiny_state.safetensors")
    image = np.load(DATA / "parity" / f"{kind}_tiny_inference.npz")["image_rgb_u8"]
    views = make_views(image, crops=4, short_side=128, max_side=213)
    with torch.inference_mode():
        queries = model(views)
    for overlap in (False, True):
        ours = fuse(queries, views, overlap=overlap)[0]
        reference = dense(queries, views, 0, [0, 1, 2, 3, 4], overlap=overlap)
        assert ours.scores == pytest.approx(reference.scores, abs=1e-6)
        masks = reference.masks if overlap else reference.ids == torch.arange(1, len(ours) + 1).view(-1, 1, 1)
        assert (ours.masks() == masks.numpy()).mean() >= 0.99999
