"""Skeletons of masks, which take most of the time of HCE and depend on the ground truth alone: computed, or kept."""

import hashlib
from pathlib import Path

import numpy as np
from skimage.morphology import skeletonize

from cropformer import InputError
from entitytransfer.predictions import ensure_writable, write_png
from entitytransfer.readers.label_png import read_foreground


class SkeletonCache:
    """Skeletons in a folder of PNGs, called after the content of their masks.

    Args:
        folder: made if needed; None = nothing is kept.

    Raises:
        InputError: the folder takes no file.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = None if folder is None else ensure_writable(folder)

    def skeleton(self, mask: np.ndarray) -> np.ndarray:
        """The skeleton of a mask, from the folder if it is there.

        Raises:
            InputError: the file in the folder is damaged, or is not a skeleton of this mask.
        """
        if self._folder is None:
            return skeleton_of(mask)
        path = self._folder / f"{_content_key(mask)}.png"
        if path.exists():
            return _read_skeleton(path, mask)
        skeleton = skeleton_of(mask)
        write_png(path, skeleton)
        return skeleton


def skeleton_of(mask: np.ndarray) -> np.ndarray:
    """The one pixel wide centre lines of a mask, bool [H,W] (Zhang and Suen, as scikit-image thins)."""
    return skeletonize(mask).astype(bool, copy=False)


def _read_skeleton(path: Path, mask: np.ndarray) -> np.ndarray:
    try:
        skeleton = read_foreground(path)
    except InputError as error:
        raise InputError(f"The kept skeleton {path} cannot be read; delete it.") from error
    if skeleton.shape != mask.shape or (skeleton & ~mask).any():
        raise InputError(f"The kept skeleton {path} does not belong to its mask; delete it.")
    return skeleton


def _content_key(mask: np.ndarray) -> str:
    height, width = mask.shape
    return hashlib.blake2b(np.packbits(mask).tobytes(), digest_size=16, key=f"{height}x{width}".encode()).hexdigest()
