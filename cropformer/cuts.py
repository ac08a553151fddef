"""Cuts: which part of an image a view shows and at what size, and the pixels and masks that follow from it.

Nothing here needs the whole image: pixels may come from a JPEG decoded at reduced scale, masks from their runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import rle
from .resampling import nearest_pixels, resize_image

REDUCED_SCALES = (8, 4, 2)  # what a JPEG decoder can leave out, largest first

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Cut:
    """One view: a part of an image is resized, a window of the result is kept, and that is mirrored.

    Where ``flip`` is set the pixels are those of the published order, which mirrors the image first: the nearest
    pixel of a mirrored image is not always the mirrored nearest pixel.

    Attributes:
        box_xyxy: part of the image (not mirrored), in pixels.
        scaled_hw: size to which that part is resized.
        window_xyxy: part of the resized part (not mirrored) that is kept; None keeps all, and so does what lies
            beyond it.
        flip: mirror the result left-right.
    """

    box_xyxy: Box
    scaled_hw: tuple[int, int]
    window_xyxy: Box | None = None
    flip: bool = False

    @property
    def size_hw(self) -> tuple[int, int]:
        """Size of the view."""
        left, top, right, bottom = self._kept_xyxy
        return bottom - top, right - left

    @property
    def box_hw(self) -> tuple[int, int]:
        """Size of the part that is resized."""
        x0, y0, x1, y1 = self.box_xyxy
        return y1 - y0, x1 - x0

    def picks(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows [h] and columns [w] of the image that a nearest-neighbour view shows, int64, ascending.

        They are the pixels that Pillow picks; where ``flip`` is set the view shows the columns in reverse.
        """
        (x0, y0, _, _), (left, top, right, bottom) = self.box_xyxy, self._kept_xyxy
        rows, columns = (nearest_pixels(old, new) for old, new in zip(self.box_hw, self.scaled_hw))
        if self.flip:
            columns = self.box_hw[1] - 1 - columns[::-1]
        return y0 + rows[top:bottom], x0 + columns[left:right]

    def shown_xyxy(self, *, image_width: int) -> Box:
        """Part of the image that the view shows, rounded outwards; of the mirrored image where ``flip`` is set."""
        left, top, right, bottom = self._source_xyxy
        x0, y0, x1, y1 = (round(edge, 6) for edge in (left, top, right, bottom))
        box = (math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1))
        return (image_width - box[2], box[1], image_width - box[0], box[3]) if self.flip else box

    @property
    def _kept_xyxy(self) -> Box:
        """The window inside the resized part."""
        height, width = self.scaled_hw
        left, top, right, bottom = self.window_xyxy or (0, 0, width, height)
        return max(left, 0), max(top, 0), min(right, width), min(bottom, height)

    @property
    def _source_xyxy(self) -> tuple[float, float, float, float]:
        """The window, in pixels of the image."""
        (x0, y0, _, _), (left, top, right, bottom) = self.box_xyxy, self._kept_xyxy
        step_y, step_x = (old / new for old, new in zip(self.box_hw, self.scaled_hw))
        return x0 + left * step_x, y0 + top * step_y, x0 + right * step_x, y0 + bottom * step_y


def reduced_scale(cuts: Sequence[Cut]) -> int:
    """The largest of 8, 4, 2 and 1 by which an image may be reduced so that no view has to enlarge it."""
    room = min(old / new for cut in cuts for old, new in zip(cut.box_hw, cut.scaled_hw))
    return next((scale for scale in REDUCED_SCALES if room >= scale), 1)


def cut_image(image: np.ndarray, cut: Cut, *, scale: int = 1) -> np.ndarray:
    """One view of an image, antialiased bilinear: uint8 [H,W,3] to uint8 [h,w,3].

    Args:
        image: the image, or one reduced to 1 / ``scale`` of its size, its sides rounded up.
        cut: what the view shows, in pixels of the image at its full size.
        scale: by how much ``image`` is reduced.
    """
    x0, y0, x1, y1 = cut.box_xyxy
    part = image[y0 // scale : -(-y1 // scale), x0 // scale : -(-x1 // scale)]
    if cut.size_hw == cut.scaled_hw and scale == 1:
        view = resize_image(part, cut.size_hw)
    else:
        offset = (x0 // scale, y0 // scale) * 2
        limits = (part.shape[1], part.shape[0]) * 2
        box = tuple(min(edge / scale - first, end) for edge, first, end in zip(cut._source_xyxy, offset, limits))
        view = resize_image(part, cut.size_hw, box_xyxy=box)
    return view[:, ::-1] if cut.flip else view


def cut_masks(masks: np.ndarray, cut: Cut) -> np.ndarray:
    """What ``cut_image`` does to an image, done to masks: bool [N,H,W] to bool [N,h,w], nearest; other types too."""
    rows, columns = cut.picks()
    return masks[:, rows][:, :, columns[::-1] if cut.flip else columns]


def cut_rles(rles: Sequence[rle.RLE], cut: Cut) -> np.ndarray:
    """What ``cut_masks`` does to masks, done to N masks of one image as RLE, never decoded in full: bool [N,h,w].

    Raises:
        InputError: the runs of an RLE are not a mask of its stated size.
    """
    rows, columns = cut.picks()
    return rle.cut(rles, rows, columns[::-1] if cut.flip else columns)
