"""Training batches: what is drawn, that it is reproducible, and that cached features equal computed ones."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from cropformer import InputError, TrainingCrop, draw_training_crop
from cropformer.backbones.resnet import ResNet
from cropformer.views import crop_places, view_boxes
from entitytransfer.datasets import coco
from entitytransfer.feature_cache import CachedSamples, FeatureStore
from entitytransfer.sampling import OrientationBatches
from entitytransfer.training_data import (
    TrainingSamples,
    ValidationSamples,
    collate,
    cut_training_views,
)

TINY = Path(__file__).parents[1] / "data" / "coco_tiny"


@pytest.fixture(scope="module")
def samples():
    return coco.read(TINY)


def batches(samples, **options):
    defaults = {"set_sizes": [len(samples)], "set_weights": [1.0], "batch_size": 2, "steps": 12, "seed": 3}
    return OrientationBatches(samples, **{**defaults, **options})


def test_batches_have_one_orientation_and_depend_on_the_step_alone(samples):
    drawn = list(batches(samples))
    assert len(drawn) == 12
    for batch in drawn:
        tall = {samples[index].size_hw[0] > samples[index].size_hw[1] for index, _ in batch}
        assert len(tall) == 1
    assert list(batches(samples, first_step=5)) == drawn[5:]
    assert list(batches(samples, seed=4)) != drawn


def test_sets_are_drawn_by_their_weight(samples):
    doubled = [*samples, *samples]
    loader = batches(doubled, set_sizes=[len(samples)] * 2, set_weights=[0.0, 1.0], steps=30)
    assert all(index >= len(samples) for batch in loader for index, _ in batch)


def test_collate_joins_views_and_targets_on_one_canvas(samples):
    items = TrainingSamples(samples, short_sides=(64, 96), max_side=160, crops=1)
    batch = collate([items[draw] for draw in next(iter(batches(samples)))])
    height, width = batch.views.pixels.shape[-2:]
    assert batch.views.pixels.shape[:3] == (2, 2, 3)
    assert height % 32 == width % 32 == 0
    for target in batch.targets:
        assert target.masks.shape[1:] == (2, height, width)
        assert target.valid.shape == target.masks.shape[:2]
        assert target.masks.flatten(2).any(2).equal(target.valid)


def test_the_same_draw_gives_the_same_views(samples):
    items = TrainingSamples(samples, short_sides=(64, 96), max_side=160)
    (first, _), (second, _) = items[0, 7], items[0, 7]
    assert first.pixels.equal(second.pixels)
    assert not any(
        first.pixels.shape == other.pixels.shape and first.pixels.equal(other.pixels)
        for other, _ in (items[0, seed] for seed in range(20, 24))
    )


def draw(seed: int = 0, **options) -> TrainingCrop:
    return draw_training_crop(**{"short_sides": (64, 96), "max_side": 160, "generator": random.Random(seed), **options})


def test_choices_are_drawn_in_the_published_order():
    generator = random.Random(5)
    short_side, flip, corner = generator.choice((64, 96)), generator.random() >= 0.5, generator.sample(range(4), 1)[0]
    assert draw(5) == TrainingCrop(short_side, 160, flip, (crop_places(4)[corner],), 0.7)


@pytest.mark.parametrize(("crop_type", "count"), [("fixed4", 4), ("fixed8", 8)])
def test_fixed_crops_are_drawn_without_repeating(crop_type, count):
    assert sorted(draw(crops=count, crop_type=crop_type).places) == sorted(crop_places(count))
    assert {draw(seed, crop_type=crop_type).places[0] for seed in range(200)} == set(crop_places(count))


def test_random_crops_lie_anywhere():
    places = [place for seed in range(200) for place in draw(seed, crops=2, crop_type="random").places]
    assert len(set(places)) == 400
    rows, columns = np.array(places).T
    for fractions in (rows, columns):
        assert 0 <= fractions.min() < 0.02
        assert 0.98 < fractions.max() < 1
        assert abs(fractions.mean() - 0.5) < 0.05


def test_training_crops_lie_where_test_crops_do(samples):
    everything = TrainingCrop(64, 96, flip=False, places=tuple(crop_places(8)), ratio=0.6)
    views, _ = cut_training_views(samples[0], everything)
    boxes = view_boxes(samples[0].size_hw, crops=8, ratio=0.6)
    assert views.boxes_xyxy[0].tolist() == [list(box) for box in boxes]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_type": "corner"}, "'corner' .* the crop types are random, fixed4 and fixed8"),
        ({"crops": 5}, "cannot have 5 fixed4 crops"),
        ({"crops": -1, "crop_type": "random"}, "cannot have -1 random crops"),
        ({"crop_ratio": 1.2}, r"cannot have 1\.2 times the side"),
    ],
)
def test_impossible_crops_are_refused_before_the_first_sample(samples, options, message):
    with pytest.raises(InputError, match=message):
        TrainingSamples(samples, short_sides=(64,), max_side=96, **options)


@pytest.mark.parametrize(("crop_type", "ratio", "crops"), [("fixed4", 0.7, 1), ("fixed8", 0.6, 2), ("fixed4", 0.7, 0)])
def test_cached_features_and_targets_equal_computed_ones(samples, tmp_path, crop_type, ratio, crops):
    torch.manual_seed(0)
    backbone = ResNet((1, 1, 1, 1), stem=8, width=4, channels=8).eval()
    landscape = [i for i, s in enumerate(samples) if s.size_hw[0] <= s.size_hw[1]]
    numbers = {"crops": crops, "crop_type": crop_type, "crop_ratio": ratio}
    cached = CachedSamples(samples, backbone, folder=tmp_path, short_side=64, max_side=96, **numbers)
    draws = [(landscape[0], 11), (landscape[-1], 5)]
    views_each = 1 + crops
    for attempt in (cached[draws], cached[draws]):  # computed, then read back
        for i, (index, seed) in enumerate(draws):
            views, target = cut_training_views(samples[index], cached_draw(seed, **numbers))
            right, below = 96 - views.pixels.shape[-1], 64 - views.pixels.shape[-2]
            with torch.inference_mode():
                expected = backbone(torch.nn.functional.pad(views.pixels[0], (0, right, 0, below)))
            for stride, feature in attempt.features.items():
                mine = feature[views_each * i : views_each * (i + 1)]
                assert torch.allclose(mine, expected[stride], atol=2e-3, rtol=2e-3)
            assert attempt.targets[i].masks.equal(target.padded((64, 96)).masks)
            assert attempt.targets[i].valid.equal(target.valid)


def cached_draw(seed: int, *, crops: int, crop_type: str, crop_ratio: float) -> TrainingCrop:
    """The choices that the cache makes for a seed: flip, then crops."""
    generator = random.Random(seed)
    flip = generator.random() >= 0.5
    places = generator.sample(crop_places(4 if crop_type == "fixed4" else 8), crops)
    return TrainingCrop(64, 96, flip, tuple(places), crop_ratio)


def test_crops_of_another_kind_have_their_own_cache(samples, tmp_path):
    """One folder, several ratios and types: none reads the features of another."""
    backbone = ResNet((1, 1, 1, 1), stem=8, width=4, channels=8).eval()
    numbers = {"folder": tmp_path, "short_side": 64, "max_side": 96, "crops": 4}
    index = next(i for i, s in enumerate(samples) if s.size_hw[0] <= s.size_hw[1])
    wide, narrow = (
        CachedSamples(samples, backbone, crop_ratio=ratio, **numbers)[[(index, 0)]].features[4] for ratio in (0.7, 0.5)
    )
    assert wide[0].equal(narrow[0])  # the full view
    assert not any(wide[t].equal(narrow[t]) for t in range(1, 5))


def test_crops_that_lie_anywhere_have_no_cache(samples, tmp_path):
    with pytest.raises(InputError, match="'random' crops have no fixed places"):
        CachedSamples(samples, torch.nn.Identity(), folder=tmp_path, short_side=64, max_side=96, crop_type="random")


def test_feature_store_survives_reopening(tmp_path):
    shapes = {4: (2, 3, 3), 8: (4, 2, 2)}
    features = {4: torch.arange(18.0).view(2, 3, 3), 8: torch.arange(16.0).view(4, 2, 2)}
    FeatureStore(tmp_path / "f.bin", rows=3, shapes=shapes).put(1, features)
    again = FeatureStore(tmp_path / "f.bin", rows=3, shapes=shapes)
    assert again.filled.tolist() == [0, 1, 0]
    for stride, read in again.get([1]).items():
        assert read[0].equal(features[stride])


def test_validation_items_are_batches_of_one(samples):
    views, chosen = ValidationSamples(samples, short_side=64, max_side=96, crops=4)[1]
    assert views.pixels.shape[:2] == (1, 5)
    assert chosen == [samples[1]]
    assert np.array_equal(views.image_sizes_hw[0].numpy(), samples[1].size_hw)
