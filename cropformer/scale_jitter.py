"""Views of class-aware training: one window of an image at a random scale, for instance and semantic segmentation.

Source: the recipes of Mask2Former that Table 3 of the paper trains with. As for crops, the choices are drawn apart
from being applied.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .cuts import Cut
from .errors import InputError
from .resampling import resized_size_hw
from .views import Place

LabelAreas = Callable[[Cut], Iterable[int]]
"""Tells the pixels of each label that a view shows; ignored pixels belong to none."""

CATEGORY_SHARE = 0.75  # of a semantic crop's labelled pixels that a single category may have
CATEGORY_TRIES = 10


@dataclass(frozen=True)
class ScaleJitter:
    """Large-scale jitter: the image at a random scale, and what of it fits on a square canvas.

    Attributes:
        scale: the image is made to fit into a square of ``scale * side``, larger or smaller than it was.
        side: side of the canvas. A smaller image lies in its upper left corner; the rest is padded as everywhere, with
            the mean colour, and belongs to no entity. (detectron2 pads with grey 128, under half a deviation off.)
        flip: mirror the view.
        place: where the canvas lies on a larger image: 0 up and left, 1 down and right, on both axes at once.
    """

    scale: float
    side: int
    flip: bool
    place: float

    def cuts(self, size_hw: tuple[int, int]) -> list[Cut]:
        """The view, one, of an image of this size."""
        ratio = min(self.scale * self.side / length for length in size_hw)
        scaled_hw = _pair(max(1, round(ratio * length)) for length in size_hw)
        first_yx = _pair(round(self.place * max(0, length - self.side)) for length in scaled_hw)
        return [_window_cut(size_hw, scaled_hw, first_yx, side=self.side, flip=self.flip)]


@dataclass(frozen=True)
class SemanticCrop:
    """A square window of the image at a random size, not filled by a single category if that can be avoided.

    Attributes:
        short_side: length to which the short side of the image is resized.
        max_side: bound on its long side.
        side: side of the window; a smaller image is kept whole.
        flip: mirror the view.
        places: where the window may lie, (row, column) in [0, 1), the first choice first.
    """

    short_side: int
    max_side: int
    side: int
    flip: bool
    places: tuple[Place, ...]

    def cuts(self, size_hw: tuple[int, int], label_areas: LabelAreas) -> list[Cut]:
        """The view, one, of an image of this size: the first that shows several categories, or else the last.

        Args:
            size_hw: height and width of the image.
            label_areas: tells the pixels of each label in a view.
        """
        cut = self._cut(size_hw, self.places[0])
        for place in self.places[1:]:
            if _is_varied(label_areas(cut)):
                break
            cut = self._cut(size_hw, place)
        return [cut]

    def _cut(self, size_hw: tuple[int, int], place: Place) -> Cut:
        scaled_hw = resized_size_hw(size_hw, short_side=self.short_side, max_side=self.max_side)
        first_yx = _pair(int(at * (max(0, length - self.side) + 1)) for at, length in zip(place, scaled_hw))
        return _window_cut(size_hw, scaled_hw, first_yx, side=self.side, flip=self.flip)


def draw_scale_jitter(
    *, scales: tuple[float, float] = (0.1, 2.0), side: int = 1024, generator: random.Random
) -> ScaleJitter:
    """Draw the choices: flip with probability one half, scale and place uniform.

    Raises:
        InputError: if there are no such scales, or no such canvas.
    """
    if not 0 < scales[0] <= scales[1] or side < 1:
        raise InputError(f"images cannot be scaled by {scales} times {side} pixels; give scales such as (0.1, 2.0)")
    flip = generator.random() >= 0.5
    return ScaleJitter(generator.uniform(*scales), side, flip, generator.random())


def draw_semantic_crop(
    *, short_sides: tuple[int, ...], max_side: int = 2048, side: int = 512, generator: random.Random
) -> SemanticCrop:
    """Draw the choices: short side, ten places to try, flip with probability one half.

    Raises:
        InputError: if there is no such window.
    """
    if side < 1:
        raise InputError(f"a window cannot have a side of {side} pixels; give one such as 512")
    short_side = generator.choice(short_sides)
    places = tuple((generator.random(), generator.random()) for _ in range(CATEGORY_TRIES))
    return SemanticCrop(short_side, max_side, side, generator.random() >= 0.5, places)


def _is_varied(areas: Iterable[int]) -> bool:
    """Whether there are several categories, none of them with most of the pixels."""
    shown = [area for area in areas if area]
    return len(shown) > 1 and max(shown) < CATEGORY_SHARE * sum(shown)


def _window_cut(
    size_hw: tuple[int, int], scaled_hw: tuple[int, int], first_yx: tuple[int, int], *, side: int, flip: bool
) -> Cut:
    (height, width), (y, x) = size_hw, first_yx
    return Cut((0, 0, width, height), scaled_hw, (x, y, x + side, y + side), flip)


def _pair(values: Iterable[int]) -> tuple[int, int]:
    first, second = values
    return first, second
