"""Views: the full image and its corner crops, or the frames of a clip, as one set that a query attends to.

Shapes: B images, T views (index 0 = full view), N entities, H and W pixels.
Source: paper section 4 "Crop Dataloader", equation 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .cuts import Cut, cut_image, cut_masks
from .errors import InputError
from .images import ImageLike, as_rgb
from .resampling import pad_to_multiple, resized_size_hw

PIXEL_MEAN = (123.675, 116.28, 103.53)  # RGB on 0..255, the ImageNet statistics of every published backbone
PIXEL_STD = (58.395, 57.12, 57.375)
SIZE_MULTIPLE = 32  # the coarsest stride, so that every level divides evenly

Place = tuple[float, float]
"""Where a crop lies, (row, column): 0 is as far up or left as it can be, 1 as far down or right."""


@dataclass(frozen=True)
class Views:
    """Views of B images, ready for the network.

    Attributes:
        pixels: float [B,T,3,H,W], normalised, zero-padded right and below.
        boxes_xyxy: int [B,T,4], where each view lies, in pixels of its full image or frame.
        sizes_hw: int [B,T,2], valid size inside the padding.
        image_sizes_hw: int [B,2], size of the full image or frame.
        frames: for each of the T views, which frame of the clip it shows; all 0 for a photo.
    """

    pixels: Tensor
    boxes_xyxy: Tensor
    sizes_hw: Tensor
    image_sizes_hw: Tensor
    frames: tuple[int, ...]

    def to(self, device: torch.device | str) -> Views:
        """The same views with ``pixels`` on ``device``; the small geometry stays on the CPU."""
        return replace(self, pixels=self.pixels.to(device))

    @staticmethod
    def canvas_hw(
        size_hw: tuple[int, int],
        *,
        crops: int | tuple[int, int] = 4,
        short_side: int = 800,
        max_side: int = 1333,
        crop_ratio: float = 0.7,
    ) -> tuple[int, int]:
        """Height and width of ``pixels`` that ``make_views`` would give for an image of this size; errors as there."""
        boxes = view_boxes(size_hw, crops=crops, ratio=crop_ratio)
        return _canvas_hw([_view_size_hw(box, short_side=short_side, max_side=max_side) for box in boxes])


@dataclass(frozen=True)
class Target:
    """The entities of one image over its T views.

    Attributes:
        labels: int64 [N], class of each entity; 0 when class-agnostic.
        masks: bool [N,T,H,W], padded like ``Views.pixels``; False where the entity is not in the view.
        valid: bool [N,T], whether the entity has a pixel in the view.
        exhaustive: whether every region is annotated. If not, a query that lies on unannotated ground is
            neither right nor wrong.
    """

    labels: Tensor
    masks: Tensor
    valid: Tensor
    exhaustive: bool = True

    def to(self, device: torch.device | str) -> Target:
        """The same target on ``device``."""
        moved = (tensor.to(device) for tensor in (self.labels, self.masks, self.valid))
        return Target(*moved, exhaustive=self.exhaustive)

    def padded(self, size_hw: tuple[int, int]) -> Target:
        """The same target on a larger canvas, that of ``Views.pixels``."""
        return replace(self, masks=pad_canvas(self.masks, size_hw))

    def per_view(self) -> list[Target]:
        """One target for each view, holding only the entities that the view shows."""
        views = []
        for t in range(self.masks.shape[1]):
            shown = self.valid[:, t]
            masks = self.masks[shown, t : t + 1]
            views.append(Target(self.labels[shown], masks, self.valid[shown, t : t + 1], self.exhaustive))
        return views


def check_crop_ratio(ratio: float) -> None:
    """Raise InputError if crops of this ratio would be nothing, or larger than their image."""
    if not 0 < ratio <= 1:
        raise InputError(f"a crop cannot have {ratio} times the side of its image; give a ratio such as 0.7")


def crop_places(crops: int | tuple[int, int]) -> list[Place]:
    """The places of a layout, row by row; the layouts are those of ``view_boxes``.

    Raises:
        InputError: if there is no such layout.
    """
    rows, columns = _grid(crops)
    places = [(y, x) for y in _spread(rows) for x in _spread(columns)]
    return places[:4] + places[5:] if crops == 8 else places


def _grid(crops: int | tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of a layout."""
    given = crops if isinstance(crops, tuple) else (1, crops)
    rows, columns = {0: (0, 0), 4: (2, 2), 8: (3, 3)}.get(crops, given)
    if min(rows, columns) < 0:
        raise InputError(f"there are no {crops} crops; give 0, 4, 8, or (rows, columns)")
    return rows, columns


def _spread(count: int) -> list[float]:
    return [i / max(1, count - 1) for i in range(count)]


def crop_box(
    size_hw: tuple[int, int], place: Place, *, ratio: float | tuple[float, float] = 0.7
) -> tuple[int, int, int, int]:
    """Box x0, y0, x1, y1 of the crop at ``place`` with ``ratio`` (or one for each axis) times the sides of the image.

    The float product is kept as written: ``int(0.7 * 90)`` is 62, and published crops have that size.
    """
    ratios = ratio if isinstance(ratio, tuple) else (ratio, ratio)
    crop_h, crop_w = (max(1, int(part * side)) for part, side in zip(ratios, size_hw))
    y0, x0 = (int(at * (side - crop)) for at, side, crop in zip(place, size_hw, (crop_h, crop_w)))
    return x0, y0, x0 + crop_w, y0 + crop_h


def view_boxes(
    size_hw: tuple[int, int], *, crops: int | tuple[int, int] = 4, ratio: float = 0.7
) -> list[tuple[int, int, int, int]]:
    """The full view and its crops.

    Args:
        size_hw: size of the image. With a side below 4 pixels the full view stands alone.
        crops: 0, 4 corners, 8 (3x3 grid without its centre, Table 9b), or (rows, columns) of evenly spread crops;
            another number is that many in one row. A single row has the full height, a single column the full width.
        ratio: side of a crop over the side of the image (Table 9a).

    Raises:
        InputError: if there is no such layout, or ``ratio`` is not in (0, 1].
    """
    check_crop_ratio(ratio)
    places, full = crop_places(crops), (0, 0, size_hw[1], size_hw[0])
    if min(size_hw) < 4:
        return [full]
    ratios = tuple(1.0 if count == 1 else ratio for count in _grid(crops))
    return [full, *(crop_box(size_hw, place, ratio=ratios) for place in places)]


def make_views(
    image: ImageLike,
    *,
    crops: int | tuple[int, int] = 4,
    short_side: int = 800,
    max_side: int = 1333,
    crop_ratio: float = 0.7,
) -> Views:
    """The full view and the crops of one photo; every view is resized by the same rule from its own size.

    Args:
        image: path, PIL image, uint8 RGB array [H,W,3] or uint8 tensor [3,H,W].
        crops: layout of the crops, see ``view_boxes``.
        short_side: length to which the short side of every view is resized.
        max_side: bound on the long side.
        crop_ratio: side of a crop over the side of the image.

    Returns:
        Views with B = 1.

    Raises:
        InputError: if the image cannot be read, or there are no such crops.
    """
    image = as_rgb(image)
    boxes = view_boxes(image.shape[:2], crops=crops, ratio=crop_ratio)
    pixels = [cut_view(image, box, short_side=short_side, max_side=max_side) for box in boxes]
    return stack_views(pixels, boxes, image_size_hw=image.shape[:2], frames=(0,) * len(boxes))


def cut_view(image: np.ndarray, box_xyxy: tuple[int, int, int, int], *, short_side: int, max_side: int) -> np.ndarray:
    """One view of a photo, uint8 RGB [H,W,3]: crop, then resize by the rule applied to the crop's own size."""
    return cut_image(image, Cut(box_xyxy, _view_size_hw(box_xyxy, short_side=short_side, max_side=max_side)))


def _view_size_hw(box_xyxy: tuple[int, int, int, int], *, short_side: int, max_side: int) -> tuple[int, int]:
    x0, y0, x1, y1 = box_xyxy
    return resized_size_hw((y1 - y0, x1 - x0), short_side=short_side, max_side=max_side)


def _canvas_hw(sizes_hw: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The smallest canvas that the network takes and every view fits on."""
    height, width = (pad_to_multiple(max(size[axis] for size in sizes_hw), multiple=SIZE_MULTIPLE) for axis in (0, 1))
    return height, width


def crop_target(
    masks: np.ndarray,
    boxes_xyxy: Sequence[tuple[int, int, int, int]],
    sizes_hw: Sequence[tuple[int, int]],
    *,
    labels: np.ndarray | None = None,
    exhaustive: bool = True,
) -> Target:
    """What ``cut_view`` does to an image, done to its masks: bool [N,H,W] to a ``Target`` over the T boxes."""
    views = [cut_masks(masks, Cut(box, size_hw)) for box, size_hw in zip(boxes_xyxy, sizes_hw)]
    return stack_masks(views, labels=labels, exhaustive=exhaustive)


def stack_masks(masks: Sequence[np.ndarray], *, labels: np.ndarray | None = None, exhaustive: bool = True) -> Target:
    """Put the masks of T views, bool [N,h,w] each, on the smallest common canvas; labels int64 [N], zeros if None."""
    height, width = (max(view.shape[axis] for view in masks) for axis in (1, 2))
    canvas = np.zeros((len(masks[0]), len(masks), height, width), dtype=bool)
    for t, view in enumerate(masks):
        canvas[:, t, : view.shape[1], : view.shape[2]] = view
    labels = np.zeros(len(masks[0]), dtype=np.int64) if labels is None else labels
    valid = np.stack([with_pixels(view) for view in masks], axis=1)
    return Target(torch.as_tensor(labels), torch.from_numpy(canvas), torch.from_numpy(valid), exhaustive)


def with_pixels(masks: np.ndarray) -> np.ndarray:
    """Which of the masks, bool [N,h,w], have a pixel: bool [N]; each is read up to its first one."""
    return np.array([mask.any() for mask in masks], dtype=bool)


def stack_views(
    pixels: Sequence[np.ndarray],
    boxes_xyxy: Sequence[tuple[int, int, int, int]],
    *,
    image_size_hw: tuple[int, int],
    frames: tuple[int, ...],
) -> Views:
    """Normalise and pad T views, uint8 RGB [H,W,3] each, to one canvas; Views with B = 1."""
    sizes_hw = [view.shape[:2] for view in pixels]
    canvas = torch.zeros(1, len(pixels), 3, *_canvas_hw(sizes_hw))
    mean, std = torch.tensor(PIXEL_MEAN).view(3, 1, 1), torch.tensor(PIXEL_STD).view(3, 1, 1)
    for t, view in enumerate(pixels):
        chw = torch.from_numpy(np.ascontiguousarray(view.transpose(2, 0, 1))).float()  # [H,W,3] -> [3,H,W]
        canvas[0, t, :, : view.shape[0], : view.shape[1]] = chw.sub_(mean).div_(std)
    return Views(
        canvas,
        torch.tensor(boxes_xyxy).view(1, -1, 4),  # [T,4] -> [1,T,4]
        torch.tensor(sizes_hw).view(1, -1, 2),  # [T,2] -> [1,T,2]
        torch.tensor(image_size_hw).view(1, 2),
        frames,
    )


def batch_views(items: Sequence[Views], *, side: int | None = None) -> Views:
    """Join views of several images with equal T into one batch, padded to the largest canvas or a square of ``side``.

    Raises:
        InputError: a view does not fit into the square.
    """
    height, width = torch.tensor([item.pixels.shape[-2:] for item in items]).amax(0).tolist()
    if side is not None and max(height, width) > side:
        raise InputError(
            f"a view of {width}x{height} pixels does not fit on a canvas of {side}; make the canvas larger"
        )
    size_hw = (height, width) if side is None else (side, side)
    pixels = torch.cat([pad_canvas(item.pixels, size_hw) for item in items])
    joined = (torch.cat([getattr(item, name) for item in items]) for name in ("boxes_xyxy", "sizes_hw"))
    return Views(pixels, *joined, torch.cat([item.image_sizes_hw for item in items]), items[0].frames)


def pad_canvas(canvas: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Zero-pad the last two axes right and below: [...,H,W] to [...,height,width]."""
    right, below = size_hw[1] - canvas.shape[-1], size_hw[0] - canvas.shape[-2]
    return torch.nn.functional.pad(canvas, (0, right, 0, below))
