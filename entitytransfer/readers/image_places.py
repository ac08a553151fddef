"""Where an image file is, if the copies of a set disagree about its folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ImagePlaces:
    """Folders of which any may hold an image.

    Attributes:
        folders: in the order in which they are looked into.
    """

    folders: tuple[Path, ...]

    def locate(self, file_name: str) -> Path:
        """Where an image is; where it should be if there is none."""
        return first_existing([folder / file_name for folder in self.folders])


def first_existing(places: Sequence[Path]) -> Path:
    """The first place where there is something; the first of all if there is nothing."""
    return next((place for place in places if place.exists()), places[0])
