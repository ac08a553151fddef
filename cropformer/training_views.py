"""Training views: one random short side, one random flip, and the full view with some of its corner crops.

Source: paper section 4, "Crop Dataloader". The choices are drawn apart from being applied, so that a draw can be
replayed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from .views import Target, Views, crop_target, cut_view, stack_views, view_boxes


@dataclass(frozen=True)
class TrainingBatch:
    """Views and targets of B images; with a frozen backbone its cached ``features`` may stand in for pixels.

    Attributes:
        views: B images of T views.
        targets: B targets on the canvas of the views.
        features: {stride: [B*T,C_stride,h,w]} of the views, or None.
    """

    views: Views
    targets: list[Target]
    features: dict[int, Tensor] | None = None


@dataclass(frozen=True)
class TrainingCrop:
    """The random choices for one training image, shared by all its views.

    Attributes:
        short_side: length of the short side of every view.
        max_side: bound on the long side.
        flip: mirror the image before it is cropped.
        crop_indices: which of the four corner crops join the full view.
    """

    short_side: int
    max_side: int
    flip: bool
    crop_indices: tuple[int, ...]


def draw_training_crop(
    *, short_sides: tuple[int, ...], max_side: int, crops: int = 1, generator: random.Random
) -> TrainingCrop:
    """Draw the choices: short side, flip with probability one half, then ``crops`` of the four corners."""
    short_side = generator.choice(short_sides)
    flip = generator.random() >= 0.5
    return TrainingCrop(short_side, max_side, flip, tuple(generator.sample(range(4), crops)))


def training_views(
    image: np.ndarray,
    masks: np.ndarray,
    crop: TrainingCrop,
    *,
    labels: np.ndarray | None = None,
    exhaustive: bool = True,
) -> tuple[Views, Target]:
    """Views and target of one training image: flip, crop, resize, in this order.

    Args:
        image: uint8 RGB [H,W,3].
        masks: bool [N,H,W].
        crop: the random choices.
        labels: int64 [N]; zeros if None.
        exhaustive: see ``Target``.
    """
    if crop.flip:
        image, masks = image[:, ::-1], masks[:, :, ::-1]
    corners = view_boxes(image.shape[:2], crops=4)
    boxes = [corners[0], *(corners[1 + i] for i in crop.crop_indices if len(corners) > 1)]
    pixels = [cut_view(image, box, short_side=crop.short_side, max_side=crop.max_side) for box in boxes]
    target = crop_target(masks, boxes, [view.shape[:2] for view in pixels], labels=labels, exhaustive=exhaustive)
    return stack_views(pixels, boxes, image_size_hw=image.shape[:2], frames=(0,) * len(boxes)), target
