"""Clips as training batches: which frames are drawn, what their views share, and what becomes of their tracks."""

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cropformer import (
    Cut,
    InputError,
    TrainingBatch,
    cut_image,
    cut_masks,
    draw_scale_jitter,
    draw_semantic_crop,
    draw_training_crop,
    rle,
    training_views,
)
from entitytransfer.adapter import LabelledMasks
from entitytransfer.clip_sample import ClipSample, PseudoClip
from entitytransfer.datasets import coco, uvo, youtube_vis
from entitytransfer.readers.annotation_index import Texts
from entitytransfer.readers.ytvis_clips import ClipTracks
from entitytransfer.set_source import SetSource
from entitytransfer.training.augmentations import Augmentation, label_areas
from entitytransfer.training.clip_data import ClipFrames, TrainingClips, cut_clip_example
from entitytransfer.training.loaders import DataOptions, training_loader, validation_loader
from entitytransfer.training.sampling import BatchSize, Group
from entitytransfer.training.sets import TrainingSets, open_sets

from .clip_trees import make_uvo_tree, make_ytvis_tree

PHOTOS = Path(__file__).parents[1] / "data" / "coco_tiny"
SIDES = {"short_sides": (48, 64), "max_side": 96}


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """UVO with three clips of six frames; the third thing of each is absent from the first two."""
    return make_uvo_tree(tmp_path_factory.mktemp("uvo"), clips=3)


@pytest.fixture(scope="module")
def clips(tree):
    return uvo.read(tree)


def crops(**options) -> Augmentation:
    return Augmentation(partial(draw_training_crop, **SIDES, **options))


def group(*indices: int, seed: int = 7) -> Group:
    return Group(tuple((index, seed + i) for i, index in enumerate(indices)), seed)


def batch_of(clips, augmentation: Augmentation, *indices: int, seed: int = 7, **frames: int) -> TrainingBatch:
    (batch,) = TrainingClips(clips, augmentation, frames=ClipFrames(**frames))[[group(*indices, seed=seed)]]
    return batch


# --- which frames


def clip_of(frames: int, annotated: tuple[int, ...] | None = None) -> ClipSample:
    """A clip of which only the number of its frames is known."""
    paths = tuple(Path(f"{index}.jpg") for index in range(frames))
    return ClipSample(1, paths, (48, 64), None, exhaustive=True, annotated=annotated)


def draws(clip: ClipSample, sampling: ClipFrames, count: int = 300) -> list[tuple[int, ...]]:
    return [sampling.draw(clip, random.Random(seed)) for seed in range(count)]


@st.composite
def annotated_frames(draw) -> tuple[int, tuple[int, ...] | None]:
    """The length of a clip, and which of its frames are annotated."""
    length = draw(st.integers(1, 60))
    return length, draw(st.none() | st.sets(st.integers(0, length - 1), min_size=1).map(sorted).map(tuple))


@given(frames=st.integers(1, 40), reach=st.integers(0, 50), clip=annotated_frames(), seed=st.integers(0, 99))
def test_frames_are_annotated_ascending_and_near_one_of_them(frames, reach, clip, seed):
    length, known = clip
    drawn = ClipFrames(frames, reach).draw(clip_of(length, known), random.Random(seed))
    assert len(drawn) == frames and list(drawn) == sorted(drawn)
    assert set(drawn) <= set(range(length) if known is None else known)
    assert any(max(abs(frame - reference) for frame in drawn) <= reach for reference in drawn)


def test_every_pair_in_range_is_drawn_and_no_other():
    pairs = {(i, j) for i in range(6) for j in range(i + 1, 6) if j - i <= 2}
    assert set(draws(clip_of(6), ClipFrames(2, 2))) == pairs


def test_the_reference_is_uniform_and_so_is_the_other_frame():
    first = np.bincount([a for pair in draws(clip_of(3), ClipFrames(2, 5), 3000) for a in pair], minlength=3)
    np.testing.assert_allclose(first / 6000, 1 / 3, atol=0.03)


def test_others_may_repeat_and_the_reference_does_not():
    drawn = set(draws(clip_of(3), ClipFrames(3, 1)))
    assert {(0, 1, 1), (0, 1, 2), (1, 1, 2)} <= drawn  # two others of frame 1, one of each side, two of frame 1
    assert not {(0, 0, 0), (1, 1, 1), (2, 2, 2)} & drawn


@pytest.mark.parametrize(
    ("clip", "sampling", "expected"),
    [
        (clip_of(1), ClipFrames(2, 20), {(0, 0)}),
        (clip_of(1), ClipFrames(5, 20), {(0,) * 5}),
        (clip_of(4), ClipFrames(1, 20), {(0,), (1,), (2,), (3,)}),
        (clip_of(3), ClipFrames(3, 0), {(0, 0, 0), (1, 1, 1), (2, 2, 2)}),
        (clip_of(90, (30, 60)), ClipFrames(2, 20), {(30, 30), (60, 60)}),
        (clip_of(90, (30, 60)), ClipFrames(2, 30), {(30, 60)}),
        (clip_of(90, (7,)), ClipFrames(3, 90), {(7, 7, 7)}),
    ],
)
def test_where_nothing_is_near_the_reference_stands_in(clip, sampling, expected):
    assert set(draws(clip, sampling)) == expected


@pytest.mark.parametrize("numbers", [{"frames": 0}, {"range": -1}])
def test_impossible_draws_are_refused(numbers):
    with pytest.raises(InputError, match="give data.clip.frames of 1 or more, and data.clip.range of 0 or more"):
        ClipFrames(**numbers)


def test_a_clip_without_annotation_is_refused():
    with pytest.raises(InputError, match="clip 1 has no annotated frame to train on; leave it out of the set"):
        ClipFrames().draw(clip_of(5, ()), random.Random(0))


# --- views and targets


@pytest.mark.parametrize("crops_each", [0, 2])
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_a_clip_is_its_frames_cut_alike(clips, crops_each, seed):
    """Against whole frames and decoded masks, each cut by itself with the choices of the clip."""
    items = TrainingClips(clips, crops(crops=crops_each), frames=ClipFrames(3, 2), reduced_decode=False)
    (batch,) = items[[group(1, seed=seed)]]
    clip, generator = clips[1], random.Random(seed)
    frames = ClipFrames(3, 2).draw(clip, generator)
    crop = draw_training_crop(**SIDES, crops=crops_each, generator=generator)
    each = [training_views(clip.read_frame(frame), decoded(clip, frame), crop) for frame in frames]
    masks = torch.cat([target.masks for _, target in each], dim=1)
    kept = masks.flatten(1).any(1)
    (target,) = batch.targets
    canvas = batch.views.pixels.shape[-2:]
    assert batch.views.frames == tuple(np.repeat(range(3), 1 + crops_each).tolist())
    assert batch.views.pixels.equal(torch.cat([views.pixels for views, _ in each], dim=1))
    assert batch.views.boxes_xyxy.equal(torch.cat([views.boxes_xyxy for views, _ in each], dim=1))
    assert batch.views.sizes_hw.equal(torch.cat([views.sizes_hw for views, _ in each], dim=1))
    assert target.masks[..., : masks.shape[-2], : masks.shape[-1]].equal(masks[kept])
    assert target.masks.shape[1:] == (len(frames) * (1 + crops_each), *canvas)
    assert target.valid.equal(masks[kept].flatten(2).any(2))
    assert target.labels.tolist() == clip.labels()[kept.numpy()].tolist()


def decoded(clip: ClipSample, frame: int) -> np.ndarray:
    """The masks of a frame, bool [N,H,W]."""
    nothing = np.zeros(clip.size_hw, bool)
    return np.stack([nothing if one is None else rle.decode(one) for one in clip.frame_rles(frame)])


def test_a_track_is_one_entity_that_some_views_lack(clips):
    cuts = crops(crops=0).cuts(clips[0], random.Random(0))
    _, both = cut_clip_example(clips[0], (0, 5), cuts)
    assert both.valid.tolist() == [[True, True], [True, True], [False, True]]  # the third thing comes in late
    _, early = cut_clip_example(clips[0], (0, 0), cuts)
    assert early.valid.tolist() == [[True, True], [True, True]]


def test_tracks_lost_by_resizing_are_kept_and_counted(tmp_path):
    """The nearest pixels of a view four times smaller are in the middle of 4x4, where a speck in a corner is not."""
    masks = np.zeros((3, 3, 120, 160), dtype=bool)  # [F,N,H,W]
    masks[:, 0, 20:100, 20:100] = True
    masks[1, 1, 0, 0] = masks[2, 2, 0, 0] = True
    counts = [rle.encode(mask)["counts"] if mask.any() else "" for frame in masks for mask in frame]
    tracks = ClipTracks((120, 160), (0, 0, 0), (1, 1, 1), Texts.pack(counts), (0.0,) * 9, 3)
    Image.new("RGB", (160, 120)).save(tmp_path / "a.png")
    clip = ClipSample(1, (tmp_path / "a.png",) * 3, (120, 160), tracks, exhaustive=True, annotated=(0, 1))
    small = Augmentation(partial(draw_training_crop, short_sides=(30,), max_side=40, crops=0))
    batch = batch_of([clip], small, 0, 0)
    assert [target.valid.tolist() for target in batch.targets] == [[[True, True], [False, False]]] * 2
    assert batch.lost == 2
    whole = Augmentation(partial(draw_training_crop, short_sides=(120,), max_side=160, crops=0))
    kept = batch_of([clip], whole, 0)
    assert (kept.targets[0].valid.tolist(), kept.lost) == ([[True, True], [False, True]], 0)


def test_labels_are_those_of_the_tracks(tmp_path):
    clips = youtube_vis.read(make_ytvis_tree(tmp_path))
    cuts = crops(crops=0).cuts(clips[0], random.Random(0))
    _, target = cut_clip_example(clips[0], (2, 5), cuts)
    assert target.labels.tolist() == clips[0].labels().tolist()
    assert len(set(target.labels.tolist())) == 2


def test_an_own_target_is_asked_about_every_view(clips):
    asked = []

    def first_track(clip, cuts, frames):
        asked.append((len(cuts), list(frames)))
        return LabelledMasks([clip.cut_masks(frame, [cut])[0][:1] for cut, frame in zip(cuts, frames)], np.array([4]))

    cuts = crops(crops=1).cuts(clips[0], random.Random(0))
    _, target = cut_clip_example(clips[0], (1, 3), cuts, build_target=first_track)
    assert asked == [(4, [1, 1, 3, 3])]
    assert target.labels.tolist() == [4]


@pytest.mark.parametrize("kind", ["scale_jitter", "semantic_crop"])
def test_windows_lie_in_one_place_of_all_frames(clips, kind):
    draw = {
        "scale_jitter": partial(draw_scale_jitter, scales=(0.5, 2.0), side=64),
        "semantic_crop": partial(draw_semantic_crop, short_sides=(80, 120), side=64),
    }[kind]
    for seed in range(4):
        batch = batch_of(clips, Augmentation(draw, canvas_side=64), 0, 1, seed=seed, frames=3, range=5)
        assert batch.views.pixels.shape == (2, 3, 3, 64, 64)
        boxes, sizes = batch.views.boxes_xyxy, batch.views.sizes_hw
        assert boxes.equal(boxes[:, :1].expand_as(boxes)) and sizes.equal(sizes[:, :1].expand_as(sizes))


def test_a_window_is_as_varied_as_the_first_frame_allows(clips):
    """A semantic crop moves on while one thing fills it, as it does for the image that the first frame is."""
    draw = partial(draw_semantic_crop, short_sides=(96,), side=24)
    for seed in range(8):
        batch = batch_of(clips, Augmentation(draw, canvas_side=32), 0, seed=seed, frames=2, range=5)
        generator = random.Random(seed)
        first = ClipFrames(2, 5).draw(clips[0], generator)[0]
        image = SimpleNamespace(size_hw=clips[0].size_hw, cut_masks=partial(cut_each, decoded(clips[0], first)))
        (cut,) = draw(generator=generator).cuts(image.size_hw, label_areas(image))
        assert tuple(batch.views.boxes_xyxy[0, 0].tolist()) == cut.shown_xyxy(image_width=128)


def cut_each(masks: np.ndarray, cuts: Sequence[Cut]) -> list[np.ndarray]:
    return [cut_masks(masks, cut) for cut in cuts]


def test_colours_change_alike_in_all_frames(clips):
    still = replace(clips[0], frame_paths=clips[0].frame_paths[:1] * 6)
    augmentation = replace(crops(crops=0), color_jitter=True)
    changed = 0
    for seed in range(6):
        pixels = batch_of([still], augmentation, 0, seed=seed, frames=3, range=5).views.pixels[0]
        assert pixels.equal(pixels[:1].expand_as(pixels))
        plain = batch_of([still], crops(crops=0), 0, seed=seed, frames=3, range=5).views.pixels[0]
        changed += not plain.equal(pixels)
    assert changed > 3


# --- images among clips


def test_an_image_is_a_clip_that_stands_still():
    photos = coco.read(PHOTOS)
    batch = batch_of(photos, crops(crops=1), 0, frames=3)
    assert batch.image_ids == (photos[0].image_id,)
    assert batch.views.frames == (0, 0, 1, 1, 2, 2)
    pixels, masks = batch.views.pixels[0].unflatten(0, (3, 2)), batch.targets[0].masks.unflatten(1, (3, 2))
    assert pixels.equal(pixels[:1].expand_as(pixels))
    assert masks.equal(masks[:, :1].expand_as(masks))
    (cut, *_) = crops(crops=1).cuts(photos[0], drawn_frames(PseudoClip(photos[0], 3)))
    assert batch.views.sizes_hw[0, 0].tolist() == list(cut_image(photos[0].read_frame(), cut).shape[:2])


def drawn_frames(clip: ClipSample) -> random.Random:
    """The random numbers of the first draw of a group, after those for its frames."""
    generator = random.Random(7)
    ClipFrames(3, 20).draw(clip, generator)
    return generator


def options(tree: Path, **numbers) -> DataOptions:
    """The dense clips of UVO, and its single frames as clips."""
    sets = [SetSource(str(tree), "uvo", share, {"kind": kind}) for kind, share in (("dense", 2.0), ("frame", 1.0))]
    fixed = {"batch": BatchSize(4, 2), **SIDES, "clip": ClipFrames(2, 3), "crops": 0, "workers": 0}
    return DataOptions(tuple(sets), **{**fixed, **numbers})


def batches(data: DataOptions, sets: TrainingSets, **numbers: int) -> list[list[TrainingBatch]]:
    loader = training_loader(
        data, sets.samples, torch.nn.Identity(), steps=6, build_target=sets.build_target, seed=5, **numbers
    )
    return list(loader)


def same(first: TrainingBatch, second: TrainingBatch) -> bool:
    pairs = [(first.views.pixels, second.views.pixels)]
    pairs += [(a.masks, b.masks) for a, b in zip(first.targets, second.targets, strict=True)]
    return (first.image_ids, first.seed) == (second.image_ids, second.seed) and all(a.equal(b) for a, b in pairs)


def test_images_and_clips_are_drawn_by_their_weights_into_the_same_batches(tree):
    data = options(tree)
    sets = open_sets(data)
    assert sets.hold_clips and sets.views(data) == 2
    steps = batches(data, sets)
    assert {batch.views.frames for step in steps for batch in step} == {(0, 1)}
    still = [pixels[0].equal(pixels[1]) for step in steps for batch in step for pixels in batch.views.pixels]
    assert len(still) == 24 and 2 <= sum(still) <= 14  # a third, and clips that hardly move


@pytest.mark.parametrize("workers", [0, 2])
def test_a_step_depends_on_its_number_alone(tree, workers):
    """Not on loader processes, on how many share the step, or on where a run goes on."""
    data = options(tree)
    sets = open_sets(data)
    whole = batches(data, sets)
    shares = [batches(replace(data, workers=workers), sets, rank=rank, world_size=2, first_step=2) for rank in (0, 1)]
    for step, *parts in zip(whole[2:], *shares, strict=True):
        joined = [batch for part in parts for batch in part]
        assert len(step) == len(joined) == 2
        assert all(map(same, step, joined))
    assert not same(whole[0][0], whole[1][0])


def test_clips_without_a_track_are_left_out_and_named(tree, tmp_path, capsys):
    clips = youtube_vis.read(make_ytvis_tree(tmp_path), split="valid")
    data = DataOptions((SetSource("here"),), batch=BatchSize(1, 1), workers=0)
    with pytest.raises(InputError, match="no training image has an entity"):
        training_loader(data, [clips], torch.nn.Identity(), steps=1)
    assert capsys.readouterr().out == "here: 1 of 1 clips have no entity; left out\n"


def test_validation_clips_come_as_they_are(clips, tiny_settings):
    shares = [list(validation_loader(clips, tiny_settings, workers=2, rank=rank, world_size=2)) for rank in (0, 1)]
    assert [[clip.clip_id for clip in share] for share in shares] == [[1, 3], [2]]
    with pytest.raises(InputError, match="there are 3 clips to validate on for 4 processes"):
        validation_loader(clips, tiny_settings, workers=0, world_size=4)
