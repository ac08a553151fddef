"""Synthetic clips of real things: people and a refrigerator, cut out of the test photos, move over other photos.

In every clip the first two cross, so that the first hides the second half-way; the third comes in late. F frames.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from .region_photos import RegionPhoto, region_photos

CUT_OUTS = ((0, "person"), (1, "person"), (2, "refrigerator"))  # photo and category
BACKGROUNDS = ((3, slice(0, 240)), (1, slice(0, 185)))  # photo and the columns of it that show no cut-out
HEIGHT_SHARE = (0.8, 0.8, 0.55)  # of the frame that each thing takes
WAYS = ((0.2, 0.8), (0.85, 0.15), (0.5, 0.5))  # horizontal place of its centre, at the first and at the last frame
BOTTOM_SHARE = (1.0, 0.95, 0.6)  # height of its lower edge; the third is behind the others
LATE = 2  # the frame in which the third thing comes in


@dataclass(frozen=True)
class MovingClip:
    """A clip with its annotation.

    Attributes:
        images: uint8 RGB [F,H,W,3].
        tracks: bool [F,N,H,W], what is visible of each thing.
        names: of the N things, as COCO calls them.
        stuff: bool [F,S,H,W], what is visible of the regions of the background.
        stuff_names: of these.
    """

    images: np.ndarray
    tracks: np.ndarray
    names: tuple[str, ...]
    stuff: np.ndarray
    stuff_names: tuple[str, ...]

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of a frame."""
        return self.images.shape[1:3]


def moving_clip(number: int, *, frames: int, size_hw: tuple[int, int], things: int = 3) -> MovingClip:
    """A clip of up to three things; every number up to eight is another clip."""
    background = _background(number, size_hw)
    drawn = [_draw(background.image, number, t / max(frames - 1, 1), t, things) for t in range(frames)]
    images, tracks = (np.stack(parts) for parts in zip(*drawn))
    return MovingClip(
        images,
        tracks,
        tuple(name for _, name in _chosen(number, things)),
        background.masks[None] & ~tracks.any(axis=1, keepdims=True),  # [1,S,H,W] & [F,1,H,W] -> [F,S,H,W]
        tuple(category["name"] for category in background.categories),
    )


def _draw(background: np.ndarray, number: int, time: float, frame: int, things: int) -> tuple[np.ndarray, np.ndarray]:
    """The frame at a time from 0 to 1, and what is seen of each thing."""
    image, owners = background.copy(), np.full(background.shape[:2], -1)
    for place, (photo, name) in reversed(list(enumerate(_chosen(number, things)))):
        if place == 2 and frame < LATE:
            continue
        pixels, mask = _cut_out(photo, name, round(HEIGHT_SHARE[place] * len(image)), flip=number % 2 == 1)
        start, stop = WAYS[place] if number // 2 % 2 == 0 else WAYS[place][::-1]
        centre = (start + (stop - start) * time) * image.shape[1]
        _paste(image, owners, place, pixels, mask, left=round(centre - mask.shape[1] / 2), bottom=BOTTOM_SHARE[place])
    return image, owners == np.arange(things)[:, None, None]  # [H,W] == [N,1,1] -> [N,H,W]


def _paste(
    image: np.ndarray, owners: np.ndarray, place: int, pixels: np.ndarray, mask: np.ndarray, *, left: int, bottom: float
) -> None:
    """Put a cut-out in a frame; what lies beyond the border is lost."""
    top = round(bottom * len(image)) - len(mask)
    rows, columns = (slice(max(first, 0), first + size) for first, size in zip((top, left), mask.shape))
    inside = mask[rows.start - top :, columns.start - left :][:, : image.shape[1] - columns.start]
    shown = pixels[rows.start - top :, columns.start - left :][:, : image.shape[1] - columns.start]
    image[rows, columns][inside] = shown[inside]
    owners[rows, columns][inside] = place


def _chosen(number: int, things: int) -> list[tuple[int, str]]:
    """The things of a clip, nearest first."""
    turned = [*CUT_OUTS[number // 4 % 2 :], *CUT_OUTS[: number // 4 % 2]]
    return turned[:things]


def _background(number: int, size_hw: tuple[int, int]) -> RegionPhoto:
    """A photo in the size of the frames with its regions of stuff."""
    photo_index, columns = BACKGROUNDS[number // 2 % len(BACKGROUNDS)]
    photo = _photo(photo_index)
    kept = [k for k, category in enumerate(photo.categories) if not category["isthing"]]
    masks = _resized(photo.masks[kept][:, :, columns].transpose(1, 2, 0), size_hw).transpose(2, 0, 1)
    image = Image.fromarray(photo.image[:, columns]).resize(size_hw[::-1], Image.Resampling.BILINEAR)
    scene = RegionPhoto(np.asarray(image), masks, tuple(photo.categories[k] for k in kept))
    return scene.mirrored() if number % 2 else scene


@cache
def _cut_out(photo_index: int, name: str, height: int, *, flip: bool) -> tuple[np.ndarray, np.ndarray]:
    """A thing in this height: uint8 RGB [h,w,3] and its mask bool [h,w]."""
    photo = _photo(photo_index)
    (index,) = (k for k, category in enumerate(photo.categories) if category["name"] == name)
    rows, columns = (np.flatnonzero(photo.masks[index].any(axis=axis)) for axis in (1, 0))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    mask = photo.masks[index][box]
    size_hw = (height, round(mask.shape[1] * height / mask.shape[0]))
    pixels = np.asarray(Image.fromarray(photo.image[box]).resize(size_hw[::-1], Image.Resampling.BILINEAR))
    mask = _resized(mask[..., None], size_hw)[..., 0]
    return (pixels[:, ::-1], mask[:, ::-1]) if flip else (pixels, mask)


def _resized(masks: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Nearest pixels: bool [H,W,N] to [h,w,N]."""
    rows, columns = (np.arange(new) * old // new for old, new in zip(masks.shape, size_hw))
    return masks[rows][:, columns]


@cache
def _photo(index: int) -> RegionPhoto:
    return next(region_photos(1, first=index))
