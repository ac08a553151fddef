"""Training views: one random short side, one random flip, and the full view with a few crops.

Source: paper section 4, "Crop Dataloader", and Table 9(a, b). The choices are drawn apart from being applied, so
that a draw can be replayed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from torch import Tensor

from .cuts import Cut, cut_image, cut_masks
from .errors import InputError
from .resampling import resized_size_hw
from .views import Place, Target, Views, check_crop_ratio, crop_box, crop_places, stack_masks, stack_views

CropType = Literal["random", "fixed4", "fixed8"]
"""Where training crops lie (Table 9b): anywhere, in the four corners, or around the centre of a 3x3 grid."""


@dataclass(frozen=True)
class TrainingBatch:
    """Views and targets of B images; with a frozen backbone its cached ``features`` may stand in for pixels.

    Attributes:
        views: B images of T views.
        targets: B targets on the canvas of the views.
        features: {stride: [B*T,C_stride,h,w]} of the views, or None.
        image_ids: the dataset's own ids of the B images, to name those that make trouble.
        seed: of all random numbers that the step draws for these images.
        lost: entities that are in the images and, being small, in none of their resized views.
    """

    views: Views
    targets: list[Target]
    features: dict[int, Tensor] | None = None
    image_ids: tuple[int | str, ...] = ()
    seed: int = 0
    lost: int = 0

    def pin_memory(self) -> TrainingBatch:
        """The same batch with pixels and masks where a GPU reads them directly; a ``DataLoader`` asks for it."""
        views = replace(self.views, pixels=self.views.pixels.pin_memory())
        targets = [replace(target, masks=target.masks.pin_memory()) for target in self.targets]
        return replace(self, views=views, targets=targets)


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

    def cuts(self, size_hw: tuple[int, int]) -> list[Cut]:
        """The full view and the crops of an image of this size; places are those of the image as it is shown."""
        height, width = size_hw
        boxes = [(0, 0, width, height), *(crop_box(size_hw, place, ratio=self.ratio) for place in self.places)]
        return [self._cut(box, width) for box in boxes]

    def _cut(self, box_xyxy: tuple[int, int, int, int], image_width: int) -> Cut:
        """The view of a box of the image as it is shown."""
        x0, y0, x1, y1 = box_xyxy
        size_hw = resized_size_hw((y1 - y0, x1 - x0), short_side=self.short_side, max_side=self.max_side)
        box = (image_width - x1, y0, image_width - x0, y1) if self.flip else box_xyxy
        return Cut(box, size_hw, flip=self.flip)


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
    cuts = crop.cuts(image.shape[:2])
    pixels, views = [cut_image(image, cut) for cut in cuts], [cut_masks(masks, cut) for cut in cuts]
    return join_cuts(cuts, pixels, views, image_size_hw=image.shape[:2], labels=labels, exhaustive=exhaustive)


def join_cuts(
    cuts: Sequence[Cut],
    pixels: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    *,
    image_size_hw: tuple[int, int],
    labels: np.ndarray | None = None,
    exhaustive: bool = True,
    frames: tuple[int, ...] | None = None,
) -> tuple[Views, Target]:
    """Views, with B = 1, and target of one training image, or clip, from what was cut out of it.

    Args:
        cuts: T views.
        pixels: uint8 RGB [h,w,3] of each.
        masks: bool [N,h,w] of each.
        image_size_hw: size of the image.
        labels: int64 [N]; zeros if None.
        exhaustive: see ``Target``.
        frames: the number of the frame that each view shows, from 0; None for an image.
    """
    numbers = (0,) * len(cuts) if frames is None else frames
    boxes = [cut.shown_xyxy(image_width=image_size_hw[1]) for cut in cuts]
    views = stack_views(pixels, boxes, image_size_hw=image_size_hw, frames=numbers)
    return views, stack_masks(masks, labels=labels, exhaustive=exhaustive)
