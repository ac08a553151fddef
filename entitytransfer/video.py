"""Video segmentation at constant memory: decode, cut into windows, segment each, link, stream out."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from cropformer import Entities, InputError
from entitytransfer.readers.video import Frame, VideoReader
from entitytransfer.tracklets import FrameResult, Linker


class ClipModel(Protocol):
    """What a model needs for video: the frames of a window in, their entities with shared query ids out."""

    def segment_clip(
        self,
        frames: list[np.ndarray],
        *,
        short_side: int | None,
        max_side: int | None,
        min_score: float | None,
    ) -> list[Entities]:
        """One ``Entities`` per frame, uint8 RGB [H,W,3]; None leaves a number to the model's own default."""


class SegmentedClip(Iterator[FrameResult]):
    """The running segmentation of one clip: an iterator of `FrameResult` that reads ahead one window at most.

    Attributes:
        size_hw: height and width of the frames in pixels.
        fps: results per second of the clip, that is, after ``stride``.
        expected_frames: how many results the clip promises, None if the file does not say.
    """

    def __init__(self, reader: VideoReader, results: Iterator[FrameResult], *, fps: float) -> None:
        self._reader = reader
        self._results = results
        self.size_hw = reader.size_hw
        self.fps = fps
        self.expected_frames = reader.expected_frames

    @property
    def warning(self) -> str | None:
        """After the last result: one sentence if frames of the clip were damaged or missing, else None."""
        return self._reader.warning

    def __next__(self) -> FrameResult:
        """Give the next frame."""
        return next(self._results)


class VideoSegmenter:
    """Segments clips of any length; a window of frames goes through the model as views with shared queries.

    Args:
        model: what `cropformer.load` returns, or anything with its ``segment_clip``.
        window: frames that the model sees at once.
        overlap: frames that consecutive windows share, by which their entities are linked.
        short_side: size of the shorter side that frames are resized to; None = the model's default.
        max_side: limit of the longer side; None = the model's default.
        min_score: entities below it are dropped; None = the model's default.
        memory: windows that an entity may be out of sight and still get its id back.
    """

    def __init__(
        self,
        model: ClipModel,
        *,
        window: int = 4,
        overlap: int = 1,
        short_side: int | None = None,
        max_side: int | None = None,
        min_score: float | None = None,
        memory: int = 5,
    ) -> None:
        if not 0 <= overlap < window:
            raise InputError(f"Windows of {window} frames cannot share {overlap}; give an overlap below the window.")
        self.model = model
        self.window = window
        self.overlap = overlap
        self.short_side = short_side
        self.max_side = max_side
        self.min_score = min_score
        self.memory = memory

    def segment(
        self, path: str | Path, *, stride: int = 1, start_frame: int = 0, end_frame: int | None = None
    ) -> SegmentedClip:
        """Open a video file or a folder of images, and segment it as the results are asked for.

        Raises:
            InputError: the clip cannot be read at all (at once), or the range holds no frame (on iteration);
                damage on the way only ends in a ``warning``.
        """
        reader = VideoReader(path, stride=stride, start_frame=start_frame, end_frame=end_frame)
        return SegmentedClip(reader, self._results(reader), fps=reader.fps / stride)

    def _results(self, reader: VideoReader) -> Iterator[FrameResult]:
        linker = Linker(overlap=self.overlap, memory=self.memory)
        with reader:
            for window, known in _windows(reader, size=self.window, overlap=self.overlap):
                entities = self._segment_window(window)
                track_ids = linker.link(entities)
                for i in range(known, len(window)):
                    frame = window[i]
                    yield FrameResult(frame.index, frame.time_s, entities[i], track_ids[i], frame.image)

    def _segment_window(self, window: list[Frame]) -> list[Entities]:
        images = [frame.image for frame in window]
        sizes = {"short_side": self.short_side, "max_side": self.max_side}
        return self.model.segment_clip(images, **sizes, min_score=self.min_score)


def _windows(frames: Iterable[Frame], *, size: int, overlap: int) -> Iterator[tuple[list[Frame], int]]:
    """Cut a stream into windows; with each, how many of its first frames the window before already held."""
    window, known = [], 0
    for frame in frames:
        window.append(frame)
        if len(window) == size:
            yield window, known
            window, known = window[size - overlap :], overlap
    if len(window) > known:
        yield window, known
