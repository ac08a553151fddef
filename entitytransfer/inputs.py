"""Paths, folders and globs as typed by a person, to a list of jobs whose outputs never collide."""

import glob
import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from cropformer import IMAGE_SUFFIXES, InputError
from entitytransfer.readers.image_folder import is_pattern, pattern_name
from entitytransfer.readers.video import PIPE, VIDEO_SUFFIXES

IMAGE_OUTPUTS = {
    "overlay": ("_overlay.png",),
    "ids": ("_ids.png",),
    "coco": (".json",),
    "panoptic": ("_panoptic.png", "_panoptic.json"),
}
CLIP_OUTPUTS = {"overlay": ("_overlay.mp4",), "ids": ("_ids",), "ytvis": ("_ytvis.json",), "vipseg": ("_vipseg",)}
FORMATS = tuple(IMAGE_OUTPUTS | CLIP_OUTPUTS)
PANOPTIC_FORMATS = frozenset({"vipseg"})  # which need a panoptic head
_MANIFEST = re.compile(r"manifest(-\d+-of-\d+)?\.json")


@dataclass(frozen=True)
class Job:
    """One image or clip to segment.

    Attributes:
        path: the file, ``-``, or the pattern of the frames.
        name: how its outputs begin, relative to the output folder: ``photo``, or ``sub/photo``.
        is_clip: whether it is a video file, a video on the standard input, or numbered frames.
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


def find_jobs(paths: Sequence[str | Path], *, out_dir: Path) -> tuple[list[Job], list[InputError]]:
    """One job for every image and video file that the paths stand for, in their order, none twice.

    A folder stands for the files in it and in its sub-folders, which the outputs mirror; hidden files and the
    output folder are passed over. A name that is taken gets a number: ``photo``, ``photo-2``; so does one whose
    outputs would take the place of a `Manifest`. Two kinds of clip are
    no file: ``-``, a video on the standard input, and frames by a pattern of their numbers, ``frames/%05d.png``.

    Args:
        paths: files, folders, glob patterns, and the two kinds of clip.
        out_dir: where the outputs will go.

    Returns:
        The jobs, and one error for each path that stands for nothing.
    """
    jobs: list[Job] = []
    errors: list[InputError] = []
    seen: set[Path] = set()
    taken: set[str] = set()
    for path in paths:
        try:
            found = _expand(str(path), out_dir)
        except InputError as error:
            errors.append(error)
            continue
        for file, name in found:
            if file.resolve() not in seen:
                seen.add(file.resolve())
                jobs.append(_free_job(file, name, taken))
                taken.update(_on_disk(jobs[-1]))
    return jobs, errors


def _expand(pattern: str, out_dir: Path) -> list[tuple[Path, str]]:
    """The files that one path stands for, each with the name that its outputs would like."""
    if pattern == PIPE:
        return [(Path(PIPE), "stdin")]
    if is_pattern(Path(pattern)):
        return [(Path(pattern), pattern_name(Path(pattern)))]
    matches = [pattern]
    if not Path(pattern).exists():
        matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
    if not matches:
        raise InputError(f"There is no file or folder {pattern}; check the path.")
    found: list[tuple[Path, str]] = []
    for path in map(Path, matches):
        found += _search(path, out_dir) if path.is_dir() else [(path, path.stem)]
    return found


def _search(folder: Path, out_dir: Path) -> list[tuple[Path, str]]:
    if folder.resolve() == out_dir.resolve():
        raise InputError(f"{folder} is both input and output; choose another --out, so as not to mix them.")
    files = sorted(_media_files(folder, out_dir.resolve()))
    if not files:
        raise InputError(f"The folder {folder} holds no image and no video; give a folder that does.")
    return [(file, file.relative_to(folder).with_suffix("").as_posix()) for file in files]


def _media_files(folder: Path, skipped: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if path.resolve() != skipped:
                yield from _media_files(path, skipped)
        elif path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
            yield path


def _free_job(path: Path, name: str, taken: Set[str]) -> Job:
    """The job under the first of name, name-2, name-3, ... that leaves every earlier output alone."""
    is_clip = path.suffix.lower() in VIDEO_SUFFIXES or str(path) == PIPE or is_pattern(path)
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    jobs = (Job(path, name, is_clip) for name in names)
    return next(job for job in jobs if not (_on_disk(job) & taken or any(map(_MANIFEST.fullmatch, _on_disk(job)))))


def _on_disk(job: Job) -> set[str]:
    """The outputs as a disk that ignores case would tell them apart."""
    return {name.casefold() for name in job.output_names()}
