"""Augmentations: what of a training sample is shown, how large, mirrored or not, and in which colours."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol

import numpy as np

from cropformer import Cut, ScaleJitter, SemanticCrop, TrainingCrop, draw_color_jitter

Geometry = TrainingCrop | ScaleJitter | SemanticCrop


class Shown(Protocol):
    """What the choices look at: a sample, or a frame of a clip."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""

    def cut_masks(self, cuts: Sequence[Cut]) -> list[np.ndarray]:
        """Its masks as views show them: bool [N,h,w] each."""


@dataclass(frozen=True)
class Augmentation:
    """The random choices for training samples, each made from a generator alone.

    Attributes:
        draw: chooses what is shown, given the keyword argument ``generator``.
        canvas_side: side of the square that every view is padded to; None takes the smallest canvas that fits.
        color_jitter: whether views are recoloured.
    """

    draw: Callable[..., Geometry]
    canvas_side: int | None = None
    color_jitter: bool = False

    def __post_init__(self) -> None:
        """Say here what makes no sense, not in a loader process."""
        self.draw(generator=random.Random(0))

    def cuts(self, sample: Shown, generator: random.Random) -> list[Cut]:
        """The views of a sample, the full one first if there are several."""
        geometry = self.draw(generator=generator)
        if isinstance(geometry, SemanticCrop):
            return geometry.cuts(sample.size_hw, label_areas(sample))
        return geometry.cuts(sample.size_hw)

    def recolor(self, views: Sequence[np.ndarray], generator: random.Random) -> Sequence[np.ndarray]:
        """The views, uint8 RGB [h,w,3] each, in the colours they are shown in; all change alike."""
        return list(map(draw_color_jitter(generator).apply, views)) if self.color_jitter else views


def label_areas(sample: Shown) -> Callable[[Cut], np.ndarray]:
    """A function that tells the pixels of each mask in a window: of each label, where every label has one mask.

    The masks are resized once for all windows of one size of the image.
    """

    @cache
    def whole(cut: Cut) -> np.ndarray:
        return sample.cut_masks([cut])[0]

    def areas(cut: Cut) -> np.ndarray:
        x0, y0, x1, y1 = cut.window_xyxy
        return whole(replace(cut, window_xyxy=None, flip=False))[:, y0:y1, x0:x1].sum(axis=(1, 2))

    return areas
