"""A photo and a PNG that numbers its regions: the regions as an annotation, the two as a sample.

N regions · H, W image pixels · h, w pixels of a view.
"""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from cropformer import IMAGE_SUFFIXES, Cut, InputError, cut_masks, rle
from entitytransfer.adapter import Sample, Truth
from entitytransfer.readers.label_png import read_foreground, read_size


def read_one_region(path: Path) -> np.ndarray:
    """Read a binary mask as numbers: uint8 [H,W], 1 where it is brighter than 128, else 0.

    Raises:
        InputError: it cannot be read, or its mode is none that masks come in.
    """
    return read_foreground(path).astype(np.uint8)


@dataclass(frozen=True)
class MaskFile:
    """The regions of one image: one for each number in its PNG, in ascending order, whether connected or not.

    Every method raises InputError if the PNG cannot be read.

    Attributes:
        image_id: what the set calls the image.
        png_path: the PNG.
        photo_folder: where the photo lies; its name is that of the PNG, but for the ending.
        read: the PNG's numbers, integers [H,W].
        background: numbers up to this one are no region.
    """

    image_id: str
    png_path: Path
    photo_folder: Path
    read: Callable[[Path], np.ndarray] = read_one_region
    background: int = 0

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels, from the head of the PNG."""
        return read_size(self.png_path)

    def masks(self) -> np.ndarray:
        """Decode every region: bool [N,H,W]."""
        numbers = self.read(self.png_path)
        return numbers[None] == self._regions(numbers)[:, None, None]  # [1,H,W] == [N,1,1] -> [N,H,W]

    def rles(self) -> list[rle.RLE]:
        """Every region as compressed COCO RLE, N of them."""
        numbers = self.read(self.png_path)
        return rle.encode_id_map(numbers, self._regions(numbers))

    def cut(self, cut: Cut) -> np.ndarray:
        """The regions as a view shows them: bool [N,h,w], those outside it empty."""
        numbers = self.read(self.png_path)
        shown = cut_masks(numbers[None], cut)  # [H,W] -> [1,H,W] -> [1,h,w]
        return shown == self._regions(numbers)[:, None, None]  # [1,h,w] == [N,1,1] -> [N,h,w]

    def labels(self) -> np.ndarray:
        """Label 0 for every region: int64 [N]."""
        return np.zeros(len(self.numbers()), dtype=np.int64)

    def truth(self) -> Truth:
        """Every region, with its number of pixels as area; none is a crowd."""
        rles = self.rles()
        count = len(rles)
        areas = np.array([rle.area(encoded) for encoded in rles], dtype=np.float64)
        return Truth(rles, np.zeros(count, dtype=np.int64), areas, np.zeros(count, dtype=bool))

    def numbers(self) -> np.ndarray:
        """The numbers of the regions: [N] ascending."""
        return self._regions(self.read(self.png_path))

    def _regions(self, numbers: np.ndarray) -> np.ndarray:
        """The numbers of a map [H,W] that are regions: [N] ascending."""
        present = np.unique(numbers)
        return present[present > self.background]


@dataclass(frozen=True)
class MatchedPhotos:
    """Which photo belongs to which mask.

    Attributes:
        pairs: masks with their photos, in the order of the masks.
        without_photo: the other masks.
        without_mask: the other photos of the same folders, in alphabetical order.
    """

    pairs: list[tuple[MaskFile, Path]]
    without_photo: list[MaskFile]
    without_mask: list[Path]


def match_photos(masks: Sequence[MaskFile]) -> MatchedPhotos:
    """Find the photo of every mask by its name without ending, which some copies of a set end in blanks."""
    pngs = {mask.png_path for mask in masks}
    listed = {folder: list_photos(folder, but=pngs) for folder in dict.fromkeys(mask.photo_folder for mask in masks)}
    found = [(mask, listed[mask.photo_folder].pop(mask.png_path.stem.strip(), None)) for mask in masks]
    return MatchedPhotos(
        pairs=[(mask, photo) for mask, photo in found if photo is not None],
        without_photo=[mask for mask, photo in found if photo is None],
        without_mask=[photo for photos in listed.values() for photo in photos.values()],
    )


def list_photos(folder: Path, *, but: Container[Path] = ()) -> dict[str, Path]:
    """The photos of a folder by their name without ending, in alphabetical order, without hidden files and ``but``."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    photos = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")]
    return {photo.stem.strip(): photo for photo in photos if photo not in but}


class MaskedPhotos(Sequence[Sample]):
    """Photos and their masks as samples; the size of one is read from its PNG's head when it is asked for.

    Args:
        pairs: masks and their photos.
        exhaustive: whether every region of every image has a mask.
    """

    def __init__(self, pairs: Sequence[tuple[MaskFile, Path]], *, exhaustive: bool) -> None:
        self._pairs = pairs
        self._exhaustive = exhaustive

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._pairs)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> "MaskedPhotos": ...

    def __getitem__(self, index: "int | slice") -> "Sample | MaskedPhotos":
        """One sample, or those of a slice.

        Raises:
            InputError: the PNG is missing or damaged.
        """
        if isinstance(index, slice):
            return MaskedPhotos(self._pairs[index], exhaustive=self._exhaustive)
        mask, photo = self._pairs[index]
        return Sample(mask.image_id, photo, mask.size_hw, mask, self._exhaustive)


def open_masks(masks: Sequence[MaskFile], *, exhaustive: bool, spare_photos: bool) -> MaskedPhotos:
    """The samples of masks.

    Args:
        masks: all of a set.
        exhaustive: whether every region of every image has a mask.
        spare_photos: whether their folders may hold photos without a mask.

    Raises:
        InputError: a mask has no photo, or a photo no mask.
    """
    matched = match_photos(masks)
    if matched.without_photo:
        first = matched.without_photo[0]
        raise InputError(
            f"There is no photo in {first.photo_folder} for {len(matched.without_photo)} of {len(masks)} masks, the "
            f"first of them {first.png_path}; unpack the whole archive again."
        )
    if matched.without_mask and not spare_photos:
        photos = len(matched.pairs) + len(matched.without_mask)
        raise InputError(
            f"There is no mask in {masks[0].png_path.parent} for {len(matched.without_mask)} of {photos} photos, the "
            f"first of them {matched.without_mask[0]}; unpack the whole archive again."
        )
    return MaskedPhotos(matched.pairs, exhaustive=exhaustive)
