"""The narrow interface between data on disk and everything above it: one dataset item as a `Sample`.

Legend: N entities · H, W image pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from cropformer import Cut, InputError, cut_image, read_image, read_reduced, reduced_scale, rle


class Annotation(Protocol):
    """What a reader knows about one image; it stays encoded until its masks are asked for.

    Masks may overlap, and one may be empty where other segments were painted over it.
    """

    def masks(self) -> np.ndarray:
        """Decode the masks: bool [N,H,W]."""

    def rles(self) -> list[rle.RLE]:
        """Return the masks as compressed COCO RLE, N of them."""

    def cut(self, cut: Cut) -> np.ndarray:
        """Return what a view shows of the masks: bool [N,h,w]; they are not decoded in full if that can be avoided."""

    def labels(self) -> np.ndarray:
        """Return one class label per mask: int64 [N]."""


@dataclass(frozen=True)
class Sample:
    """One dataset item: where its pixels are, how large they are, and what is annotated in them.

    Nothing is decoded before it is asked for, and nothing is kept afterwards, so a list of a hundred thousand
    samples is only an index and travels to data-loader workers by pickling.

    Attributes:
        image_id: the dataset's own id, a string in some sets.
        image_path: the image file.
        size_hw: height and width in pixels, as the annotation file states them.
        annotation: the encoded entities of this image.
        exhaustive: True if every region is annotated, so that an unmatched prediction is wrong; False if
            regions without annotation are unknown.
    """

    image_id: int | str
    image_path: Path
    size_hw: tuple[int, int]
    annotation: Annotation
    exhaustive: bool

    @property
    def frames(self) -> Sequence[Callable[[], np.ndarray]]:
        """Frames in time order, each a function without arguments that decodes it; an image has one."""
        return (partial(self.read_frame, 0),)

    def read_frame(self, index: int = 0) -> np.ndarray:
        """Decode one frame: uint8 RGB [H,W,3].

        Raises:
            InputError: the image cannot be read, or its size is not the annotated one.
        """
        if index != 0:
            raise IndexError(f"frame {index} of an image with one frame")
        image = read_image(self.image_path)
        self._check_size(image.shape[:2])
        return image

    def read_views(self, cuts: Sequence[Cut], *, reduced: bool = True) -> list[np.ndarray]:
        """Decode the image once and cut the views out of it: uint8 RGB [h,w,3] each.

        Args:
            cuts: what the views show.
            reduced: decode a JPEG at a fraction of its size where no view needs more; see `read_reduced` for what
                that does to its pixels.

        Raises:
            InputError: the image cannot be read, or its size is not the annotated one.
        """
        image = read_reduced(self.image_path, scale=reduced_scale(cuts) if reduced else 1)
        self._check_size(image.size_hw)
        return [cut_image(image.pixels, cut, scale=image.scale) for cut in cuts]

    def entity_masks(self) -> np.ndarray:
        """Decode the masks of all entities: bool [N,H,W]; they may overlap, and one may be empty.

        Raises:
            InputError: the annotation is damaged or does not fit the image.
        """
        return self.annotation.masks()

    def entity_rles(self) -> list[rle.RLE]:
        """Return the masks of all entities as compressed COCO RLE. Raises InputError as `entity_masks` does."""
        return self.annotation.rles()

    def cut_masks(self, cuts: Sequence[Cut]) -> list[np.ndarray]:
        """Cut the masks of all entities as the views show them: bool [N,h,w] each.

        Raises InputError as `entity_masks` does.
        """
        return [self.annotation.cut(cut) for cut in cuts]

    def labels(self) -> np.ndarray:
        """Return the class label of each entity: int64 [N], all 0 in a class-agnostic set."""
        return self.annotation.labels()

    def _check_size(self, size_hw: tuple[int, int]) -> None:
        if size_hw != self.size_hw:
            raise InputError(
                f"{self.image_path} has height and width {size_hw} but its annotation says "
                f"{self.size_hw}; put back the original image or regenerate the annotation."
            )
