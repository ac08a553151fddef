"""Augmentations of samples: what windows show of which category, and one change of colours for all views."""

import random
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cropformer import Cut, InputError, draw_scale_jitter, draw_semantic_crop, draw_training_crop
from entitytransfer.datasets import coco
from entitytransfer.training.augmentations import Augmentation, label_areas

TINY = Path(__file__).parents[1] / "data" / "coco_tiny"
CROPS = partial(draw_training_crop, short_sides=(64,), max_side=96)


@pytest.fixture(scope="module")
def sample():
    return coco.read(TINY)[0]


@pytest.mark.parametrize("window", [(0, 0, 64, 64), (20, 10, 84, 74), (40, 5, 400, 400)])
def test_label_areas_are_those_of_the_masks_in_the_window(sample, window):
    height, width = sample.size_hw
    cut = Cut((0, 0, width, height), (100, 150), window)
    assert label_areas(sample)(cut).tolist() == sample.cut_masks([cut])[0].sum(axis=(1, 2)).tolist()


def test_masks_are_cut_once_for_all_windows(sample, monkeypatch):
    cuts = []
    cut_masks = type(sample).cut_masks
    monkeypatch.setattr(type(sample), "cut_masks", lambda self, asked: (cuts.append(asked), cut_masks(self, asked))[1])
    areas = label_areas(sample)
    box = (0, 0, sample.size_hw[1], sample.size_hw[0])
    for x in range(5):
        areas(Cut(box, (100, 150), (x, 0, x + 64, 64), flip=bool(x % 2)))
    assert len(cuts) == 1


def test_windows_with_several_categories_are_preferred(sample):
    """Large entities often fill the first window; the one that is taken shows several more often."""
    draw = partial(draw_semantic_crop, short_sides=(150, 300), max_side=600, side=32)
    chosen, first = [], []
    for seed in range(60):
        (cut,) = Augmentation(draw).cuts(sample, random.Random(seed))
        (alone,) = draw(generator=random.Random(seed)).cuts(sample.size_hw, lambda cut: (1, 1))
        for cuts, shares in ((cut, chosen), (alone, first)):
            areas = np.array(label_areas(sample)(cuts))
            shares.append(areas.max() / max(1, areas.sum()))
    assert np.mean(np.array(chosen) < 0.75) > np.mean(np.array(first) < 0.75)


def test_every_kind_of_draw_gives_views(sample):
    for draw, views in ((CROPS, 2), (partial(draw_scale_jitter, side=64), 1)):
        assert len(Augmentation(draw).cuts(sample, random.Random(0))) == views


def test_all_views_change_their_colors_alike():
    views = [np.full((4, 6, 3), (200, 90, 30), np.uint8), np.full((2, 3, 3), (200, 90, 30), np.uint8)]
    augmentation = Augmentation(CROPS, color_jitter=True)
    colors = [
        [np.unique(view.reshape(-1, 3), axis=0) for view in augmentation.recolor(views, random.Random(seed))]
        for seed in range(20)
    ]  # [h,w,3] -> [hw,3]
    assert all(np.array_equal(first, second) for first, second in colors)
    assert len({first.tobytes() for first, _ in colors}) > 10


def test_without_color_jitter_nothing_is_drawn():
    views, generator = [np.zeros((2, 2, 3), np.uint8)], random.Random(0)
    before = generator.getstate()
    assert Augmentation(CROPS).recolor(views, generator) is views
    assert generator.getstate() == before


def test_impossible_draws_are_refused_at_once():
    with pytest.raises(InputError, match="cannot have 5 fixed4 crops"):
        Augmentation(partial(CROPS, crops=5))
