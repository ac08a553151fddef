"""The narrow interface between data on disk and everything above it: one dataset item as a `Sample`.

Legend: N entities · H, W image pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from cropformer import InputError, read_image


class Annotation(Protocol):
    """What a reader knows about one image; it stays encoded until `masks` is called."""

    def masks(self) -> np.ndarray:
        """Decode the masks: bool [N,H,W]; one may be empty where other segments were painted over it."""

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
        if image.shape[:2] != self.size_hw:
            raise InputError(
                f"{self.image_path} has height and width {image.shape[:2]} but its annotation says "
                f"{self.size_hw}; put back the original image or regenerate the annotation."
            )
        return image

    def entity_masks(self) -> np.ndarray:
        """Decode the masks of all entities: bool [N,H,W]; they may overlap, and one may be empty.

        Raises:
            InputError: the annotation is damaged or does not fit the image.
        """
        return self.annotation.masks()

    def labels(self) -> np.ndarray:
        """Return the class label of each entity: int64 [N], all 0 in a class-agnostic set."""
        return self.annotation.labels()
