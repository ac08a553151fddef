"""A clip as a stream of RGB frames at constant memory: a video file, or a folder of images in natural order.

Damage does not raise: every frame that can be decoded is yielded, then ``warning`` says where it broke.
"""

from collections.abc import Iterator
from pathlib import Path

from cropformer import InputError
from entitytransfer.readers.clip import Frame
from entitytransfer.readers.image_folder import ImageFolder
from entitytransfer.readers.video_file import VideoFile

__all__ = ["VIDEO_SUFFIXES", "Frame", "VideoReader"]

_SUFFIXES = ".3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .ogv .ts .webm .wmv"
VIDEO_SUFFIXES = frozenset(_SUFFIXES.split())


class VideoReader:
    """Context manager and iterable of `Frame`; iterating again starts from the beginning.

    Args:
        path: a video file, or a folder of images (24 frames per second are assumed).
        stride: yield every ``stride``-th frame of the range.
        start_frame: first frame of the range; frames are counted, not sought, so the index is exact.
        end_frame: the range ends before this frame; None = at the end of the clip.

    Attributes:
        size_hw: height and width in pixels, after the rotation that the file asks for.
        fps: frames per second of the clip, before ``stride``.
        declared_frames: frames that the clip claims to hold, None if it does not say.
        expected_frames: those of them in the range, that is, how many iteration should yield; None likewise.

    Raises:
        InputError: missing, empty or unreadable, no video stream, no frame that decodes, or an empty range.
    """

    def __init__(
        self, path: str | Path, *, stride: int = 1, start_frame: int = 0, end_frame: int | None = None
    ) -> None:
        _check_range(stride, start_frame, end_frame)
        path = Path(path)
        _check_path(path)
        self._clip = ImageFolder(path) if path.is_dir() else VideoFile(path)
        self._selection = slice(start_frame, end_frame, stride)
        self._frames: Iterator[Frame] | None = None
        self.size_hw = self._clip.size_hw
        self.fps = self._clip.fps
        self.declared_frames = self._clip.declared_frames
        self.expected_frames = None
        if self.declared_frames is not None:
            self.expected_frames = len(range(self.declared_frames)[self._selection])

    @property
    def decoded_frames(self) -> int:
        """Frames read or passed over so far, from the beginning of the clip."""
        return self._clip.decoded_frames

    @property
    def warning(self) -> str | None:
        """After iteration: one sentence if frames were damaged or missing, else None."""
        clip = self._clip
        if clip.broken_at_s is None:
            return None
        declared = f" of {self.declared_frames}" if self.declared_frames else ""
        later = ", those after the break perhaps with flaws" if clip.end_s > clip.broken_at_s else ""
        return (
            f"{clip.path} is damaged or cut off at {clip.broken_at_s:.2f} s: "
            f"{self.decoded_frames}{declared} frames could be read{later}; copy it again to get the rest."
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
        self._frames = self._clip.frames(self._selection)
        return self._frames


def _check_range(stride: int, start_frame: int, end_frame: int | None) -> None:
    if stride < 1 or start_frame < 0 or (end_frame is not None and end_frame <= start_frame):
        raise InputError(
            f"Frames {start_frame} to {end_frame} with stride {stride} are no range; "
            "give a stride of at least 1 and an end after the start."
        )


def _check_path(path: Path) -> None:
    if not path.exists():
        raise InputError(f"There is no video {path}; check the path.")
    if path.is_file() and not path.stat().st_size:
        raise InputError(f"{path} is empty (0 bytes); copy or download it again.")
