"""Colours of ids, and the overlay that paints them on a photo."""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageFilter

_GOLDEN_RATIO = 0.618033988749895
# A cycle of nine OKLCH tones; any two of the first 20 colours differ by at least 11 in CIEDE2000.
_LIGHTNESS = np.array([0.59, 0.78, 0.76, 0.58, 0.84, 0.71, 0.63, 0.84, 0.72])
_CHROMA = np.array([0.16, 0.19, 0.13, 0.19, 0.13, 0.18, 0.14, 0.18, 0.14])
_OKLAB_TO_LMS = np.array(
    [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
)
_LMS_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def id_colors(ids: Iterable[int]) -> np.ndarray:
    """RGB of ids, uint8 [N,3]; the same id always has the same colour.

    Hues walk the circle in golden-ratio steps, so consecutive ids are far apart. Lightness and chroma
    change with every step in a cycle of nine, which separates ids whose hues come close again (5, 8, 13,
    21 later). The walk is in OKLCH (B. Ottosson, "A perceptual color space for image processing", 2020),
    where equal steps look equal; HSV would make every third entity green.
    """
    ids = np.fromiter(ids, dtype=np.int64)
    hue = 2 * np.pi * (ids * _GOLDEN_RATIO % 1.0)
    lightness, chroma = _LIGHTNESS[ids % 9], _CHROMA[ids % 9]
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)
    linear = np.clip((lab @ _OKLAB_TO_LMS.T) ** 3 @ _LMS_TO_RGB.T, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * srgb).astype(np.uint8)


def paint_ids(image: np.ndarray, id_map: np.ndarray, colors: np.ndarray, *, opacity: float) -> np.ndarray:
    """Photo uint8 RGB [H,W,3] with the regions of ``id_map`` int [H,W] tinted and outlined.

    Region i + 1 gets ``colors[i]`` (uint8 [N,3]) at the given opacity; 0 keeps the photo. The outline is a
    light shade of the region's own colour.
    """
    palette = np.concatenate([np.zeros((1, 3), np.uint8), colors])
    inside = Image.fromarray(np.where(id_map > 0, 255, 0).astype(np.uint8))
    photo, paint = Image.fromarray(image), Image.fromarray(palette[id_map])
    tinted = Image.blend(photo, paint, opacity)
    light = Image.blend(paint, Image.new("RGB", paint.size, "white"), 2 / 3)
    outlined = Image.composite(light, tinted, _outline_alpha(id_map))
    return np.array(Image.composite(outlined, photo, inside))


def _outline_alpha(id_map: np.ndarray) -> Image.Image:
    """Soft line along every border between two ids, as a grey image [H,W]; wider in larger images."""
    edge = np.zeros(id_map.shape, dtype=np.uint8)
    rows, columns = id_map[1:] != id_map[:-1], id_map[:, 1:] != id_map[:, :-1]
    for side, differs in (
        (edge[1:], rows),
        (edge[:-1], rows),
        (edge[:, 1:], columns),
        (edge[:, :-1], columns),
    ):
        side[differs] = 255
    line = Image.fromarray(edge)
    extra = min(id_map.shape) // 1200
    if extra:
        line = line.filter(ImageFilter.MaxFilter(2 * extra + 1))
    return line.filter(ImageFilter.GaussianBlur(0.6 + extra / 2))
