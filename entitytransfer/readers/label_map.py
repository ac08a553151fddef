"""Semantic label PNGs: one class number for each pixel, and one region for each class that an image shows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from PIL import Image

from cropformer import Cut, InputError, cut_masks, rle
from entitytransfer.adapter import Annotation, Sample, Truth

_LABEL_MODES = {"L", "P"}  # of a palette the colours do not matter, its numbers are the classes


@dataclass(frozen=True)
class LabelRegions:
    """The regions of one image: one for each class present, in ascending order, whether connected or not.

    Attributes:
        png_path: the label PNG.
        size_hw: height and width in pixels.
        classes: number of classes; labels run from 0.
        ignored: value of the pixels that belong to no class.
        first: value of the pixels of the first class.
    """

    png_path: Path
    size_hw: tuple[int, int]
    classes: int
    ignored: int = 255
    first: int = 0

    def masks(self) -> np.ndarray:
        """Decode the region of every class present: bool [N,H,W]. Raises InputError as `label_map` does."""
        label_map = self.label_map()
        return label_map[None] == self._present(label_map)[:, None, None]  # [1,H,W] == [N,1,1] -> [N,H,W]

    def rles(self) -> list[rle.RLE]:
        """Compressed COCO RLE of every region, N of them. Raises InputError as `label_map` does."""
        label_map = self.label_map()
        return rle.encode_id_map(label_map, self._present(label_map))

    def cut(self, cut: Cut) -> np.ndarray:
        """The regions as a view shows them: bool [N,h,w], those outside it empty.

        Raises InputError as `label_map` does.
        """
        label_map = self.label_map()
        shown = cut_masks(label_map[None], cut)  # [H,W] -> [1,H,W] -> [1,h,w]
        return shown == self._present(label_map)[:, None, None]  # [1,h,w] == [N,1,1] -> [N,h,w]

    def labels(self) -> np.ndarray:
        """Return the class of every region: int64 [N]. Raises InputError as `label_map` does."""
        return self._present(self.label_map()).astype(np.int64)

    def truth(self) -> Truth:
        """Return the region of every class present. Raises InputError as `label_map` does."""
        label_map = self.label_map()
        present = self._present(label_map)
        rles = rle.encode_id_map(label_map, present)
        areas = np.array([rle.area(region) for region in rles], dtype=np.float64)
        return Truth(rles, present.astype(np.int64), areas, np.zeros(len(rles), dtype=bool))

    def label_map(self) -> np.ndarray:
        """Decode the PNG: labels uint8 [H,W], and a number that is no label where pixels are ignored.

        Raises:
            InputError: the PNG cannot be read, has another size than the image, or holds a value that is no class.
        """
        stored = read_label_map(self.png_path)
        if stored.shape != self.size_hw:
            raise InputError(
                f"{self.png_path} has height and width {stored.shape} but its image {self.size_hw}; "
                "put back the original PNG."
            )
        label_map = stored - np.uint8(self.first)  # what is below the first class wraps around to above the last
        present = self._present(label_map)
        if present.size and present[-1] >= self.classes:
            raise InputError(
                f"{self.png_path} holds the value {(int(present[-1]) + self.first) % 256}, but the classes are "
                f"{self.first} to {self.first + self.classes - 1} and {self.ignored} is ignored; "
                "put back the original PNG."
            )
        return label_map

    def _present(self, label_map: np.ndarray) -> np.ndarray:
        """The classes of a map, uint8 [N] ascending."""
        present = np.flatnonzero(np.bincount(label_map.reshape(-1), minlength=256))  # [H,W] -> [HW]
        return present[present != (self.ignored - self.first) % 256].astype(np.uint8)


def read_label_map(path: Path | str) -> np.ndarray:
    """Read a label PNG as it is stored: uint8 [H,W], of a palette its numbers.

    Raises:
        InputError: the file is missing, damaged, or not one of single bytes.
    """
    try:
        with Image.open(path) as file:
            mode, pixels = file.mode, np.asarray(file)
    except Exception as error:  # Pillow's decoders raise almost any type on damaged bytes
        raise InputError(f"Cannot read the label map {path} ({error}); copy or download it again.") from error
    if mode not in _LABEL_MODES:
        raise InputError(f"{path} has the mode {mode}, but a label map has one byte for each pixel; check its path.")
    return pixels


class LabelledImages(Sequence[Sample]):
    """Photos and their PNGs as samples; the size of one is read from the PNG's head when it is asked for.

    Args:
        files: image and PNG of each sample.
        annotate: path and size of a PNG → what it says, such as `LabelRegions` with its numbers.
    """

    def __init__(
        self, files: Sequence[tuple[Path, Path]], annotate: Callable[[Path, tuple[int, int]], Annotation]
    ) -> None:
        self._files = files
        self._annotate = annotate

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._files)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        """One sample, or those of a slice; its ``image_id`` is the image's name without suffix.

        Raises:
            InputError: the PNG is missing or damaged.
        """
        if isinstance(index, slice):
            return LabelledImages(self._files[index], self._annotate)
        image_path, png_path = self._files[index]
        size_hw = read_size_hw(png_path)
        return Sample(image_path.stem, image_path, size_hw, self._annotate(png_path, size_hw), exhaustive=True)


def read_size_hw(path: Path) -> tuple[int, int]:
    """Read height and width of a label PNG from its head; raises InputError if it is missing or damaged."""
    try:
        with Image.open(path) as file:
            return file.height, file.width
    except OSError as error:
        raise InputError(f"Cannot read the label map {path} ({error}); copy or download it again.") from error
