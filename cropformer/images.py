"""Any image to one RGB array: what a person would see in a viewer, whatever the file holds."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from cropformer.errors import InputError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})

ImageLike = str | Path | Image.Image | np.ndarray | Tensor

_BAND_ROWS = 256
_REDUCIBLE_FORMATS = {"JPEG", "MPO"}
_GREY_MAX = 65_535  # of 16-bit grey; Pillow also opens some of it with 32-bit modes


@dataclass(frozen=True, eq=False)
class ReducedImage:
    """An image decoded at 1 / ``scale`` of its size.

    Attributes:
        pixels: uint8 RGB, its sides those of ``size_hw`` divided by ``scale`` and rounded up.
        scale: 1, 2, 4 or 8.
        size_hw: height and width of the image itself.
    """

    pixels: np.ndarray
    scale: int
    size_hw: tuple[int, int]


def read_image(path: str | Path) -> np.ndarray:
    """Decode JPEG, PNG, WebP, BMP, TIFF (or whatever else Pillow knows) to uint8 RGB [H,W,3].

    The EXIF rotation is applied. Transparent pixels are laid on white. 16-bit grey is divided by 257, its full range
    onto the full range of 8 bits. Of an animation or a stack of pages the first image is read.

    Raises:
        InputError: the file is missing, empty, a folder, not an image, truncated, of a kind without a natural RGB
            form (32-bit grey, LAB), or larger than Pillow's safety limit.
    """
    return read_reduced(path, scale=1).pixels


def read_reduced(path: str | Path, *, scale: int) -> ReducedImage:
    """Decode a JPEG at a fraction of its size, in a fraction of the time; anything else as ``read_image`` does.

    A departure from the published pipeline, which decodes everything and then resizes: the decoder averages blocks
    of ``scale`` x ``scale`` pixels in place of the resize. Pixels of a view then differ by less than one level of 255
    on average, in photos of 2 to 4 megapixels by 0.1 to 0.4, and by more than two in one of a hundred.

    A JPEG that is meant to be turned, with sides that ``scale`` does not divide, is decoded in full, because the
    decoder's blocks would not lie in its corner.

    Args:
        path: the image file.
        scale: 1, 2, 4 or 8.

    Raises:
        InputError: as ``read_image`` does.
    """
    path = Path(path)
    _check_file(path)
    try:
        with Image.open(path) as file:
            full_size = file.size
            scale = _reduce(file, scale)
            file.load()
            image = _upright(file)
            width, height = full_size if image.size == file.size else full_size[::-1]
    except Image.UnidentifiedImageError as error:
        raise InputError(f"{path} is not an image; give a JPEG, PNG, WebP, BMP or TIFF file.") from error
    except Image.DecompressionBombError as error:
        limit = 2 * Image.MAX_IMAGE_PIXELS // 10**6
        raise InputError(f"{path} has more than {limit} million pixels; make it smaller first.") from error
    except Exception as error:  # Pillow's decoders raise almost any type on damaged bytes
        raise InputError(f"{path} is damaged or truncated ({error}); copy or download it again.") from error
    return ReducedImage(_to_rgb(image, path), scale, (height, width))


def as_rgb(image: ImageLike) -> np.ndarray:
    """Any accepted image as uint8 RGB [H,W,3].

    Raises:
        InputError: if it cannot be read, or an array or tensor is not uint8 with three channels.
    """
    if isinstance(image, (str, Path)):
        return read_image(image)
    if isinstance(image, Image.Image):
        return _to_rgb(_upright(image), "The image")
    array = np.moveaxis(image.cpu().numpy(), 0, -1) if isinstance(image, Tensor) else image  # [3,H,W] -> [H,W,3]
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise InputError(
            f"An image must be uint8 RGB, an array [H,W,3] or a tensor [3,H,W], not {array.dtype} {tuple(image.shape)}."
        )
    return array


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a folder; give an image file.")
    try:
        with path.open("rb") as file:
            is_empty = not file.read(1)
    except OSError as error:
        raise InputError(f"Cannot read the image {path}: {error.strerror}; check the path and its rights.") from error
    if is_empty:
        raise InputError(f"{path} is empty (0 bytes); copy or download it again.")


def _reduce(file: Image.Image, scale: int) -> int:
    """Ask the decoder of an image that is not loaded yet for 1 / ``scale`` of its size; the scale that it grants."""
    divides = not any(side % scale for side in file.size)
    if scale == 1 or file.format not in _REDUCIBLE_FORMATS or not (divides or _orientation(file) == 1):
        return 1
    width, height = file.size
    granted = file.draft(None, (max(1, width // scale), max(1, height // scale)))
    return 1 if granted is None else round(width / granted[1][2])  # the second is the box that the pixels stand for


def _upright(image: Image.Image) -> Image.Image:
    """The image as it is meant to be seen: the same one if it needs no turn."""
    try:
        return ImageOps.exif_transpose(image) if _orientation(image) != 1 else image
    except Exception:  # as for `_orientation`
        return image


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 if the image is upright."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # the pixels are sound, only the EXIF block is not: it says nothing about a rotation
        return 1


def _to_rgb(image: Image.Image, path: Path | str) -> np.ndarray:
    """Convert a band of rows at a time: Pillow's own way holds up to four copies of the image at once."""
    width, height = image.size
    rgb = np.empty((height, width, 3), dtype=np.uint8)
    for top in range(0, height, _BAND_ROWS):
        bottom = min(top + _BAND_ROWS, height)
        rgb[top:bottom] = _band_to_rgb(image.crop((0, top, width, bottom)), path)
    return rgb


def _band_to_rgb(image: Image.Image, path: Path | str) -> np.ndarray:
    if image.mode == "F" or image.mode.startswith("I"):
        return _grey_to_uint8(np.asarray(image), path)[..., None]  # [H,W] -> [H,W,1]
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))
    try:
        return np.asarray(image.convert("RGB"))
    except ValueError as error:
        raise InputError(f"{path} has the colour mode {image.mode}; save it as RGB.") from error


def _grey_to_uint8(grey: np.ndarray, path: Path | str) -> np.ndarray:
    """16-bit grey [H,W] to 8 bits; wider types have no range that is surely meant."""
    if grey.dtype.kind == "f" or grey.min() < 0 or grey.max() > _GREY_MAX:
        raise InputError(f"{path} holds 32-bit grey values; save it with 8 or 16 bits.")
    return np.round(grey / 257).astype(np.uint8)
