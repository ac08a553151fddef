"""A clip as a stream of RGB frames at constant memory: a video file, a pipe, or images in natural order.

Damage does not raise: every frame that can be decoded is yielded, then ``warning`` says where it broke.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

from cropformer import InputError
from entitytransfer.readers.clip import Clip, Frame, Range
from entitytransfer.readers.image_folder import ImageFolder, is_pattern
from entitytransfer.readers.library_file import LibraryFile
from entitytransfer.readers.video_file import VideoFile
from entitytransfer.readers.video_pipe import PIPE, VideoPipe

__all__ = ["PIPE", "VIDEO_SUFFIXES", "Backend", "Frame", "VideoReader"]

Backend: TypeAlias = Literal["pyav", "decord", "torchcodec", "opencv"]
_SUFFIXES = ".3gp .avi .flv .gif .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .ogv .ts .webm .wmv"
VIDEO_SUFFIXES = frozenset(_SUFFIXES.split())


class VideoReader:
    """Context manager and iterable of `Frame`; iterating again starts from the beginning.

    Args:
        path: a video file; a folder of images, or a pattern such as ``frames/%05d.png`` (24 frames per second are
            assumed); or ``-``, a video on the standard input, which can be read once.
        stride: yield every ``stride``-th frame of the range.
        start_frame: first frame of the range, exact: as counted from the start of the clip.
        end_frame: the range ends before this frame; None = at the end of the clip.
        start_s: no frame before this time of the clip; both this and ``start_frame`` hold.
        end_s: no frame at or after this time; None = up to the end.
        backend: which library decodes video files; where another than PyAV fails, PyAV goes on.

    Attributes:
        size_hw: height and width in pixels, after the rotation that the file asks for.
        fps: frames per second of the clip, before ``stride``.
        declared_frames: frames that the clip claims to hold, None if it does not say.
        expected_frames: those of them in the range, that is, how many iteration should yield; None likewise. Limits
            in seconds take the frames as evenly spaced.

    Raises:
        InputError: missing, empty or unreadable, no video stream, no frame that decodes, an empty range, or a
            backend that is not installed or does not suit the file.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        stride: int = 1,
        start_frame: int = 0,
        end_frame: int | None = None,
        start_s: float = 0.0,
        end_s: float | None = None,
        backend: Backend = "pyav",
    ) -> None:
        self._range = Range(start_frame, end_frame, start_s, end_s, stride)
        self._clip = _open_clip(Path(path), backend)
        self._frames: Iterator[Frame] | None = None
        self.size_hw = self._clip.size_hw
        self.fps = self._clip.fps
        self.declared_frames = self._clip.declared_frames
        self.expected_frames = None
        if self.declared_frames is not None:
            self.expected_frames = self._range.expected_frames(declared_frames=self.declared_frames, fps=self.fps)

    @property
    def decoded_frames(self) -> int:
        """Frames read or passed over so far, from the beginning of the clip."""
        return self._clip.decoded_frames

    @property
    def tally(self) -> tuple[int, float | None]:
        """`decoded_frames`, and where damage was first met; set it to that of a run that this one continues."""
        return self._clip.decoded_frames, self._clip.broken_at_s

    @tally.setter
    def tally(self, earlier: tuple[int, float | None]) -> None:
        """Go on counting from an earlier run."""
        self._clip.decoded_frames, self._clip.broken_at_s = earlier

    @property
    def warning(self) -> str | None:
        """After iteration: one sentence if frames were damaged or missing, else None."""
        clip = self._clip
        if clip.broken_at_s is None:
            return None
        count, declared = self.decoded_frames, self.declared_frames
        frames = f"{count} of {declared} frames" if declared else f"{count} frame{'s' if count > 1 else ''}"
        later = ", those after the break perhaps with flaws" if clip.end_s > clip.broken_at_s else ""
        return (
            f"{clip.name} is damaged or cut off at {clip.broken_at_s:.2f} s: "
            f"{frames} could be read{later}; copy it again to get the rest."
        )

    def __enter__(self) -> "VideoReader":
        """Give the reader itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the file."""
        if self._frames is not None:
            self._frames.close()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames of the range in order."""
        return self.frames_from(0)

    def frames_from(self, index: int) -> Iterator[Frame]:
        """Those frames of the range whose number in the clip is at least ``index``: what was left of an earlier run.

        A video file whose pictures have time stamps is decoded from the key frame before.
        """
        self._frames = self._clip.frames(self._range, first=index)
        return self._frames


def _open_clip(path: Path, backend: Backend) -> Clip:
    if str(path) == PIPE:
        return VideoPipe()
    if path.is_dir() or is_pattern(path):
        return ImageFolder(path)
    if not path.exists():
        raise InputError(f"There is no video {path}; check the path.")
    if not path.stat().st_size:
        raise InputError(f"{path} is empty (0 bytes); copy or download it again.")
    return _open_file(path, backend)


def _open_file(path: Path, backend: Backend) -> VideoFile:
    match backend:
        case "pyav":
            return VideoFile(path)
        case "decord":
            from entitytransfer.readers.decord_source import DecordSource as Source
        case "torchcodec":
            from entitytransfer.readers.torchcodec_source import TorchcodecSource as Source
        case "opencv":
            from entitytransfer.readers.opencv_source import OpencvSource as Source
        case _:
            raise InputError(f"There is no video backend {backend!r}; choose pyav, decord, torchcodec or opencv.")
    return LibraryFile(path, Source)
