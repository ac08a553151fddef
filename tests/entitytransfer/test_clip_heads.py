"""Clip heads against a dense computation over whole masks, against the heads of images, and over tracks.

Frames are as large as the network input, so that a plain resize of the logits shows where a mask is.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cropformer import InputError, Queries, Views, make_clip_views, rle
from entitytransfer.classes import ENTITY, Classes
from entitytransfer.clip_heads import ClipEntityHead, ClipInstanceHead, ClipPanopticHead
from entitytransfer.heads import EntityHead, InstanceHead, PanopticHead
from entitytransfer.tracking.window_result import WindowResult

SIZE_HW = (64, 96)
CLASSES = Classes(("cat", "dog", "sky", "grass"), (1, 2, 3, 4), (True, True, False, False))


def clip(frames: int, *, queries: int = 12, seed: int = 0, sure: float = 4.0) -> tuple[Queries, Views]:
    """Random queries with smooth masks of some size; the larger ``sure``, the clearer their classes."""
    torch.manual_seed(seed)
    images = [np.zeros((*SIZE_HW, 3), np.uint8)] * frames
    views = make_clip_views(images, short_side=SIZE_HW[0], max_side=SIZE_HW[1])
    assert views.pixels.shape[-2:] == SIZE_HW
    coarse = torch.randn(frames, 8, 4, 6)
    features = F.interpolate(coarse, scale_factor=4, mode="bicubic")[None]  # [1,F,C,h,w]
    logits = sure * torch.randn(1, queries, len(CLASSES) + 1)
    return Queries(torch.randn(1, queries, 8), logits, torch.randn(1, queries, 8), features), views


def dense_probs(queries: Queries) -> np.ndarray:
    """Mask probabilities of everything, float [F,Q,H,W]."""
    logits = queries.mask_logits()[0].transpose(0, 1)  # [Q,F,h,w] -> [F,Q,h,w]
    return F.interpolate(logits, size=SIZE_HW, mode="bilinear").sigmoid().numpy()


def class_probs(queries: Queries) -> np.ndarray:
    return queries.class_logits[0].softmax(-1).numpy()


def masks_by_query(window: WindowResult, frame: int) -> dict[int, np.ndarray]:
    found = window.frames[frame]
    return dict(zip(found.query_ids.tolist() if len(found) else [], found.masks()))


# --- against a dense computation


@pytest.mark.parametrize("seed", range(4))
def test_instances_are_the_masks_of_the_best_pairs_in_every_frame(seed):
    queries, views = clip(3, seed=seed)
    probs = class_probs(queries)
    best = np.argsort(-probs[:, :-1].ravel(), kind="stable")[:5]
    chosen = set((best // len(CLASSES)).tolist())
    window = ClipInstanceHead(CLASSES, top_k=5).predict_window(queries, views)
    for number, dense in enumerate(dense_probs(queries)):
        found = masks_by_query(window, number)
        assert set(found) == {query for query in chosen if (dense[query] > 0.5).any()}
        for query, mask in found.items():
            assert (mask != (dense[query] > 0.5)).mean() < 1e-4  # rounding at one half
    for frame in window.frames:
        np.testing.assert_allclose(frame.scores, probs[frame.query_ids, :-1].max(1), rtol=1e-5)
        np.testing.assert_array_equal(frame.labels, probs[frame.query_ids, :-1].argmax(1))


@pytest.mark.parametrize("seed", range(4))
def test_qualities_are_the_mean_probability_inside_the_masks_of_all_frames(seed):
    queries, views = clip(3, seed=seed)
    window = ClipInstanceHead(CLASSES, use_quality=True).predict_window(queries, views)
    dense = dense_probs(queries)[:, window.query_ids]
    inside = dense > 0.5
    expected = (dense * inside).sum((0, 2, 3)) / inside.sum((0, 2, 3))
    np.testing.assert_allclose(window.qualities, expected, rtol=1e-3)
    for frame in window.frames:
        rows = np.searchsorted(window.query_ids, frame.query_ids)
        best = window.class_probs[rows, :-1].max(1)
        np.testing.assert_allclose(frame.scores, best * window.qualities[rows], rtol=1e-5)


def dense_regions(queries: Queries, *, min_score: float, min_visible: float) -> list[dict[int, np.ndarray]]:
    """Panoptic regions of every frame by best query, pixel by pixel and with the areas of the whole window."""
    probs, dense = class_probs(queries), dense_probs(queries)
    labels, scores = probs[:, :-1].argmax(1), probs[:, :-1].max(1)
    strong = [q for q in range(len(probs)) if probs[q].argmax() < len(CLASSES) and scores[q] > min_score]
    if not strong:
        return [{} for _ in dense]
    winners = np.array(strong)[(dense[:, strong] * scores[strong][None, :, None, None]).argmax(1)]  # [F,H,W]
    owned = {q: (winners == q) & (dense[:, q] >= 0.5) for q in strong}
    kept = [
        q
        for q in sorted(strong, key=lambda q: -scores[q])
        if owned[q].any() and (winners == q).sum() / (dense[:, q] >= 0.5).sum() >= min_visible
    ]
    regions: dict[int, np.ndarray] = {}
    for q in kept:
        same = [r for r in regions if labels[r] == labels[q] and not CLASSES.is_thing[labels[q]]]
        regions[same[0] if same else q] = regions.get(same[0], 0) | owned[q] if same else owned[q]
    return [{q: masks[i] for q, masks in regions.items() if masks[i].any()} for i in range(len(dense))]


@pytest.mark.parametrize("min_visible", [0.2, 0.4])
@pytest.mark.parametrize("seed", range(6))
def test_panoptic_regions_are_decided_for_the_window(seed, min_visible):
    queries, views = clip(3, seed=seed)
    expected = dense_regions(queries, min_score=0.5, min_visible=min_visible)
    window = ClipPanopticHead(CLASSES, min_score=0.5, min_visible=min_visible).predict_window(queries, views)
    assert sum(map(len, expected)) > 2
    for number, regions in enumerate(expected):
        found = masks_by_query(window, number)
        assert set(found) == set(regions)
        assert all((found[query] != mask).mean() < 1e-3 for query, mask in regions.items())
    stuff = [CLASSES.is_thing[label] for label in window.class_probs[:, :-1].argmax(1)]
    np.testing.assert_array_equal(window.is_stuff, ~np.array(stuff))


def test_a_window_decides_otherwise_than_its_frames():
    """What is covered in one frame alone is left out there by the image head, and kept by the window."""
    queries, views = clip(3, seed=0)
    options = {"min_score": 0.5, "min_visible": 0.4}
    together = ClipPanopticHead(CLASSES, **options).predict_window(queries, views).frames
    alone = PanopticHead(CLASSES, **options).predict(queries, views)
    assert [one.rles for one in together] != [one.rles for one in alone]


# --- one frame is an image


@pytest.mark.parametrize("seed", range(3))
def test_a_window_of_one_frame_has_the_entities_and_regions_of_an_image(seed):
    queries, views = clip(1, seed=seed)
    options = {"min_score": 0.3, "min_visible": 0.4}
    pairs = [
        (ClipEntityHead(min_score=0.2), EntityHead(min_score=0.2)),
        (ClipEntityHead(CLASSES), EntityHead(CLASSES)),
        (ClipPanopticHead(CLASSES, **options), PanopticHead(CLASSES, **options)),
    ]
    for clip_head, image_head in pairs:
        (ours,), (theirs,) = clip_head.predict_window(queries, views).frames, image_head.predict(queries, views)
        assert ours.rles == theirs.rles and len(ours)
        for name in ("scores", "labels", "embeddings", "query_ids"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


def test_a_window_of_one_frame_has_the_instances_of_an_image():
    queries, views = clip(1)
    head = ClipInstanceHead(CLASSES, top_k=8, use_quality=True)
    window = head.predict_window(queries, views)
    verdict = head.judge(window.class_probs, window.qualities)
    (image,) = InstanceHead(CLASSES, top_k=8).predict(queries, views)
    ours = sorted(zip(window.query_ids[verdict.rows].tolist(), verdict.labels.tolist(), verdict.scores.tolist()))
    theirs = sorted(zip(image.query_ids.tolist(), image.labels.tolist(), image.scores.tolist()))
    assert [pair[:2] for pair in ours] == [pair[:2] for pair in theirs]
    np.testing.assert_allclose([pair[2] for pair in ours], [pair[2] for pair in theirs], rtol=1e-5)
    assert {tuple(one.items()) for one in map(_frozen, image.rles)} == {
        tuple(one.items()) for one in map(_frozen, window.frames[0].rles)
    }


def _frozen(encoded: rle.RLE) -> dict:
    return {"size": tuple(encoded["size"]), "counts": encoded["counts"]}


def test_the_memory_does_not_change_the_result():
    queries, views = clip(2)
    for head in (ClipEntityHead, ClipInstanceHead, ClipPanopticHead):
        lean, ample = (head(CLASSES, max_memory=bound).predict_window(queries, views) for bound in (1, None))
        assert [one.rles for one in lean.frames] == [one.rles for one in ample.frames]


# --- tracks


def test_the_best_pairs_are_taken_over_all_tracks():
    probs = np.array([[0.5, 0.3, 0.1, 0.0, 0.1], [0.1, 0.6, 0.0, 0.2, 0.1], [0.2, 0.0, 0.0, 0.1, 0.7]])
    qualities = np.array([0.5, 1.0, 1.0])
    plain = ClipInstanceHead(CLASSES, top_k=4).judge(probs, qualities)
    assert (plain.rows.tolist(), plain.labels.tolist()) == ([1, 0, 0, 1], [1, 0, 1, 3])
    np.testing.assert_allclose(plain.scores, [0.6, 0.5, 0.3, 0.2])
    weighed = ClipInstanceHead(CLASSES, top_k=4, use_quality=True).judge(probs, qualities)
    np.testing.assert_allclose(weighed.scores, [0.6, 0.25, 0.15, 0.2])


def test_entities_and_regions_are_judged_one_by_one():
    probs, qualities = np.array([[0.5, 0.3, 0.2], [0.0, 0.75, 0.25]]), np.array([0.5, 1.0])
    for head in (ClipEntityHead(CLASSES), ClipPanopticHead(CLASSES)):
        verdict = head.judge(probs, qualities)
        assert (verdict.rows.tolist(), verdict.labels.tolist()) == ([0, 1], [0, 1])
        np.testing.assert_allclose(verdict.scores, [0.25, 0.75])
        assert len(head.judge(np.zeros((0, 3)), np.zeros(0)).rows) == 0


def test_the_entity_head_joins_the_classes_of_a_model():
    queries, views = clip(2)
    window = ClipEntityHead(min_score=0.1).predict_window(queries, views)
    best = class_probs(queries)[window.query_ids, :-1].max(1)
    np.testing.assert_allclose(window.class_probs, np.stack([best, 1 - best], axis=1), rtol=1e-6)
    assert all((frame.labels == 0).all() for frame in window.frames)


def test_a_class_score_of_zero_makes_a_quality_of_zero():
    queries, views = clip(2)
    logits = torch.zeros(1, 12, 5)
    logits[..., -1] = 300  # the softmax of the others is 0
    nothing = Queries(queries.embeddings, logits, queries.mask_embeddings, queries.mask_features)
    window = ClipEntityHead().predict_window(nothing, views)
    assert len(window.qualities) and not window.qualities.any() and not window.class_probs[:, 0].any()


def test_a_countable_track_never_ends_as_uncountable():
    """Windows that call it cat and dog by turns, and every time sky second, end in cat or dog."""
    queries, views = clip(1, sure=0.0)
    logits = queries.class_logits.clone()
    logits[0, 0], logits[0, 1] = (
        torch.tensor([0.4, 0.2, 0.35, 0, 0.05]).log(),
        torch.tensor([0.2, 0.4, 0.35, 0, 0.05]).log(),
    )
    head = ClipPanopticHead(CLASSES, min_score=0.3, min_visible=0.0)
    window = head.predict_window(
        Queries(queries.embeddings, logits, queries.mask_embeddings, queries.mask_features), views
    )
    assert window.query_ids.tolist() == [0, 1]
    verdict = head.judge(window.class_probs.mean(0, keepdims=True), np.ones(1))
    assert verdict.labels.tolist()[0] in (0, 1)


# --- nothing and errors


def test_a_window_without_a_result():
    queries, views = clip(2, sure=0.0)
    for head in (ClipEntityHead(min_score=0.9), ClipPanopticHead(CLASSES)):
        window = head.predict_window(queries, views)
        assert [len(frame) for frame in window.frames] == [0, 0]
        assert len(window.query_ids) == len(window.embeddings) == 0


def test_what_makes_no_sense_is_refused():
    queries, views = clip(2)
    for head in (ClipInstanceHead, ClipPanopticHead, ClipEntityHead):
        with pytest.raises(InputError, match="other queries in each frame; use window=1"):
            head(CLASSES, source="I-O").predict_window(queries, views)
    with pytest.raises(InputError, match="tells 4 classes apart and the dataset has 1"):
        ClipInstanceHead(ENTITY).predict_window(queries, views)
