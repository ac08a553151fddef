"""A folder of images as a clip, in natural order of their names."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cropformer import IMAGE_SUFFIXES, InputError, read_image
from entitytransfer.readers.clip import Clip, Frame, is_selected

FOLDER_FPS = 24.0


class ImageFolder(Clip):
    """The images of a folder; all have the size of the first that can be read."""

    fps = FOLDER_FPS

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        files = (file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
        self._files = sorted(files, key=_natural_key)
        self.declared_frames = len(self._files)
        first = next((image for image in map(self._read, self._files) if image is not None), None)
        if first is None:
            raise InputError(f"The folder {path} holds no image that can be read; give a folder of frames.")
        self.size_hw = first.shape[:2]
        self._restart()

    def frames(self, selection: slice) -> Iterator[Frame]:
        """See `Clip.frames`."""
        self._restart()
        for index, file in enumerate(self._files[: selection.stop]):
            time_s = index / self.fps
            if not is_selected(index, selection):
                self._count(time_s)
            elif (image := self._read(file)) is not None:
                self._check_size(file, image)
                self._count(time_s)
                yield Frame(index, time_s, image)
        self._check_start(selection.start)

    def _read(self, file: Path) -> np.ndarray | None:
        try:
            return read_image(file)
        except InputError:
            self._report_break()
            return None

    def _check_size(self, file: Path, image: np.ndarray) -> None:
        if image.shape[:2] != self.size_hw:
            (height, width), (first_height, first_width) = image.shape[:2], self.size_hw
            raise InputError(
                f"{file} is {width}x{height} where the clip began with {first_width}x{first_height}; "
                "resize the frames to one size, or segment the images one by one."
            )


def _natural_key(path: Path) -> list[str | int]:
    """Sort key by which frame2 comes before frame10: text and numbers in turn."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", path.name))]
