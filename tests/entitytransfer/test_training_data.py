"""Training batches: what is drawn, that it is reproducible, and that cached features equal computed ones."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from cropformer import TrainingCrop
from cropformer.backbones.resnet import ResNet
from entitytransfer.datasets import coco
from entitytransfer.feature_cache import CachedSamples, FeatureStore
from entitytransfer.training_data import (
    OrientationBatches,
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


def test_cached_features_and_targets_equal_computed_ones(samples, tmp_path):
    torch.manual_seed(0)
    backbone = ResNet((1, 1, 1, 1), stem=8, width=4, channels=8).eval()
    landscape = [i for i, s in enumerate(samples) if s.size_hw[0] <= s.size_hw[1]]
    cached = CachedSamples(samples, backbone, folder=tmp_path, short_side=64, max_side=96, crops=1)
    draws = [(landscape[0], 11), (landscape[-1], 5)]
    for attempt in (cached[draws], cached[draws]):  # computed, then read back
        for i, (index, seed) in enumerate(draws):
            views, target = cut_training_views(samples[index], crop_of(seed))
            right, below = 96 - views.pixels.shape[-1], 64 - views.pixels.shape[-2]
            with torch.inference_mode():
                expected = backbone(torch.nn.functional.pad(views.pixels[0], (0, right, 0, below)))
            for stride, feature in attempt.features.items():
                assert torch.allclose(feature[2 * i : 2 * i + 2], expected[stride], atol=2e-3, rtol=2e-3)
            assert attempt.targets[i].masks.equal(target.padded((64, 96)).masks)
            assert attempt.targets[i].valid.equal(target.valid)


def crop_of(seed: int) -> TrainingCrop:
    """The choices that the cache makes for a seed: flip, then crop."""
    generator = random.Random(seed)
    flip = generator.random() >= 0.5
    return TrainingCrop(64, 96, flip, tuple(generator.sample(range(4), 1)))


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
