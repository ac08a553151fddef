"""The frames of UVO, extracted from its videos: PNGs named by their place in the video, from 0."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cropformer import InputError
from entitytransfer.console import followed
from entitytransfer.predictions import ensure_writable, write_png
from entitytransfer.preparation.processes import first_problems, in_processes
from entitytransfer.readers.json_file import check_fields
from entitytransfer.readers.json_lists import scan_object
from entitytransfer.readers.video import VideoReader


@dataclass(frozen=True)
class UvoVideos:
    """The videos of a set and their frames.

    Attributes:
        root: the dataset's folder.
        name: "dense" or "sparse".
    """

    root: Path
    name: str

    @property
    def folder(self) -> Path:
        """Where the videos are."""
        return self.root / f"uvo_videos_{self.name}"

    @property
    def frames(self) -> Path:
        """Where the frames are put, a folder for each video."""
        return self.root / f"uvo_videos_{self.name}_frames"

    def find_frames(self) -> Path | None:
        """Where the frames are, here or under another name that copies of the set have; None if there are none."""
        places = (self.frames / "JPEGImages", self.frames, self.root / f"uvo_frames_{self.name}")
        return next((place for place in places if place.is_dir()), None)


def listed_frames(path: Path) -> dict[str, list[int]]:
    """The frames that an annotation file lists, of videos or of images: name of the video → their places in it.

    Raises:
        InputError: the file is not that, or does not call its frames ``VIDEO/PLACE.png``.
    """
    lists = {"annotations": ("annotation", ())}
    content = scan_object(path, lists=lists, fields=("videos", "images"), may_lack_lists=True)
    if "videos" not in content:
        check_fields(content, ("images",), path=path)
    try:
        entries = content.get("videos", content.get("images"))
        names = [name for entry in entries for name in entry.get("file_names", [entry.get("file_name")])]
        found: dict[str, list[int]] = defaultdict(list)
        for name in names:
            video, file = Path(name).parts
            found[video].append(int(file.removesuffix(".png")))
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} does not call its frames VIDEO/PLACE.png ({error}); check the file.") from error
    return dict(found)


def extract_frames(videos: UvoVideos, listed: Mapping[str, Sequence[int]], *, source: Path, workers: int) -> str:
    """Extract the listed frames that are not there yet, and say in a few words what was done.

    Args:
        videos: where videos and frames are.
        listed: name of a video → places of its frames.
        source: the file that lists them.
        workers: processes.

    Raises:
        InputError: videos are missing or damaged, which it says when all others are done, or the place cannot be
            written.
    """
    left = [(name, missing) for name, places in listed.items() if (missing := _missing(videos, name, places))]
    ensure_writable(videos.frames)
    made = in_processes(partial(_extract, videos), left, workers=workers)
    problems = [problem for problem in followed(made, name="videos", total=len(left)) if problem]
    if problems:
        raise InputError(
            f"{len(problems)} of the {len(listed)} videos in {source.name} could not be extracted: "
            f"{first_problems(problems)}. Get these again from the authors of UVO and start once more."
        )
    return f"{len(listed)} videos, {len(left)} of them extracted now"


def _missing(videos: UvoVideos, name: str, places: Sequence[int]) -> list[int]:
    return [place for place in places if not _frame_path(videos, name, place).is_file()]


def _frame_path(videos: UvoVideos, name: str, place: int) -> Path:
    return videos.frames / name / f"{place}.png"


def _extract(videos: UvoVideos, missing: tuple[str, Sequence[int]]) -> str | None:
    """Write the missing frames of a video; what is wrong with it, if anything is."""
    name, places = missing
    path, wanted = videos.folder / f"{name}.mp4", set(places)
    if not path.is_file():
        return f"{path} is not there"
    ensure_writable(videos.frames / name)
    try:
        with VideoReader(path, end_frame=max(wanted) + 1) as reader:
            for frame in reader:
                if frame.index in wanted:
                    write_png(_frame_path(videos, name, frame.index), frame.image)
                    wanted.remove(frame.index)
    except InputError as error:
        return str(error)
    if wanted:
        return f"{path} has no readable frame {min(wanted)}"
    return None
