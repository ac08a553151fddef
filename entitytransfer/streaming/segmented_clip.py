"""A clip while it is being segmented: its results window by window, or frame by frame."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from entitytransfer.clip_heads import ClipHead
from entitytransfer.readers.video import VideoReader
from entitytransfer.streaming.sample_frames import SampleFrames
from entitytransfer.tracklets import FrameResult, Links


@dataclass(frozen=True, eq=False)
class WindowTracks:
    """One window of a clip, linked to those before.

    Attributes:
        frames: those that no window before has shown.
        links: the tracks of its queries, with what is known of them by now.
        state: what `VideoSegmenter.segment` needs to go on after this window; plain values and arrays.
    """

    frames: list[FrameResult]
    links: Links
    state: dict[str, Any]


class SegmentedClip(Iterator[FrameResult]):
    """The running segmentation of one clip: an iterator of `FrameResult` that reads ahead one window at most.

    Attributes:
        windows: the same as an iterator of `WindowTracks`; use one of the two.
        head: what judges the tracks when the clip is over.
        size_hw: height and width of the frames in pixels.
        fps: results per second of the clip, that is, after ``stride``.
        expected_frames: how many results the clip promises, None if the file does not say.

    Args:
        reader: what gives the frames.
        windows: see above.
        head: likewise.
        fps: likewise.
        done: results that an earlier run has given.
    """

    def __init__(
        self,
        reader: VideoReader | SampleFrames,
        windows: Iterator[WindowTracks],
        *,
        head: ClipHead,
        fps: float,
        done: int,
    ) -> None:
        self._reader = reader
        self._results = (frame for window in windows for frame in window.frames)
        self.windows = windows
        self.head = head
        self.size_hw = reader.size_hw
        self.fps = fps
        expected = reader.expected_frames
        self.expected_frames = None if expected is None else expected - done

    @property
    def warning(self) -> str | None:
        """After the last result: one sentence if frames of the clip were damaged or missing, else None."""
        return self._reader.warning

    def __next__(self) -> FrameResult:
        """Give the next frame."""
        return next(self._results)
