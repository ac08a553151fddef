"""PNGs whose pixels are numbers, not colours: label maps and binary masks. H, W image pixels."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from cropformer import InputError

_NUMBER_MODES = {"1", "L", "P", "I;16", "I"}
FOREGROUND = 128  # a mask pixel is brighter than this, as in every official tool


def read_labels(path: Path | str) -> np.ndarray:
    """Read the stored numbers of an indexed, 8-bit or 16-bit PNG: int64 [H,W]. A palette is not looked at.

    Raises:
        InputError: it cannot be read, or its pixels are colours.
    """
    pixels, mode = read_pixels(Path(path))
    if mode not in _NUMBER_MODES:
        raise InputError(f"{path} has pixels of mode {mode}, not one number each; give the original label PNG.")
    return pixels.astype(np.int64)


def read_foreground(path: Path | str) -> np.ndarray:
    """Read a binary mask, grey or grey stored as colour: bool [H,W], true where brighter than 128.

    Raises:
        InputError: it cannot be read, or its mode is none that masks come in.
    """
    pixels, mode = read_pixels(Path(path))
    if mode == "1":
        return pixels
    if mode not in {"L", "RGB", "RGBA"}:
        raise InputError(f"{path} has pixels of mode {mode}, not 8-bit grey or RGB; give the original mask PNG.")
    return (pixels if pixels.ndim == 2 else pixels[..., 0]) > FOREGROUND


def list_pngs(folder: Path) -> dict[str, Path]:
    """The PNGs of a folder by their name without ending, in alphabetical order; hidden files are none.

    Raises:
        InputError: there are two for one image.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() != ".png" or path.name.startswith("."):
            continue
        if path.stem in found:
            raise InputError(f"{found[path.stem]} and {path} are for the same image; remove one.")
        found[path.stem] = path
    return found


def read_pixels(path: Path) -> tuple[np.ndarray, str]:
    """The pixels of a PNG as they are stored, and Pillow's name of their mode.

    Raises:
        InputError: it cannot be read.
    """
    with _opened(path) as file:
        return np.asarray(file), file.mode


def read_size(path: Path) -> tuple[int, int]:
    """Height and width as the head of the file states them; no pixel is decoded.

    Raises:
        InputError: it cannot be read.
    """
    with _opened(path) as file:
        return file.height, file.width


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as file:
            yield file
    except Image.UnidentifiedImageError as error:
        raise InputError(f"{path} is not an image; give the original PNG.") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} has more pixels than any image of these datasets; give the original PNG.") from error
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}; give the original PNG.") from error
    except Exception as error:  # Pillow's decoders raise almost any type on damaged bytes
        raise InputError(f"{path} is damaged or truncated ({error}); copy or download it again.") from error
