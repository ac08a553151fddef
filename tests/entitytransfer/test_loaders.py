"""Loaders: what reaches a training step and a validation, from sets on disk, for any share of the work."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cropformer import InputError, TestSettings, TrainingBatch
from cropformer.backbones.resnet import ResNet
from entitytransfer import set_source
from entitytransfer.adapter import SampleSet
from entitytransfer.classes import ENTITY
from entitytransfer.datasets import coco
from entitytransfer.set_source import SetSource, open_set
from entitytransfer.training.loaders import DataOptions, training_loader, validation_loader
from entitytransfer.training.sampling import BatchSize

TINY = Path(__file__).parents[1] / "data" / "coco_tiny"
SETTINGS = TestSettings(short_side=64, max_side=96, crops=0)


def options(*sets: SetSource, **chosen) -> DataOptions:
    defaults = {"batch": BatchSize(4, 2), "short_sides": (64,), "max_side": 96, "workers": 0}
    return DataOptions(sets or (SetSource(str(TINY)),), **{**defaults, **chosen})


def load(data: DataOptions, *, steps: int = 3, **numbers) -> list[list[TrainingBatch]]:
    return list(training_loader(data, opened(data), torch.nn.Identity(), steps=steps, seed=1, **numbers))


def opened(data: DataOptions) -> list[SampleSet]:
    return [open_set(source) for source in data.sets]


def assert_same(first: TrainingBatch, second: TrainingBatch) -> None:
    assert first.image_ids == second.image_ids
    assert first.seed == second.seed
    assert first.views.pixels.equal(second.views.pixels)
    assert all(a.masks.equal(b.masks) for a, b in zip(first.targets, second.targets))


@pytest.mark.parametrize("workers", [0, 1])
def test_processes_share_the_groups_of_a_step(workers):
    alone = load(options())
    shares = [load(options(workers=workers), rank=rank, world_size=2) for rank in (0, 1)]
    for step, groups in enumerate(alone):
        assert [len(group.targets) for group in groups] == [2, 2]
        for rank in (0, 1):
            assert_same(shares[rank][step][0], groups[rank])


def test_a_run_that_resumes_goes_on():
    (resumed,) = load(options(), first_step=2)
    for first, second in zip(resumed, load(options())[2], strict=True):
        assert_same(first, second)


def test_without_weights_an_epoch_shows_every_image():
    pairs = load(options(batch=BatchSize(1, 1)), steps=4)
    assert sorted(group.image_ids[0] for (group,) in pairs) == sorted(s.image_id for s in coco.read(TINY))


def test_with_weights_sets_are_drawn_by_them():
    weighted = [SetSource(str(TINY), weight=0.0), SetSource(str(TINY), weight=1.0, options={"exhaustive": False})]
    steps = load(options(*weighted))
    assert not any(target.exhaustive for step in steps for group in step for target in group.targets)


@pytest.mark.parametrize(("name", "canvas"), [("scale_jitter", 96), ("semantic_crop", 64)])
def test_class_aware_views_fill_a_square_canvas(name, canvas):
    data = options(augmentation=name, canvas=canvas, crops=0, short_sides=(64, 96), color_jitter=True)
    for step in load(data):
        for group in step:
            assert group.views.pixels.shape == (2, 1, 3, canvas, canvas)
            for target, (height, width) in zip(group.targets, group.views.sizes_hw[:, 0].tolist()):
                assert target.masks.shape[1:] == (1, canvas, canvas)
                assert not target.masks[..., height:, :].any()
                assert not target.masks[..., width:].any()


def test_colors_change_and_shapes_do_not():
    plain, colored = (load(options(color_jitter=chosen), steps=2) for chosen in (False, True))
    groups = [pair for steps in zip(plain, colored) for pair in zip(*steps)]
    assert all(a.targets[0].masks.equal(b.targets[0].masks) for a, b in groups)
    assert not all(a.views.pixels.equal(b.views.pixels) for a, b in groups)


def test_pixels_and_masks_are_pinned_for_a_gpu(monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: (pinned.append(self.shape), self)[1])
    batch = load(options(), steps=1)[0][0]
    assert_same(batch.pin_memory(), batch)
    assert pinned == [batch.views.pixels.shape, *(target.masks.shape for target in batch.targets)]


class Indexed(Sequence):
    """A set whose index knows that its second image has no entity."""

    def __init__(self) -> None:
        self.samples = coco.read(TINY)
        self.entity_counts = np.array([3, 0, *[1] * (len(self.samples) - 2)])
        self.sizes_hw = np.array([sample.size_hw for sample in self.samples])

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int):
        return self.samples[index]


def test_images_without_an_entity_are_left_out_and_counted(monkeypatch, capsys):
    def shown(batch: BatchSize, *, steps: int, **share) -> Counter:
        sets = [SampleSet(Indexed(), ENTITY)]
        loader = training_loader(options(batch=batch), sets, torch.nn.Identity(), steps=steps, seed=1, **share)
        return Counter(name for step in loader for group in step for name in group.image_ids)

    once = shown(BatchSize(1, 1), steps=6)
    samples = coco.read(TINY)
    assert once == {sample.image_id: 2 for i, sample in enumerate(samples) if i != 1}
    assert capsys.readouterr().out == f"{TINY}: 1 of {len(samples)} images have no entity; left out\n"
    shown(BatchSize(2, 1), steps=1, rank=1, world_size=2)
    assert capsys.readouterr().out == ""  # one process says it


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_processes_share_validation_without_duplicates(world_size):
    share = partial(validation_loader, open_set(SetSource(str(TINY))), SETTINGS, workers=0, world_size=world_size)
    shares = [share(rank=rank) for rank in range(world_size)]
    ids = [sample.image_id for share in shares for _, (sample,) in share]
    assert sorted(ids) == sorted(sample.image_id for sample in coco.read(TINY))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def frozen() -> torch.nn.Module:
    model = torch.nn.Module()
    model.backbone = ResNet((1, 1, 1, 1), stem=8, width=4, channels=8).requires_grad_(False)
    model.fine_level = None
    return model


def test_cached_features_stand_in_for_pixels(tmp_path):
    data = options(feature_cache=str(tmp_path))
    for step in training_loader(data, opened(data), frozen(), steps=2, seed=1):
        assert [group.features[4].shape[0] for group in step] == [4, 4]  # two images of two views


@pytest.mark.parametrize(
    "chosen",
    [
        {"crop_type": "random"},
        {"short_sides": (64, 96)},
        {"color_jitter": True},
        {"augmentation": "scale_jitter", "crops": 0},
    ],
)
def test_a_cache_needs_views_that_stay_the_same(tmp_path, chosen):
    data = options(feature_cache=str(tmp_path), **chosen)
    with pytest.raises(InputError, match="or leave the cache out"):
        training_loader(data, opened(data), frozen(), steps=1)


def test_a_cache_has_no_pixels_for_a_fine_level(tmp_path):
    data, fine = options(feature_cache=str(tmp_path)), frozen()
    fine.fine_level = torch.nn.Identity()
    with pytest.raises(InputError, match="keeps features without their pixels, which the fine level reads; leave the"):
        training_loader(data, opened(data), fine, steps=1)


def test_a_cache_needs_a_frozen_backbone(tmp_path):
    data, learning = options(feature_cache=str(tmp_path)), frozen().requires_grad_(True)
    with pytest.raises(InputError, match="optimisation.backbone_lr_factor=0"):
        training_loader(data, opened(data), learning, steps=1)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: options(augmentation="mosaic"), "no augmentation 'mosaic'; choose from crops, scale_jitter"),
        (lambda: options(augmentation="scale_jitter"), "scale_jitter shows one view of an image; set data.crops=0"),
        (lambda: load(options(crop_ratio=2.0)), "2.0 times the side"),
        (lambda: load(options(augmentation="scale_jitter", crops=0, scales=(2.0, 0.1))), "cannot be scaled"),
        (lambda: load(options(SetSource(str(TINY), dataset="nosuch"))), "no dataset 'nosuch'"),
        (
            lambda: load(options(SetSource(str(TINY), options={"part": "val"}))),
            "dataset coco has no option part; its options are split, task, annotations, panoptic, images, exhaustive",
        ),
        (
            lambda: load(options(SetSource(str(TINY), weight=1.0), SetSource(str(TINY)))),
            "some sets of data.sets have a weight and others have none",
        ),
        (lambda: load(options(), world_size=3), "on 3 processes; make it a multiple of 6"),
        (lambda: load(options(SetSource("/nowhere"))), "/nowhere"),
    ],
)
def test_what_does_not_fit_is_one_sentence(act, message):
    with pytest.raises(InputError, match=message):
        act()


def test_an_empty_set_is_one_sentence(monkeypatch):
    monkeypatch.setattr(set_source, "open_adapter", lambda name, options: SimpleNamespace(read=lambda root: []))
    with pytest.raises(InputError, match="holds no annotated image or clip; check its annotation file"):
        load(options())
