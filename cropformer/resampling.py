"""Resizing, in the exact arithmetic of the published pipeline: antialiased images, nearest masks, linear logits.

Bilinear resizing is linear and separable, so a mask at image size is two small matrix products away from
its stride-4 logits. ``view_weights`` gives those matrices; view fusion multiplies only the tiles that an
entity can reach.
"""

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def resized_size_hw(size_hw: tuple[int, int], *, short_side: int, max_side: int) -> tuple[int, int]:
    """Size after scaling the short side to ``short_side`` with the long one kept within ``max_side``.

    Rounds half up, and caps before rounding, as the published data mapper does. A side never falls below 1.
    """
    height, width = size_hw
    scale = short_side / min(height, width)
    new_height, new_width = (short_side, scale * width) if height < width else (scale * height, short_side)
    longest = max(new_height, new_width)
    if longest > max_side:
        new_height, new_width = new_height * (max_side / longest), new_width * (max_side / longest)
    return max(1, int(new_height + 0.5)), max(1, int(new_width + 0.5))


def resize_image(
    image: np.ndarray, size_hw: tuple[int, int], *, box_xyxy: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """Antialiased bilinear resize of an RGB image, uint8 [H,W,3] to uint8 [h,w,3].

    Args:
        image: the image.
        size_hw: size of the result.
        box_xyxy: the part that is resized, in pixels and fractions of them; None takes the whole image. Pixels around
            it still weigh in at its edges, as if the whole were resized and this part of it kept.
    """
    if box_xyxy is None and image.shape[:2] == tuple(size_hw):
        return image
    height, width = size_hw
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box=box_xyxy))


def nearest_pixels(source: int, target: int) -> np.ndarray:
    """Source index of each target index in a nearest-neighbour resize, int64 [target] ascending.

    Pillow adds up the step, and its rounding errors with it: so do we.
    """
    step = source / target
    steps = np.full(target, step)
    steps[0] = step / 2
    return np.minimum(steps.cumsum().astype(np.int64), source - 1)


def linear_weights(source: int, target: int, *, device: torch.device | None = None) -> Tensor:
    """Matrix [target, source] of a 1-D bilinear resize with ``align_corners=False``, float32."""
    return _hat_weights(_centres(source / target, target, last=source - 1), source).to(device)


def view_weights(
    source: int, *, padded: int, valid: int, target: int, two_step: bool, device: torch.device | None = None
) -> Tensor:
    """Matrix [target, source] from stride-4 logits of a padded view to the pixels that the view covers, float32.

    Args:
        source: logits along this axis.
        padded: network input size along this axis, padding included.
        valid: size of the view inside its padding.
        target: pixels of the full image that the view covers.
        two_step: resize to the network input, drop the padding, resize again, as the published pipeline
            does. Otherwise each image pixel reads the logits directly, once.
        device: where the matrix lives.
    """
    if not two_step:
        step = (valid / target) * (source / padded)
        return _hat_weights(_centres(step, target, last=source - 1), source).to(device)
    to_input = linear_weights(source, padded)[:valid]
    position = _centres(valid / target, target, last=valid - 1)
    lower = position.long()  # two taps of each row: the product of the matrices without their zeros
    fraction = (position - lower)[:, None].float()
    return torch.lerp(to_input[lower], to_input[(lower + 1).clamp(max=valid - 1)], fraction).to(device)


def _centres(step: float, target: int, *, last: int) -> Tensor:
    """Where the centre of each target pixel falls on a grid that it crosses by ``step``, float64 [target].

    Single precision would move the far edge of a large image by a ten-thousandth of a pixel.
    """
    return ((torch.arange(target, dtype=torch.float64) + 0.5) * step - 0.5).clamp(0, last)


def _hat_weights(position: Tensor, source: int) -> Tensor:
    """Weights of the two grid points beside each position, float32 [target, source]."""
    distance = (position[:, None] - torch.arange(source)).float()
    return distance.abs_().neg_().add_(1).clamp_(min=0)


def pad_to_multiple(size: int, *, multiple: int) -> int:
    """The smallest multiple of ``multiple`` that is not below ``size``."""
    return math.ceil(size / multiple) * multiple
