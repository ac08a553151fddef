"""Every head equals its definition written out with all masks at image size, and does the right thing by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cropformer import Entities, InputError, Queries, Views, fuse, make_clip_views
from entitytransfer.adapter import Head
from entitytransfer.classes import ENTITY
from entitytransfer.heads import DichotomousHead, EntityHead, InstanceHead, PanopticHead, SemanticHead

from .head_cases import CLASSES, COUNT, SIDES, dense, label_map, photo_views, random_queries

CROPS = pytest.mark.parametrize("crops", [0, 4])


def row(queries: Queries, image: int) -> Queries:
    """The queries of one image of a batch."""
    names = ("embeddings", "class_logits", "mask_embeddings", "mask_features")
    return replace(queries, **{name: getattr(queries, name)[image : image + 1] for name in names})


def heads(**options: object) -> list[Head]:
    plain = [EntityHead(CLASSES), InstanceHead(CLASSES), SemanticHead(CLASSES), DichotomousHead(CLASSES)]
    return [replace(head, **options) for head in (*plain, PanopticHead(CLASSES, min_score=0.4, min_visible=0.3))]


def assert_same(ours: Entities | np.ndarray, theirs: Entities | np.ndarray) -> None:
    if isinstance(ours, np.ndarray):
        assert np.array_equal(ours, theirs)
        return
    assert ours.rles == theirs.rles
    assert np.array_equal(ours.scores, theirs.scores)
    assert np.array_equal(ours.labels, theirs.labels)


# --- against the definition


@CROPS
def test_entities_are_those_of_fuse(crops):
    views = photo_views((90, 131), crops=crops)
    queries = random_queries(views)
    for options in ({}, {"overlap": True}, {"min_score": 0.4}, {"source": "B-O"}, {"compat": "official"}):
        expected = fuse(queries, views, **options)[0]
        assert len(set(expected.labels)) > 1
        assert_same(EntityHead(CLASSES, **options).predict(queries, views)[0], expected)
        agnostic = EntityHead(**options).predict(queries, views)[0]
        assert_same(replace(agnostic, labels=expected.labels), expected)
        assert not agnostic.labels.any()


@CROPS
def test_instances_are_the_best_pairs_of_query_and_class(crops):
    views = photo_views((90, 131), crops=crops)
    queries = random_queries(views)
    class_probs, probs = dense(queries, views)
    pairs = sorted(((class_probs[q, k], q, k) for q in range(COUNT) for k in range(4)), reverse=True)[:20]
    expected = sorted(
        ((p * probs[q][probs[q] > 0.5].mean(), q, k) for p, q, k in pairs if (probs[q] > 0.5).any()), reverse=True
    )
    found = InstanceHead(CLASSES, top_k=20).predict(queries, views)[0]
    assert 0 < len(set(found.query_ids)) < len(found)  # one query stands for several classes
    assert found.scores == pytest.approx([score for score, _, _ in expected], abs=1e-5)
    assert list(zip(found.query_ids, found.labels)) == [(q, k) for _, q, k in expected]
    assert np.array_equal(found.embeddings, queries.embeddings[0, found.query_ids].numpy())
    for mask, query in zip(found.masks(), found.query_ids):
        assert (mask == (probs[query] > 0.5)).mean() > 0.9999


@CROPS
def test_panoptic_regions_are_merged_as_published(crops):
    views = photo_views((90, 131), crops=crops)
    queries = random_queries(views, seed=4)
    class_probs, probs = dense(queries, views)
    kept = [q for q in range(COUNT) if class_probs[q].argmax() < 4 and class_probs[q].max() > 0.4]
    winner = np.array(kept)[(probs[kept] * class_probs[kept].max(1)[:, None, None]).argmax(0)]
    expected, stuff = np.zeros((90, 131), dtype=int), {}
    for q in kept:
        mask = (winner == q) & (probs[q] >= 0.5)
        if mask.any() and (winner == q).sum() / (probs[q] >= 0.5).sum() >= 0.3:
            label = class_probs[q].argmax()
            number = q + 1 if CLASSES.is_thing[label] else stuff.setdefault(label, q + 1)
            expected[mask] = number
    found = PanopticHead(CLASSES, min_score=0.4, min_visible=0.3).predict(queries, views)[0]
    masks = [expected == number for number in np.unique(expected[expected > 0])]
    assert len(found) == len(masks) > 2
    for mask in found.masks():
        assert max((mask == other).mean() for other in masks) > 0.9999
    assert found.scores == pytest.approx(class_probs[found.query_ids].max(1), abs=1e-6)
    assert found.labels.tolist() == class_probs[found.query_ids].argmax(1).tolist()


@CROPS
def test_semantic_classes_have_the_largest_sum(crops):
    views = photo_views((90, 131), crops=crops)
    queries = random_queries(views, seed=3)
    queries.class_logits[..., -1] += 3  # so that most sums are below one
    class_probs, probs = dense(queries, views)
    sums = np.einsum("qk,qhw->khw", class_probs[:, :-1], probs)
    found = SemanticHead(CLASSES).predict(queries, views)[0]
    assert (label_map(found) == sums.argmax(0) + 1).mean() > 0.9999
    assert found.areas().sum() == 90 * 131
    assert len(set(found.labels)) == len(found) > 2
    assert found.scores.min() < 1
    for label, score in zip(found.labels, found.scores):
        expected = min(1, sums.max(0)[sums.argmax(0) == label].mean())
        assert score == pytest.approx(expected, abs=1e-4)


@CROPS
def test_the_dichotomous_map_is_the_sum_of_all_objects(crops):
    views = photo_views((90, 131), crops=crops)
    queries = random_queries(views)
    queries.class_logits[..., -1] += 4  # else everything is foreground
    class_probs, probs = dense(queries, views)
    expected = 255 * np.einsum("q,qhw->hw", 1 - class_probs[:, -1], probs).clip(max=1)
    found = DichotomousHead().predict(queries, views)[0]
    assert found.dtype == np.uint8
    assert np.abs(found - expected).max() <= 0.501
    assert found.std() > 30
    assert (found == 255).any()


# --- batches, clips, memory


@CROPS
def test_a_batch_is_its_images(crops):
    views = photo_views((90, 131), (60, 150), crops=crops)
    queries = random_queries(views)
    for head in heads():
        both = head.predict(queries, views)
        assert len(both) == 2
        for image in (0, 1):
            single = replace(
                views,
                pixels=views.pixels[image : image + 1],
                boxes_xyxy=views.boxes_xyxy[image : image + 1],
                sizes_hw=views.sizes_hw[image : image + 1],
                image_sizes_hw=views.image_sizes_hw[image : image + 1],
            )
            assert_same(both[image], head.predict(row(queries, image), single)[0])


def test_a_clip_has_a_result_for_each_frame():
    views = make_clip_views([np.zeros((90, 131, 3), dtype=np.uint8)] * 2, **SIDES)
    queries = random_queries(views)
    for head in heads():
        found = head.predict(queries, views)
        assert len(found) == 2
        for t in (0, 1):
            frame = photo_views((90, 131), crops=0)
            assert_same(found[t], head.predict(replace(queries, mask_features=queries.mask_features[:, [t]]), frame)[0])


@CROPS
def test_no_bound_on_the_memory_changes_a_bit(crops):
    views = photo_views((200, 333), crops=crops)
    queries = random_queries(views)
    for free, bound in zip(heads(), heads(max_memory=1)):
        assert_same(free.predict(queries, views)[0], bound.predict(queries, views)[0])


def test_the_source_reaches_every_head():
    views = photo_views((90, 131), crops=4)
    queries = random_queries(views)
    first = replace(queries, mask_features=queries.mask_features[:, :1])
    for head in heads(source="B-O"):
        assert_same(head.predict(queries, views)[0], head.predict(first, photo_views((90, 131), crops=0))[0])


def test_heads_speak_to_a_model(tiny_model, photo):
    for head, kind in ((EntityHead(), Entities), (SemanticHead(ENTITY), Entities), (DichotomousHead(), np.ndarray)):
        found = tiny_model.predict([photo, photo[:60]], head.predict, max_memory="1GB")
        assert [isinstance(one, kind) for one in found] == [True, True]
        assert_same(found[1], tiny_model.predict([photo[:60]], head.predict)[0])
    expected = tiny_model.segment(photo)
    assert_same(tiny_model.predict([photo], EntityHead().predict)[0], expected)


# --- cases by hand


def plain_views() -> Views:
    """A photo of 64x64 whose logits are one for each 4x4 pixels."""
    return photo_views((64, 64), crops=0)


def hand_made(*parts: tuple[slice, slice, float], classes: list[list[float]]) -> Queries:
    """Queries from (rows, columns, logit) on the 16x16 grid, -8 elsewhere, and their class probabilities [K+1]."""
    planes = torch.full((len(parts), 16, 16), -8.0)
    for plane, (rows, columns, logit) in zip(planes, parts):
        plane[rows, columns] = logit
    logits = torch.tensor(classes).log()[None]
    return Queries(torch.zeros(1, len(parts), 3), logits, torch.eye(len(parts))[None], planes[None, None])


LEFT, RIGHT, ALL = slice(0, 8), slice(8, 16), slice(0, 16)
SKY = [0.0, 0.0, 0.95, 0.0, 0.05]
CAT = [0.9, 0.1, 0.0, 0.0, 0.0]


def test_stuff_of_one_class_is_one_region_and_things_are_not():
    parts = (ALL, LEFT, 8.0), (ALL, RIGHT, 8.0)
    sky = PanopticHead(CLASSES).predict(hand_made(*parts, classes=[[0, 0, 0.85, 0, 0.15], SKY]), plain_views())[0]
    assert (len(sky), sky.labels.tolist(), sky.query_ids.tolist()) == (1, [2], [1])
    assert sky.scores == pytest.approx([0.95])
    assert sky.areas()[0] > 0.9 * 64 * 64
    cats = PanopticHead(CLASSES).predict(hand_made(*parts, classes=[CAT, CAT]), plain_views())[0]
    assert (cats.labels.tolist(), cats.query_ids.tolist()) == ([0, 0], [0, 1])


def test_a_hidden_region_is_left_out_and_what_it_won_stays_free():
    queries = hand_made((ALL, ALL, 8.0), (ALL, slice(0, 12), 9.0), classes=[CAT, SKY])
    visible = PanopticHead(CLASSES, min_visible=0.2).predict(queries, plain_views())[0]
    assert visible.labels.tolist() == [2, 0]
    hidden = PanopticHead(CLASSES).predict(queries, plain_views())[0]
    assert hidden.labels.tolist() == [2]
    assert not hidden.masks()[:, :, 52:].any()


def test_what_no_query_is_half_sure_of_belongs_to_nobody():
    """The second query wins where the first one is not, and has no pixel above one half there."""
    queries = hand_made((ALL, LEFT, 8.0), (ALL, RIGHT, -1.0), classes=[CAT, SKY])
    found = PanopticHead(CLASSES).predict(queries, plain_views())[0]
    assert found.labels.tolist() == [0]
    assert not found.masks()[:, :, 36:].any()


def test_weak_queries_are_no_panoptic_regions():
    queries = hand_made((ALL, LEFT, 8.0), (ALL, RIGHT, 8.0), classes=[CAT, [0, 0, 0.75, 0, 0.25]])
    assert PanopticHead(CLASSES).predict(queries, plain_views())[0].labels.tolist() == [0]
    assert len(PanopticHead(CLASSES, min_score=0.7).predict(queries, plain_views())[0]) == 2


def test_where_all_is_no_object_there_is_nothing_but_a_class_for_each_pixel():
    nothing = [0.0, 0.0, 0.0, 0.0, 1.0]
    queries = hand_made((ALL, ALL, 8.0), (ALL, LEFT, 8.0), classes=[nothing, nothing])
    assert len(PanopticHead(CLASSES).predict(queries, plain_views())[0]) == 0
    assert not InstanceHead(CLASSES).predict(queries, plain_views())[0].scores.any()
    assert not DichotomousHead(CLASSES).predict(queries, plain_views())[0].any()
    classes = SemanticHead(CLASSES).predict(queries, plain_views())[0]
    assert (classes.labels.tolist(), classes.areas().tolist(), classes.scores.tolist()) == ([0], [64 * 64], [0])


def test_masks_without_pixels_are_no_instances():
    queries = hand_made((ALL, ALL, -8.0), (ALL, LEFT, 8.0), classes=[CAT, CAT])
    found = InstanceHead(CLASSES, top_k=3).predict(queries, plain_views())[0]
    assert list(zip(found.query_ids, found.labels)) == [(1, 0)]
    found = InstanceHead(CLASSES, top_k=4).predict(queries, plain_views())[0]
    assert list(zip(found.query_ids, found.labels)) == [(1, 0), (1, 1)]
    assert len(InstanceHead(CLASSES, top_k=1).predict(queries, plain_views())[0]) == 0


def test_equals_go_to_the_first_query_and_the_first_class():
    both = [0.4, 0.4, 0.2, 0.0, 0.0]
    queries = hand_made((ALL, ALL, 8.0), (ALL, ALL, 8.0), classes=[both, both])
    assert SemanticHead(CLASSES).predict(queries, plain_views())[0].labels.tolist() == [0]
    instances = InstanceHead(CLASSES, top_k=3).predict(queries, plain_views())[0]
    assert list(zip(instances.query_ids, instances.labels)) == [(0, 0), (0, 1), (1, 0)]
    regions = PanopticHead(CLASSES, min_score=0.3).predict(queries, plain_views())[0]
    assert (regions.query_ids.tolist(), regions.labels.tolist()) == ([0], [0])


@pytest.mark.parametrize("head", heads()[:3] + heads()[4:], ids=lambda head: head.task)
def test_a_model_for_other_classes_is_refused(head):
    views = plain_views()
    with pytest.raises(InputError, match="model tells 1 classes apart and the dataset has 4; fine-tune it"):
        head.predict(random_queries(views, classes=1), views)
