"""Training batches: what is drawn, that it is reproducible, and that cached features equal computed ones."""

import json
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cropformer import Cut, InputError, TrainingCrop, draw_scale_jitter, draw_training_crop, rle, training_views
from cropformer.backbones.resnet import ResNet
from cropformer.views import crop_places, view_boxes
from entitytransfer.adapter import LabelledMasks, Sample
from entitytransfer.datasets import coco
from entitytransfer.readers.coco_json import read_coco
from entitytransfer.training.augmentations import Augmentation
from entitytransfer.training.data import TrainingSamples, ValidationSamples, cut_example
from entitytransfer.training.feature_cache import CachedSamples, FeatureStore
from entitytransfer.training.sampling import Group

TINY = Path(__file__).parents[1] / "data" / "coco_tiny"


@pytest.fixture(scope="module")
def samples():
    return coco.read(TINY)


def crops(**options) -> Augmentation:
    numbers = {"short_sides": (64, 96), "max_side": 160, **options}
    return Augmentation(lambda generator: draw_training_crop(**numbers, generator=generator))


def largest_and_rest(sample: Sample, cuts: Sequence[Cut]) -> LabelledMasks:
    """A target of two classes: the largest entity, and all the others as one."""
    masks = sample.cut_masks(cuts)
    first = int(masks[0].sum(axis=(1, 2)).argmax())
    joined = [np.stack([view[first], np.delete(view, first, axis=0).any(axis=0)]) for view in masks]
    return LabelledMasks(joined, np.array([1, 0]))


def group(*indices: int, seed: int = 7) -> Group:
    return Group(tuple((index, seed + i) for i, index in enumerate(indices)), seed)


def cut_of(sample, crop):
    return cut_example(sample, crop.cuts(sample.size_hw), reduced_decode=False)


def test_a_group_is_one_batch_on_one_canvas(samples):
    first, second = TrainingSamples(samples, crops())[[group(0, 1, seed=3), group(2)]]
    height, width = first.views.pixels.shape[-2:]
    assert first.views.pixels.shape[:3] == (2, 2, 3)
    assert height % 32 == width % 32 == 0
    assert (first.image_ids, first.seed) == ((samples[0].image_id, samples[1].image_id), 3)
    assert (second.image_ids, second.seed) == ((samples[2].image_id,), 7)
    for target in first.targets:
        assert target.masks.shape[1:] == (2, height, width)
        assert target.valid.shape == target.masks.shape[:2]
        assert target.masks.flatten(2).any(2).equal(target.valid)


def test_a_square_canvas_holds_every_view(samples):
    jitter = partial(draw_scale_jitter, side=96)
    augmentation = Augmentation(lambda generator: jitter(generator=generator), canvas_side=96)
    for seed in range(6):
        (batch,) = TrainingSamples(samples, augmentation)[[group(0, 2, seed=seed)]]
        assert batch.views.pixels.shape == (2, 1, 3, 96, 96)
        for image, target in enumerate(batch.targets):
            height, width = batch.views.sizes_hw[image, 0].tolist()
            assert not target.masks[..., height:, :].any()
            assert not target.masks[..., width:].any()


def test_the_same_draw_gives_the_same_views(samples):
    items = TrainingSamples(samples, crops())
    first, second, *others = (items[[group(0, seed=seed)]][0].views.pixels for seed in (7, 7, 20, 21, 22, 23))
    assert first.equal(second)
    assert not any(first.shape == other.shape and first.equal(other) for other in others)


def test_a_dataset_decides_what_is_learnt(samples):
    (batch,) = TrainingSamples(samples, crops(), build_target=largest_and_rest)[[group(0, 1)]]
    for target in batch.targets:
        assert target.labels.tolist() == [1, 0]
        assert target.valid[:, 0].all()  # in the full view
    assert batch.lost == 0


def test_views_are_recoloured_and_masks_are_not(samples):
    plain, coloured = crops(), Augmentation(crops().draw, color_jitter=True)
    for seed in (1, 2, 3):
        (first,), (second,) = (TrainingSamples(samples, item)[[group(1, seed=seed)]] for item in (plain, coloured))
        assert not first.views.pixels.equal(second.views.pixels)
        assert first.targets[0].masks.equal(second.targets[0].masks)


@pytest.mark.parametrize("kind", ["panoptic", "instances"])
@pytest.mark.parametrize("flip", [False, True])
def test_cutting_what_is_encoded_equals_decoding_and_cutting(kind, flip):
    """The published order on whole pixels and masks, against pixels and masks cut as they are read."""
    source = {"panoptic": "panoptic.json"} if kind == "panoptic" else {"annotations": "instances.json"}
    crop = TrainingCrop(96, 150, flip, tuple(crop_places(4)[1:3]))
    for sample in coco.read(TINY, **source):
        expected, target = training_views(sample.read_frame(), sample.entity_masks(), crop)
        views, ours = cut_of(sample, crop)
        assert views.pixels.equal(expected.pixels)
        for name in ("boxes_xyxy", "sizes_hw", "image_sizes_hw"):
            assert getattr(views, name).equal(getattr(expected, name))
        for name in ("masks", "valid", "labels"):
            assert getattr(ours, name).equal(getattr(target, name))


def write_set(folder: Path, masks: list[np.ndarray]) -> Path:
    """One grey photo with these masks."""
    height, width = masks[0].shape
    Image.new("RGB", (width, height), "grey").save(folder / "a.png")
    images = [{"id": 1, "file_name": "a.png", "height": height, "width": width}]
    entries = [{"id": i, "image_id": 1, "segmentation": rle.encode(mask)} for i, mask in enumerate(masks)]
    (folder / "entities.json").write_text(json.dumps({"images": images, "annotations": entries}))
    return folder / "entities.json"


def test_entities_lost_by_resizing_are_counted_and_empty_ones_dropped(tmp_path):
    whole, speck, nothing = np.ones((120, 160), bool), np.zeros((120, 160), bool), np.zeros((120, 160), bool)
    speck[0, 0] = True  # the nearest pixels of a view four times smaller are in the middle of 4x4
    (sample,) = read_coco(write_set(tmp_path, [whole, speck, nothing]), tmp_path)
    small = crops(short_sides=(30,), max_side=40, crops=0)
    (batch,) = TrainingSamples([sample], small)[[group(0, 0)]]
    assert batch.lost == 2
    assert [target.valid.tolist() for target in batch.targets] == [[[True], [False]]] * 2
    (kept,) = TrainingSamples([sample], crops(short_sides=(120,), max_side=160, crops=0))[[group(0)]]
    assert kept.lost == 0
    assert kept.targets[0].valid.all()


def test_what_lies_outside_a_window_is_not_lost(tmp_path):
    left, right = np.zeros((64, 64), bool), np.zeros((64, 64), bool)
    left[:8, :8] = right[-8:, -8:] = True
    (sample,) = read_coco(write_set(tmp_path, [left, right]), tmp_path)
    enlarged = Augmentation(partial(_jitter, scales=(2.0, 2.0)), canvas_side=64)
    (batch,) = TrainingSamples([sample], enlarged)[[group(0, seed=2)]]
    assert batch.targets[0].valid.tolist() == [[True]]  # of the entity that is in the window
    assert batch.lost == 0


def _jitter(generator: random.Random, *, scales: tuple[float, float]):
    return draw_scale_jitter(scales=scales, side=64, generator=generator)


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
    views, _ = cut_of(samples[0], everything)
    boxes = view_boxes(samples[0].size_hw, crops=8, ratio=0.6)
    assert views.boxes_xyxy[0].tolist() == [list(box) for box in boxes]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_type": "corner"}, "'corner' .* the crop types are random, fixed4 and fixed8"),
        ({"crops": 5}, "cannot have 5 fixed4 crops"),
        ({"crops": -1, "crop_type": "random"}, "cannot have -1 random crops"),
        ({"ratio": 1.2}, r"cannot have 1\.2 times the side"),
    ],
)
def test_impossible_crops_are_refused_before_the_first_sample(options, message):
    with pytest.raises(InputError, match=message):
        crops(**options)


@pytest.mark.parametrize(("crop_type", "ratio", "crops"), [("fixed4", 0.7, 1), ("fixed8", 0.6, 2), ("fixed4", 0.7, 0)])
def test_cached_features_and_targets_equal_computed_ones(samples, tmp_path, crop_type, ratio, crops):
    torch.manual_seed(0)
    backbone = ResNet((1, 1, 1, 1), stem=8, width=4, channels=8).eval()
    landscape = [i for i, s in enumerate(samples) if s.size_hw[0] <= s.size_hw[1]]
    numbers = {"crops": crops, "crop_type": crop_type, "crop_ratio": ratio}
    cached = CachedSamples(samples, backbone, folder=tmp_path, short_side=64, max_side=96, **numbers)
    draws = ((landscape[0], 11), (landscape[-1], 5))
    views_each = 1 + crops
    for (attempt,) in (cached[[Group(draws, 4)]], cached[[Group(draws, 4)]]):  # computed, then read back
        assert (attempt.image_ids, attempt.seed) == (tuple(samples[index].image_id for index, _ in draws), 4)
        for i, (index, seed) in enumerate(draws):
            views, target = cut_of(samples[index], cached_draw(seed, **numbers))
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
        CachedSamples(samples, backbone, crop_ratio=ratio, **numbers)[[group(index)]][0].features[4]
        for ratio in (0.7, 0.5)
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
