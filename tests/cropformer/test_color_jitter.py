"""Colour jitter: what each change does to known colours, and how often it is made."""

import colorsys
import random

import numpy as np
import pytest

from cropformer import ColorJitter, draw_color_jitter

COLORS = np.array(
    [[[200, 100, 40], [10, 20, 30], [255, 0, 0]], [[128, 128, 128], [0, 0, 0], [250, 255, 251]]], np.uint8
)


def test_nothing_chosen_changes_nothing():
    assert np.array_equal(ColorJitter().apply(COLORS), COLORS)


def test_brightness_is_added_and_contrast_multiplied_within_the_range():
    assert ColorJitter(brightness=-20.5).apply(COLORS)[0].tolist() == [[179, 79, 19], [0, 0, 9], [234, 0, 0]]
    assert ColorJitter(contrast=1.5).apply(COLORS)[0].tolist() == [[255, 150, 60], [15, 30, 45], [255, 0, 0]]


def test_saturation_and_hue_are_those_of_hsv():
    turned = ColorJitter(hue_degrees=-30, saturation=0.5).apply(COLORS)
    for before, after in zip(COLORS.reshape(-1, 3) / 255, turned.reshape(-1, 3) / 255):  # [2,3,3] -> [6,3]
        hue, saturation, value = colorsys.rgb_to_hsv(*before)
        expected = colorsys.hsv_to_rgb((hue - 30 / 360) % 1, saturation * 0.5, value)
        assert after == pytest.approx(expected, abs=0.02)


def test_contrast_comes_first_or_last():
    """Bright red: cut off at 255 before it is made grey, or made grey first."""
    choices = {"contrast": 1.5, "saturation": 0.5}
    first, last = (
        ColorJitter(**choices, contrast_first=order).apply(np.full((1, 1, 3), (200, 0, 0), np.uint8))[0, 0].tolist()
        for order in (True, False)
    )
    assert first == pytest.approx([255, 128, 128], abs=2)
    assert last == pytest.approx([255, 150, 150], abs=2)


def test_every_change_is_made_half_the_time_within_its_range():
    drawn = [draw_color_jitter(random.Random(seed)) for seed in range(2000)]
    ranges = {"brightness": (0, -32, 32), "contrast": (1, 0.5, 1.5), "saturation": (1, 0.5, 1.5)}
    for name, (same, low, high) in {**ranges, "hue_degrees": (0, -36, 36)}.items():
        values = np.array([getattr(jitter, name) for jitter in drawn])
        assert np.mean(values != same) == pytest.approx(0.5, abs=0.04)
        assert low <= values.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < values.max() <= high
    assert np.mean([jitter.contrast_first for jitter in drawn]) == pytest.approx(0.5, abs=0.04)


def test_the_image_itself_is_left_alone():
    image = COLORS.copy()
    ColorJitter(brightness=9, saturation=0.7, hue_degrees=20).apply(image)
    assert np.array_equal(image, COLORS)
