"""Images as a clip: those of a folder in natural order of their names, or those that a numbered pattern stands for."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cropformer import IMAGE_SUFFIXES, InputError, read_image
from entitytransfer.readers.clip import Clip, Picture, Range

FOLDER_FPS = 24.0
_NUMBER = re.compile(r"%0?\d*d")  # as in frame_%05d.png


class ImageFolder(Clip):
    """The images of a folder, or of ``folder/name_%05d.png``; all have the size of the first that can be read."""

    fps = FOLDER_FPS

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._files = sorted(_matching(path) if is_pattern(path) else _images(path), key=_natural_key)
        self.declared_frames = len(self._files)
        first = next((image for image in map(self._image, self._files) if image is not None), None)
        if first is None:
            kind = "pattern" if is_pattern(path) else "folder"
            raise InputError(f"The {kind} {path} holds no image that can be read; give a folder of frames.")
        self.size_hw = first.shape[:2]

    def _pictures(self, wanted: Range, *, first: int) -> Iterator[Picture]:
        return (Picture(index, index / self.fps, file) for index, file in enumerate(self._files))

    def _image(self, source: Path) -> np.ndarray | None:
        try:
            image = read_image(source)
        except InputError:
            self._report_break()
            return None
        self._check_size(source, image)
        return image

    def _check_end(self) -> None:
        """A folder holds what it holds."""

    def _check_size(self, file: Path, image: np.ndarray) -> None:
        if image.shape[:2] != getattr(self, "size_hw", image.shape[:2]):
            (height, width), (first_height, first_width) = image.shape[:2], self.size_hw
            raise InputError(
                f"{file} is {width}x{height} where the clip began with {first_width}x{first_height}; "
                "resize the frames to one size, or segment the images one by one."
            )


def is_pattern(path: Path) -> bool:
    """Whether a path that does not exist stands for numbered frames, as ``frames/%05d.png`` does."""
    return not path.exists() and len(_NUMBER.findall(path.name)) == 1


def pattern_name(pattern: Path) -> str:
    """What numbered frames are called together: ``walk`` for ``walk_%d.png``, else the name of their folder."""
    stem = _NUMBER.sub("", pattern.stem).strip("_-. ")
    return stem or pattern.absolute().parent.name


def _images(folder: Path) -> Iterator[Path]:
    return (file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)


def _matching(pattern: Path) -> list[Path]:
    """The files that a numbered pattern stands for, whatever number they begin with; gaps do not matter."""
    before, after = map(re.escape, _NUMBER.split(pattern.name))
    numbered = re.compile(rf"{before}\d+{after}")
    return (
        [file for file in _images(pattern.parent) if numbered.fullmatch(file.name)] if pattern.parent.is_dir() else []
    )


def _natural_key(path: Path) -> list[str | int]:
    """Sort key by which frame2 comes before frame10: text and numbers in turn."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", path.name))]
