"""Opening what FFmpeg reads through PyAV, and choosing the stream of pictures in it."""

from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from cropformer import InputError

_NO_FILMS = frozenset({"image2", "tty"})  # FFmpeg's names for pictures and for text that it would type out


def open_container(url: str, name: str) -> InputContainer:
    """Open a file or a pipe; messages call it ``name``.

    Raises:
        InputError: FFmpeg cannot make anything of it.
    """
    try:
        return av.open(url, metadata_errors="replace")  # a damaged title is no reason to refuse the pictures
    except (av.FFmpegError, OSError) as error:
        raise InputError(
            f"{name} is not a video that can be read ({error.strerror}); check or copy it again."
        ) from error


def video_stream(container: InputContainer) -> VideoStream | None:
    """The best stream of pictures by FFmpeg's judgement, which puts films before covers; None if there is none."""
    return container.streams.best("video")


def find_video_stream(container: InputContainer, name: str) -> VideoStream:
    """Likewise.

    Raises:
        InputError: there is none.
    """
    stream = video_stream(container)
    if stream is None:
        raise InputError(f"{name} has no video stream, or has lost what tells of it; give a file with pictures.")
    return stream


def holds_film(path: Path) -> bool:
    """Whether FFmpeg takes a file for a film by what is in it; a picture is none, and neither is text."""
    if not path.is_file():
        return False
    try:
        with open_container(f"file:{path}", str(path)) as container:
            name = container.format.name
            return video_stream(container) is not None and not (name.endswith("_pipe") or name in _NO_FILMS)
    except InputError:
        return False


def start_of(stream: VideoStream) -> float:
    """The time stamp in seconds at which a stream begins, from which the times of a clip count."""
    return float((stream.start_time or 0) * stream.time_base)
