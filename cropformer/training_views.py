"""Training views: one random short side, one random flip, and the full view with a few crops.

Source: paper section 4, "Crop Dataloader", and Table 9(a, b). The choices are drawn apart from being applied, so
that a draw can be replayed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from .errors import InputError
from .views import Place, Target, Views, check_crop_ratio, crop_box, crop_places, crop_target, cut_view, stack_views

CropType = Literal["random", "fixed4", "fixed8"]
"""Where training crops lie (Table 9b): anywhere, in the four corners, or around the centre of a 3x3 grid."""


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
        places: where the crops lie that join the full view.
        ratio: side of a crop over the side of the image.

    Raises:
        InputError: if ``ratio`` is not in (0, 1].
    """

    short_side: int
    max_side: int
    flip: bool
    places: tuple[Place, ...]
    ratio: float = 0.7

    def __post_init__(self) -> None:
        """Refuse crops that no image has."""
        check_crop_ratio(self.ratio)


def fixed_places(crop_type: CropType) -> list[Place]:
    """All places of a fixed crop type, row by row.

    Raises:
        InputError: if the type is not a fixed one.
    """
    counts = {"fixed4": 4, "fixed8": 8}
    if crop_type not in counts:
        raise InputError(f"{crop_type!r} crops have no fixed places; the crop types are random, fixed4 and fixed8")
    return crop_places(counts[crop_type])


def draw_training_crop(
    *,
    short_sides: tuple[int, ...],
    max_side: int,
    crops: int = 1,
    crop_type: CropType = "fixed4",
    ratio: float = 0.7,
    generator: random.Random,
) -> TrainingCrop:
    """Draw the choices: short side, flip with probability one half, then the places of ``crops`` crops.

    Raises:
        InputError: if there is no such crop type, fewer places than crops, or ``ratio`` is not in (0, 1].
    """
    short_side = generator.choice(short_sides)
    flip = generator.random() >= 0.5
    return TrainingCrop(short_side, max_side, flip, _draw_places(crops, crop_type, generator), ratio)


def _draw_places(crops: int, crop_type: CropType, generator: random.Random) -> tuple[Place, ...]:
    places = None if crop_type == "random" else fixed_places(crop_type)
    if crops < 0 or (places is not None and crops > len(places)):
        raise InputError(f"an image cannot have {crops} {crop_type} crops; choose another number or another type")
    if places is None:
        return tuple((generator.random(), generator.random()) for _ in range(crops))
    return tuple(generator.sample(places, crops))


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
    size_hw = image.shape[:2]
    boxes = [(0, 0, size_hw[1], size_hw[0]), *(crop_box(size_hw, place, ratio=crop.ratio) for place in crop.places)]
    pixels = [cut_view(image, box, short_side=crop.short_side, max_side=crop.max_side) for box in boxes]
    target = crop_target(masks, boxes, [view.shape[:2] for view in pixels], labels=labels, exhaustive=exhaustive)
    return stack_views(pixels, boxes, image_size_hw=size_hw, frames=(0,) * len(boxes)), target
