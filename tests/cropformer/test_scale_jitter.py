"""Windows at a random scale: their sizes, that image and masks go together, and which categories they show."""

import random
from dataclasses import replace

import numpy as np
import pytest

from cropformer import InputError, ScaleJitter, SemanticCrop, cut_image, cut_masks
from cropformer.scale_jitter import draw_scale_jitter, draw_semantic_crop

SIZES = [(300, 200), (97, 400), (64, 64), (1, 700)]


def window(**choices) -> ScaleJitter:
    return ScaleJitter(**{"scale": 1.0, "side": 128, "flip": False, "place": 0.0, **choices})


def test_an_image_is_scaled_to_fit_the_square_and_the_canvas_shows_what_fits():
    (small,) = window(scale=0.5).cuts((300, 200))
    assert small.scaled_hw == small.size_hw == (64, 43)  # 300 x 64/300, 200 x 64/300 = 42.67
    (large,) = window(scale=2.0, place=0.5).cuts((300, 200))
    assert large.scaled_hw == (256, 171)  # 170.67
    assert large.size_hw == (128, 128)
    assert large.window_xyxy == (22, 64, 150, 192)  # half of 43 (to even) and half of 128


@pytest.mark.parametrize("size_hw", SIZES)
def test_a_view_never_exceeds_the_canvas_and_lies_in_the_image(size_hw):
    for seed in range(200):
        (cut,) = draw_scale_jitter(side=64, generator=random.Random(seed)).cuts(size_hw)
        left, top, *_ = cut.window_xyxy
        assert cut.size_hw == tuple(min(64, side) for side in cut.scaled_hw)
        assert left + cut.size_hw[1] <= cut.scaled_hw[1]
        assert top + cut.size_hw[0] <= cut.scaled_hw[0]
        assert cut.box_xyxy == (0, 0, size_hw[1], size_hw[0])


def test_scales_and_places_are_uniform():
    drawn = [draw_scale_jitter(side=64, generator=random.Random(seed)) for seed in range(2000)]
    scales, places = np.array([(draw.scale, draw.place) for draw in drawn]).T
    assert 0.1 <= scales.min() < 0.12
    assert 1.98 < scales.max() <= 2.0
    assert scales.mean() == pytest.approx(1.05, abs=0.04)
    assert places.mean() == pytest.approx(0.5, abs=0.03)
    assert np.mean([draw.flip for draw in drawn]) == pytest.approx(0.5, abs=0.04)


def marked() -> tuple[np.ndarray, np.ndarray]:
    """A black image with one white square, and its mask: [200,300,3] and [1,200,300]."""
    image = np.zeros((200, 300, 3), dtype=np.uint8)
    image[60:90, 200:230] = 255
    return image, image[None, ..., 0] > 0


def centre(shown: np.ndarray) -> np.ndarray:
    """Row and column of the middle of what a map [h,w] weighs."""
    rows, columns = np.mgrid[: shown.shape[0], : shown.shape[1]] + 0.5
    return np.array([(rows * shown).sum(), (columns * shown).sum()]) / shown.sum()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("scale", "place"), [(0.4, 0.0), (0.9, 0.3), (1.9, 0.6)])
def test_image_and_masks_go_together(flip, scale, place):
    """The middle of the square, at row 75 and column 215 of 200 x 300, is found where the arithmetic says."""
    image, masks = marked()
    (cut,) = window(scale=scale, place=place, flip=flip, side=160).cuts((200, 300))
    pixels, mask = cut_image(image, cut)[..., 0] / 255, cut_masks(masks, cut)[0]
    left, top, *_ = cut.window_xyxy
    row, column = 75 * cut.scaled_hw[0] / 200 - top, 215 * cut.scaled_hw[1] / 300 - left
    expected = (row, cut.size_hw[1] - column if flip else column)
    assert pixels.shape == mask.shape == cut.size_hw
    assert centre(pixels) == pytest.approx(expected, abs=0.3)
    assert centre(mask) == pytest.approx(expected, abs=0.6)


def semantic(*places: tuple[float, float], **choices) -> SemanticCrop:
    return SemanticCrop(**{"short_side": 100, "max_side": 400, "side": 64, "flip": False, "places": places, **choices})


def test_a_semantic_window_lies_anywhere_in_the_scaled_image():
    (first,) = semantic((0.0, 0.0)).cuts((50, 100), lambda cut: (1, 1))
    (last,) = semantic((0.999, 0.999)).cuts((50, 100), lambda cut: (1, 1))
    assert first.scaled_hw == (100, 200)
    assert first.window_xyxy == (0, 0, 64, 64)
    assert last.window_xyxy == (136, 36, 200, 100)


def test_a_small_image_is_kept_whole():
    (cut,) = semantic((0.5, 0.5), short_side=30).cuts((50, 100), lambda cut: (1, 1))
    assert cut.size_hw == (30, 60)


@pytest.mark.parametrize(
    ("areas", "chosen"),
    [
        ([(10, 10)], 0),
        ([(76, 24), (74, 26)], 1),
        ([(75, 25), (50, 50)], 1),  # three quarters is too much already
        ([(100,), (100, 0), (60, 40)], 2),  # one category alone
        ([(), (0, 0), (1, 1)], 2),  # nothing but ignored pixels
        ([(100,), (100,), (100,), (50, 50)], 3),
        ([(100,)] * 4, 3),  # none will do: the last
    ],
)
def test_the_first_window_with_several_categories_is_taken(areas, chosen):
    """Four places down the diagonal; what each shows is told in turn."""
    draw, told = semantic(*((place, place) for place in (0.0, 0.25, 0.5, 0.75))), iter(areas)
    (cut,) = draw.cuts((50, 100), lambda cut: next(told))
    assert [cut] == replace(draw, places=draw.places[chosen : chosen + 1]).cuts((50, 100), lambda cut: ())


def test_ten_places_are_drawn():
    draw = draw_semantic_crop(short_sides=(64, 96), max_side=200, side=64, generator=random.Random(0))
    assert len(set(draw.places)) == 10
    assert draw.short_side in (64, 96)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: draw_scale_jitter(scales=(2.0, 1.0), generator=random.Random(0)), r"cannot be scaled by \(2.0, 1.0\)"),
        (lambda: draw_scale_jitter(scales=(0.0, 1.0), generator=random.Random(0)), r"give scales such as \(0.1, 2.0\)"),
        (lambda: draw_scale_jitter(side=0, generator=random.Random(0)), "times 0 pixels"),
        (
            lambda: draw_semantic_crop(short_sides=(64,), max_side=96, side=0, generator=random.Random(0)),
            "a window cannot have a side of 0 pixels",
        ),
    ],
)
def test_impossible_windows_are_one_sentence(act, message):
    with pytest.raises(InputError, match=message):
        act()
