"""Clips window by window: shared queries, frames that are worked out once, bounds and errors."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import cropformer
from cropformer import InputError, Queries, Views, fuse, make_clip_views
from cropformer.clip_views import join_frames, last_frames


def clip(count: int, size_hw: tuple[int, int] = (48, 80)) -> list[np.ndarray]:
    """Frames of smooth noise that differ a little from each other."""
    noise = np.random.default_rng(0).integers(0, 256, (size_hw[0], size_hw[1] + 4 * count, 3), dtype=np.uint8)
    return [np.ascontiguousarray(noise[:, 4 * i : 4 * i + size_hw[1]]) for i in range(count)]


def both(queries: Queries, views: Views) -> tuple[Queries, Views]:
    return queries, views


def assert_identical(ours: tuple[Queries, Views], theirs: tuple[Queries, Views]) -> None:
    for name in ("embeddings", "class_logits", "mask_embeddings", "mask_features"):
        assert torch.equal(getattr(ours[0], name), getattr(theirs[0], name)), name
    for name in ("pixels", "boxes_xyxy", "sizes_hw", "image_sizes_hw"):
        assert torch.equal(getattr(ours[1], name), getattr(theirs[1], name)), name
    assert ours[1].frames == theirs[1].frames


@pytest.mark.parametrize(("window", "overlap", "crops"), [(3, 1, 0), (4, 2, 0), (3, 2, 0), (2, 0, 0), (3, 2, 4)])
def test_windows_with_kept_frames_are_windows_without(tiny_model, window, overlap, crops):
    """Bit for bit, also for a last window that is shorter."""
    frames = clip(8 if crops == 0 else 4)
    predictor = tiny_model.clip_predictor(overlap=overlap, crops=crops)
    for start in range(0, len(frames) - overlap, window - overlap):
        some = frames[start : start + window]
        ours = predictor.predict(some, both, known=overlap if start else 0)
        assert_identical(ours, tiny_model.predict_clip(some, both, crops=crops))


def test_a_window_may_share_less_than_was_kept(tiny_model):
    frames, predictor = clip(5), tiny_model.clip_predictor(overlap=2)
    predictor.predict(frames[:3], both)
    assert_identical(predictor.predict(frames[2:], both, known=1), tiny_model.predict_clip(frames[2:], both))


def test_a_shared_frame_is_encoded_once(tiny_model, monkeypatch):
    seen = []
    encode = tiny_model.encode
    monkeypatch.setattr(
        tiny_model, "encode", lambda pixels, **named: seen.append(len(pixels)) or encode(pixels, **named)
    )
    predictor = tiny_model.clip_predictor(overlap=1)
    frames = clip(7)
    for start in (0, 3):
        predictor.predict(frames[start : start + 4], both, known=int(start > 0))
    assert seen == [4, 3]


def test_a_window_is_the_network_on_its_views(tiny_model):
    frames = clip(3)
    views = make_clip_views(frames, crops=4, short_side=64, max_side=107)
    with torch.inference_mode():
        expected = tiny_model(views)
    queries, seen = tiny_model.predict_clip(frames, both, crops=4)
    assert seen.frames == (0,) * 5 + (1,) * 5 + (2,) * 5
    assert_identical((queries, seen), (expected, views))


def test_a_clip_of_one_frame_with_crops_is_a_photo(tiny_model, photo):
    (ours,), theirs = tiny_model.segment_clip([photo], crops=4), tiny_model.segment(photo)
    assert ours.rles == theirs.rles and ours.query_ids.tolist() == theirs.query_ids.tolist()
    np.testing.assert_array_equal(ours.scores, theirs.scores)


def test_the_options_reach_views_and_fusion(tiny_model):
    frames = clip(2)
    views = make_clip_views(frames, crops=4, short_side=32, max_side=64, crop_ratio=0.5)
    with torch.inference_mode():
        expected = fuse(tiny_model(views), views, source="B-C", overlap=True, min_score=0.1)
    options = {"crops": 4, "short_side": 32, "max_side": 64, "crop_ratio": 0.5}
    found = tiny_model.segment_clip(frames, source="B-C", overlap=True, min_score=0.1, **options)
    assert [one.rles for one in found] == [one.rles for one in expected]


def test_on_a_cpu_the_bound_does_not_change_the_result(tiny_model):
    frames = clip(3)
    expected = tiny_model.segment_clip(frames)
    with pytest.warns(UserWarning, match="max_memory is 0 MB"):
        found = tiny_model.segment_clip(frames, max_memory="100KB")
    assert [one.rles for one in found] == [one.rles for one in expected]


def test_what_a_window_needs_grows_with_its_frames(tiny_model):
    predictor = tiny_model.clip_predictor()
    one, two, three = (predictor.network_bytes((48, 80), frames=count) for count in (1, 2, 3))
    assert three - two == two - one > 0
    assert tiny_model.clip_predictor(crops=4).network_bytes((48, 80), frames=1) > two


def test_what_a_window_needs_grows_with_a_fine_level(tiny_model, tiny_architecture, tiny_settings):
    fine = cropformer.build(replace(tiny_architecture, fine_level=True), settings=tiny_settings)
    plain, larger = (model.clip_predictor().network_bytes((48, 80), frames=4) for model in (tiny_model, fine))
    assert larger > 1.5 * plain


def test_reduced_precision_is_near(tiny_model):
    exact, _ = tiny_model.predict_clip(clip(2), both)
    rounded, _ = tiny_model.predict_clip(clip(2), both, precision="bf16")
    assert rounded.mask_features.dtype == torch.float32
    assert not torch.equal(exact.mask_features, rounded.mask_features)
    assert torch.allclose(exact.mask_features, rounded.mask_features, atol=0.1 * float(exact.mask_features.abs().max()))


def test_frames_are_cut_off_and_put_together():
    frames = clip(4)
    whole = make_clip_views(frames, crops=4, short_side=64, max_side=107)
    tail = make_clip_views(frames[1:], crops=4, short_side=64, max_side=107)
    head = make_clip_views(frames[:1], crops=4, short_side=64, max_side=107)
    for ours, theirs in ((last_frames(whole, 3), tail), (join_frames(head, tail), whole)):
        assert ours.frames == theirs.frames
        assert torch.equal(ours.pixels, theirs.pixels) and torch.equal(ours.boxes_xyxy, theirs.boxes_xyxy)


def test_clips_that_cannot_be_segmented_are_refused(tiny_model):
    with pytest.raises(InputError, match="must have one height and width"):
        tiny_model.segment_clip([*clip(1), *clip(1, (48, 81))])
    with pytest.raises(InputError, match="no precision 'fp8'; use fp32 or bf16"):
        tiny_model.segment_clip(clip(2), precision="fp8")
    with pytest.raises(InputError, match="no amount of memory"):
        tiny_model.segment_clip(clip(2), max_memory="much")
    tiny_model.association = None
    assert tiny_model.segment_clip(clip(1))[0].size_hw == (48, 80)
    with pytest.raises(InputError, match="one view at a time; use window=1 and crops=0"):
        tiny_model.segment_clip(clip(2))
