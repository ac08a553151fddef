"""Colour jitter of semantic training: brightness, contrast, saturation and hue, each changed with probability one half.

Source: the photometric distortion of SSD (Liu et al., 2016, data augmentation), as Mask2Former trains with it. Hue has
256 steps here, Pillow's, where OpenCV has 180.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class ColorJitter:
    """The random choices for one view; the defaults change nothing.

    Attributes:
        brightness: added to every channel, on 0..255.
        contrast: factor of every channel.
        saturation: factor of the saturation in HSV.
        hue_degrees: turn of the hue.
        contrast_first: change the contrast before saturation and hue, not after them.
    """

    brightness: float = 0.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue_degrees: float = 0.0
    contrast_first: bool = True

    def apply(self, image: np.ndarray) -> np.ndarray:
        """The recoloured image; uint8 RGB [H,W,3] to the same."""
        image = _linear(image, shift=self.brightness)
        if self.contrast_first:
            image = _linear(image, factor=self.contrast)
        image = self._turn(image)
        return image if self.contrast_first else _linear(image, factor=self.contrast)

    def _turn(self, image: np.ndarray) -> np.ndarray:
        """Change saturation and hue; what changes neither is spared the rounding of HSV."""
        if self.saturation == 1 and self.hue_degrees == 0:
            return image
        hsv = np.array(Image.fromarray(image).convert("HSV"))
        hsv[..., 0] += np.uint8(round(self.hue_degrees * 256 / 360) % 256)  # wraps around, as the colour circle does
        hsv[..., 1] = _linear(hsv[..., 1], factor=self.saturation)
        height, width = image.shape[:2]
        return np.asarray(Image.frombytes("HSV", (width, height), hsv.tobytes()).convert("RGB"))


def draw_color_jitter(generator: random.Random) -> ColorJitter:
    """Draw the choices of SSD: brightness +-32, contrast and saturation 0.5 to 1.5, hue +-36 degrees."""
    return ColorJitter(
        brightness=_maybe(generator, -32, 32, otherwise=0.0),
        contrast=_maybe(generator, 0.5, 1.5, otherwise=1.0),
        saturation=_maybe(generator, 0.5, 1.5, otherwise=1.0),
        hue_degrees=_maybe(generator, -36, 36, otherwise=0.0),
        contrast_first=generator.random() < 0.5,
    )


def _maybe(generator: random.Random, low: float, high: float, *, otherwise: float) -> float:
    return generator.uniform(low, high) if generator.random() < 0.5 else otherwise


def _linear(values: np.ndarray, *, factor: float = 1.0, shift: float = 0.0) -> np.ndarray:
    """``factor * values + shift``, kept within 0..255 and cut to integers, through a table of all 256 answers."""
    table = np.clip(np.arange(256) * factor + shift, 0, 255).astype(np.uint8)
    return table[values]
