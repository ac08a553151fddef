"""Maps of DIS5K: a folder of 8-bit grey PNGs, called like the ground truth; `writers.maps` writes one.

H, W image pixels.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cropformer import InputError
from entitytransfer.readers.label_png import list_pngs, read_pixels, read_size

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BIT_DEPTH = 24  # the byte of a PNG that states it


@dataclass(frozen=True)
class MapFiles:
    """The two PNGs of an image."""

    ground_truth: Path
    prediction: Path


def read_map(path: Path) -> np.ndarray:
    """Read a map: uint8 [H,W]. Grey that is stored as RGB, or black and white as one bit, is accepted.

    Raises:
        InputError: it cannot be read, or its pixels are not 8-bit grey.
    """
    pixels, mode = read_pixels(path)
    if _has_sixteen_bits(path):
        raise InputError(f"{path} has 16 bits per channel, and maps of DIS5K have 8; write it as 8-bit grey.")
    if mode == "1":
        return pixels.astype(np.uint8) * np.uint8(255)
    if mode == "RGB" and (pixels == pixels[..., :1]).all():
        return np.ascontiguousarray(pixels[..., 0])
    if mode != "L":
        problem = "colours" if mode == "RGB" else f"pixels of mode {mode}"
        raise InputError(f"{path} has {problem}, not 8-bit grey; write it as 8-bit grey.")
    return pixels


def list_maps(folder: Path) -> dict[str, Path]:
    """The PNGs of a folder by image id, their name without ending, in alphabetical order; hidden files are no maps.

    Raises:
        InputError: there is none, or two for one image.
    """
    found = list_pngs(folder)
    if not found:
        raise InputError(f"There is no PNG in {folder}; check the path.")
    return found


def match_maps(ground_truth: Path, predictions: Path) -> dict[str, MapFiles]:
    """The maps of two folders by image id: both must have the same images, and each image one size.

    Raises:
        InputError: a folder without maps, a map that is missing or left over, or two of different sizes.
    """
    truths, maps = list_maps(ground_truth), list_maps(predictions)
    missing = [path for image_id, path in truths.items() if image_id not in maps]
    if missing:
        count = f"{len(missing)} of {len(truths)} images, the first of them {missing[0].name}"
        raise InputError(f"{predictions} has no map for {count}; predict every image.")
    unknown = [path for image_id, path in maps.items() if image_id not in truths]
    if unknown:
        raise InputError(f"{unknown[0]} has no ground truth in {ground_truth}; remove it, or check the split.")
    files = {image_id: MapFiles(path, maps[image_id]) for image_id, path in truths.items()}
    for pair in files.values():
        _check_size(pair)
    return files


def _check_size(files: MapFiles) -> None:
    height, width = read_size(files.ground_truth)
    map_height, map_width = read_size(files.prediction)
    if (height, width) != (map_height, map_width):
        raise InputError(
            f"{files.prediction} is {map_width}x{map_height}, but its ground truth {files.ground_truth} is "
            f"{width}x{height}; resize the map to it."
        )


def _has_sixteen_bits(path: Path) -> bool:
    """Whether this is a PNG of 16 bits, which Pillow may have cut down to 8 without a word."""
    with path.open("rb") as file:
        head = file.read(_BIT_DEPTH + 1)
    return head.startswith(_PNG_SIGNATURE) and head[_BIT_DEPTH:] == b"\x10"
