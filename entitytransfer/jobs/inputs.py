"""Paths, folders, globs and lists as typed by a person, to a list of jobs whose outputs never collide."""

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import NamedTuple

from cropformer import IMAGE_SUFFIXES, InputError
from entitytransfer.readers.containers import holds_film
from entitytransfer.readers.image_folder import is_pattern, pattern_name
from entitytransfer.readers.video import PIPE, VIDEO_SUFFIXES
from entitytransfer.writers.formats import CLIP_OUTPUTS, FORMATS, IMAGE_OUTPUTS

_MANIFEST = re.compile(r"manifest(-\d+-of-\d+)?\.json")
_LIST = "@"  # before the name of a list


@dataclass(frozen=True)
class Job:
    """One image or clip to segment.

    Attributes:
        path: the file, ``-``, or the folder or the pattern of the frames.
        name: how its outputs begin, relative to the output folder: ``photo``, or ``sub/photo``.
        is_clip: whether it is a video file, a video on the standard input, or frames.
    """

    path: Path
    name: str
    is_clip: bool

    def formats(self, wanted: Set[str]) -> list[str]:
        """Those of the wanted formats that exist for this kind of input."""
        return [name for name in self._outputs if name in wanted]

    def output_names(self, wanted: Set[str] = frozenset(FORMATS)) -> list[str]:
        """Every file (or folder of id images) that the wanted formats give, relative to the output folder."""
        return [self.name + ending for name in self.formats(wanted) for ending in self._outputs[name]]

    @property
    def _outputs(self) -> dict[str, tuple[str, ...]]:
        return CLIP_OUTPUTS if self.is_clip else IMAGE_OUTPUTS


def find_jobs(
    paths: Sequence[str | Path], *, out_dir: Path, frames: bool = False
) -> tuple[list[Job], list[InputError]]:
    """One job for every image and video file that the paths stand for, in their order, none twice.

    A folder stands for the files in it and in its sub-folders, which the outputs mirror; hidden files and the
    output folder are passed over. A name that is taken gets a number: ``photo``, ``photo-2``; so does one whose
    outputs would take the place of a `Manifest`. A file that is named is a clip if its suffix says so, or if its suffix
    says nothing and FFmpeg finds a film in it. Two kinds of clip are no file: ``-``, a video on the standard input, and
    frames by a pattern of their numbers, ``frames/%05d.png``. ``@clips.txt`` is a list with one path on each line,
    relative to the working folder; empty lines and those that begin with ``#`` are passed over.

    Args:
        paths: files, folders, glob patterns, lists, and the two kinds of clip.
        out_dir: where the outputs will go.
        frames: the images of a folder are the frames of one clip, those of a sub-folder of another; a folder is
            called by its own name.

    Returns:
        The jobs, and one error for each path that stands for nothing and each folder that cannot be read.
    """
    finder = _Finder(out_dir.resolve(), frames)
    jobs: list[Job] = []
    seen: set[Path] = set()
    taken: set[str] = set()
    for found in finder.find(map(str, paths)):
        if found.path.resolve() not in seen:
            seen.add(found.path.resolve())
            jobs.append(_free_job(found, taken))
            taken.update(_on_disk(jobs[-1]))
    return jobs, finder.errors


class _Found(NamedTuple):
    """A file, or what else is one job, and the name that its outputs would like."""

    path: Path
    name: str


@dataclass
class _Finder:
    """Looks up what paths stand for, and keeps an error for each that stands for nothing."""

    out_dir: Path
    frames: bool
    errors: list[InputError] = field(default_factory=list)

    def find(self, paths: Iterable[str], *, place: str = "") -> Iterator[_Found]:
        """What the paths stand for, those in lists too; messages say ``place`` first."""
        for path in paths:
            try:
                if path.startswith(_LIST) and not place and not Path(path).exists():
                    for line, listed in _read_list(Path(path[1:])):
                        yield from self.find([listed], place=f"{path[1:]}, line {line}: ")
                else:
                    yield from self._expand(path)
            except InputError as error:
                self.errors.append(InputError(f"{place}{error}"))
            except OSError as error:
                sentence = f"{place}{path} cannot be read ({error.strerror}); check its permissions."
                self.errors.append(InputError(sentence))

    def _expand(self, path: str) -> Iterator[_Found]:
        if path == PIPE:
            return iter([_Found(Path(PIPE), "stdin")])
        if is_pattern(Path(path)):
            return iter([_Found(Path(path), pattern_name(Path(path)))])
        matches = [path]
        if not Path(path).exists():
            matches = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
        if not matches:
            raise InputError(f"There is no file or folder {path}; check the path.")
        found = (self._search(match) if match.is_dir() else [_Found(match, match.stem)] for match in map(Path, matches))
        return (one for group in found for one in group)

    def _search(self, folder: Path) -> list[_Found]:
        if folder.resolve() == self.out_dir:
            raise InputError(f"{folder} is both input and output; choose another --out, so as not to mix them.")
        known = len(self.errors)
        found = sorted(self._walk(folder))
        if not found and len(self.errors) == known:
            raise InputError(f"The folder {folder} holds no image and no video; give a folder that does.")
        return found

    def _walk(self, top: Path) -> Iterator[_Found]:
        """The media in a folder and in those below it, into each of which it goes once, whatever links lead there."""
        seen = {self.out_dir, top.resolve()}

        def is_new(folder: Path) -> bool:
            is_new = not folder.name.startswith(".") and folder.resolve() not in seen
            seen.add(folder.resolve())
            return is_new

        for here, folders, files in os.walk(top, onerror=self._note, followlinks=True):
            folder = Path(here)
            folders[:] = [name for name in sorted(folders) if is_new(folder / name)]
            visible = [folder / name for name in files if not name.startswith(".")]
            suffixes = VIDEO_SUFFIXES if self.frames else VIDEO_SUFFIXES | IMAGE_SUFFIXES
            for file in visible:
                if file.suffix.lower() in suffixes:
                    yield _Found(file, file.relative_to(top).with_suffix("").as_posix())
            if self.frames and any(file.suffix.lower() in IMAGE_SUFFIXES for file in visible):
                yield _Found(folder, top.resolve().name if folder == top else folder.relative_to(top).as_posix())

    def _note(self, error: OSError) -> None:
        sentence = f"The folder {error.filename} cannot be read ({error.strerror}); check its permissions."
        self.errors.append(InputError(sentence))


def _read_list(file: Path) -> list[tuple[int, str]]:
    """The paths in a list, each with the number of its line."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"The list {file} cannot be read ({error.strerror}); check the path after the @.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is no text in UTF-8; give a list with one path on each line.") from error
    paths = [(number, line.strip()) for number, line in enumerate(lines, start=1)]
    paths = [(number, path) for number, path in paths if path and not path.startswith("#")]
    if not paths:
        raise InputError(f"{file} lists nothing; write one path on each line.")
    return paths


def _free_job(found: _Found, taken: Set[str]) -> Job:
    """The job under the first of name, name-2, name-3, ... that leaves every earlier output alone."""
    is_clip = _is_clip(found.path)
    names = (found.name if number == 1 else f"{found.name}-{number}" for number in count(1))
    jobs = (Job(found.path, name, is_clip) for name in names)
    return next(job for job in jobs if not (_on_disk(job) & taken or any(map(_MANIFEST.fullmatch, _on_disk(job)))))


def _is_clip(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES or str(path) == PIPE or is_pattern(path) or path.is_dir():
        return True
    return suffix not in IMAGE_SUFFIXES and holds_film(path)


def _on_disk(job: Job) -> set[str]:
    """The outputs as a disk that ignores case would tell them apart."""
    return {name.casefold() for name in job.output_names()}
