"""The frames of a clip as views, each with its crops where they are wanted.

Shapes: B images, T views, F frames, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from .errors import InputError
from .views import Views, cut_view, stack_views, view_boxes


def make_clip_views(
    frames: Sequence[np.ndarray],
    *,
    crops: int | tuple[int, int] = 0,
    short_side: int = 800,
    max_side: int = 1333,
    crop_ratio: float = 0.7,
) -> Views:
    """The frames of a clip as views, uint8 RGB [H,W,3] each; frame by frame, the full view before its crops.

    Args:
        frames: F of them, of one size.
        crops: see ``make_views``, as the rest.
        short_side: likewise.
        max_side: likewise.
        crop_ratio: likewise.

    Returns:
        Views with B = 1.

    Raises:
        InputError: there is no frame, the frames differ in size, or there are no such crops.
    """
    sizes_hw = sorted({frame.shape[:2] for frame in frames})
    if len(sizes_hw) != 1:
        raise InputError(f"the frames of a clip must have one height and width, not {sizes_hw}; resize them first")
    boxes = view_boxes(sizes_hw[0], crops=crops, ratio=crop_ratio)
    sides = {"short_side": short_side, "max_side": max_side}
    pixels = [cut_view(frame, box, **sides) for frame in frames for box in boxes]
    numbers = tuple(i for i in range(len(frames)) for _ in boxes)
    return stack_views(pixels, boxes * len(frames), image_size_hw=sizes_hw[0], frames=numbers)


def join_frames(earlier: Views, later: Views) -> Views:
    """Frames of a clip and those after them as one set of views; all have one size, and so one canvas."""
    names = ("pixels", "boxes_xyxy", "sizes_hw")
    joined = (torch.cat([getattr(earlier, name), getattr(later, name)], dim=1) for name in names)  # [B,T,...]
    frames = earlier.frames + tuple(earlier.frames[-1] + 1 + number for number in later.frames)
    return Views(*joined, earlier.image_sizes_hw, frames)


def last_frames(views: Views, count: int) -> Views:
    """The views of the last ``count`` frames of a clip, numbered from 0, in memory of their own."""
    first = views.frames[-1] + 1 - count
    start = views.frames.index(first)
    names = ("pixels", "boxes_xyxy", "sizes_hw")
    kept = (getattr(views, name)[:, start:].clone() for name in names)
    return Views(*kept, views.image_sizes_hw, tuple(number - first for number in views.frames[start:]))
