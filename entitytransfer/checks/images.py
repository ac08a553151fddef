"""Checks of image files against what an annotation file says about them."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from PIL import ExifTags, Image

from cropformer import IMAGE_SUFFIXES, InputError, read_image
from entitytransfer.console import followed
from entitytransfer.doctor import Finding
from entitytransfer.threads import thread_pool

T = TypeVar("T")
R = TypeVar("R")

DOWNLOAD_AGAIN = "Download the annotation file again, or correct it."  # what helps against most that is wrong in it

_EXAMPLES = 3
_TURNED = {5, 6, 7, 8}  # EXIF orientations that swap height and width
_JPEG_END = b"\xff\xd9"


@dataclass(frozen=True)
class ListedImage:
    """An image as an annotation file lists it: its id, where it should be, and its height and width in pixels."""

    image_id: int | str
    path: Path
    size_hw: tuple[int, int]


class Photos:
    """Sizes of image files, each file looked at once.

    Args:
        full: decode the files instead of reading their heads. A JPEG that stops early is decoded in any case.
    """

    def __init__(self, *, full: bool) -> None:
        self._read_size = partial(_size_or_error, full=full)
        self._known: dict[Path, tuple[int, int] | Exception] = {}

    @property
    def known(self) -> Collection[Path]:
        """The files that were asked about."""
        return self._known.keys()

    def sizes_hw(self, paths: Iterable[Path]) -> dict[Path, tuple[int, int] | Exception]:
        """Height and width of every file as a viewer shows it, or why it has none: FileNotFoundError or InputError."""
        paths = list(dict.fromkeys(paths))
        fresh = [path for path in paths if path not in self._known]
        self._known |= zip(fresh, in_parallel(self._read_size, fresh, name="images"))
        return {path: self._known[path] for path in paths}


def in_parallel(check: Callable[[T], R], items: Sequence[T], *, name: str) -> list[R]:
    """``check`` of every item, in order, with progress; ``name`` is what the items are."""
    with thread_pool(os.cpu_count() or 1) as pool:
        return list(followed(pool.map(check, items), name=name, total=len(items)))


def examples(items: Iterable[object]) -> str:
    """The first few of some items, for a sentence."""
    names = [item.name if isinstance(item, Path) else str(item) for item in items]
    return ", ".join(names[:_EXAMPLES]) + (", ..." if len(names) > _EXAMPLES else "")


def count(number: int, noun: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def check_images(listed: Sequence[ListedImage], photos: Photos, *, source: Path, download: str) -> Iterator[Finding]:
    """Every listed image is there, can be read, and has the size that is stated.

    Args:
        listed: the images.
        photos: sizes of the files.
        source: the file that lists them.
        download: what to do about missing images.
    """
    sizes = photos.sizes_hw(image.path for image in listed)
    missing = [path for path, size in sizes.items() if isinstance(size, FileNotFoundError)]
    if missing:
        what = f"{count(len(missing), 'image')} of {len(sizes):,} in {source.name} missing: {examples(missing)}"
        yield Finding("missing", what, missing[0].parent, download)
    broken = {path: size for path, size in sizes.items() if isinstance(size, InputError)}
    if broken:
        what = f"{count(len(broken), 'image')} unreadable: {examples(broken)}; {next(iter(broken.values()))}"
        yield Finding("broken", what, next(iter(broken)).parent, "Delete and download these again.")
    other = [image for image in listed if isinstance(sizes[image.path], tuple) and sizes[image.path] != image.size_hw]
    if other:
        first = other[0]
        what = (
            f"{count(len(other), 'image')} not of the annotated size: {examples(image.path for image in other)}; "
            f"{first.path.name} is {_wxh(sizes[first.path])}, annotated {_wxh(first.size_hw)}"
        )
        yield Finding("broken", what, first.path.parent, "Put back the original images.")


def check_listing(listed: Sequence[ListedImage], *, source: Path) -> Iterator[Finding]:
    """No id and no file is listed twice."""
    for noun, values in (("id", (i.image_id for i in listed)), ("file", (i.path for i in listed))):
        twice = [value for value, times in Counter(values).items() if times > 1]
        if twice:
            what = f"{count(len(twice), f'image {noun}')} listed more than once: {examples(twice)}"
            yield Finding("broken", what, source, DOWNLOAD_AGAIN)


def check_published(number: int, published: int, noun: str, *, name: str, where: Path) -> Iterator[Finding]:
    """There are as many as are published; fewer may be a part that was chosen, or a broken download.

    Args:
        number: how many there are.
        published: how many there should be.
        noun: what they are.
        name: what they are in.
        where: the file or folder.
    """
    if number != published:
        what = f"{count(number, noun)} in {name}, where {published:,} are published"
        yield Finding("note", what, where, "Download the others unless a part of the set is enough.")


def image_files(folder: Path) -> Iterator[Path]:
    """The image files of a folder and its sub-folders, but for hidden ones."""
    files = (file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    return (file for file in files if not file.name.startswith("."))


def check_folder(folder: Path, *, name: str, published: int, download: str) -> Iterator[Finding]:
    """A folder of images is there and holds as many as are published.

    Args:
        folder: the images are in it or in its sub-folders.
        name: what it is called.
        published: how many images there are.
        download: what to do if there are none.
    """
    if not folder.is_dir():
        yield Finding("missing", f"no folder {name}", folder.parent, download)
        return
    number = sum(1 for _ in image_files(folder))
    yield from check_published(number, published, "image", name=name, where=folder)


def check_strays(folder: Path, known: Container[Path]) -> Iterator[Finding]:
    """Every image file of a folder and its sub-folders is annotated, one of the ``known``."""
    files = sorted(file for file in image_files(folder) if file not in known)
    if files:
        what = f"{count(len(files), 'image')} without annotation: {examples(files)}"
        yield Finding("note", what, folder, "They are not used.")


def image_size_hw(path: Path, *, full: bool = False) -> tuple[int, int]:
    """Height and width of an image as a viewer shows it, from the head of its file.

    Args:
        path: the image file. A JPEG that stops early is decoded, so that it is found out.
        full: decode any file.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: it cannot be read.
    """
    try:
        if full or not _ends_well(path):
            height, width, _ = read_image(path).shape
            return height, width
        with Image.open(path) as file:
            turned = file.getexif().get(ExifTags.Base.Orientation) in _TURNED
            return (file.width, file.height) if turned else (file.height, file.width)
    except (FileNotFoundError, InputError):
        raise
    except Exception as error:  # Pillow raises almost any type on damaged bytes
        raise InputError(f"{path} cannot be read ({error}).") from error


def _size_or_error(path: Path, *, full: bool) -> tuple[int, int] | Exception:
    try:
        return image_size_hw(path, full=full)
    except (FileNotFoundError, InputError) as error:
        return error


def _ends_well(path: Path) -> bool:
    """Whether a JPEG has its end marker, which a broken download lacks; True for other formats."""
    if path.suffix.lower() not in {".jpg", ".jpeg"}:
        path.stat()
        return True
    with path.open("rb") as file:
        file.seek(-min(len(_JPEG_END), file.seek(0, os.SEEK_END)), os.SEEK_END)
        return file.read() == _JPEG_END


def _wxh(size_hw: tuple[int, int]) -> str:
    return f"{size_hw[1]}x{size_hw[0]}"
