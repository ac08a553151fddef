"""Video segmentation at constant memory: decode, cut into windows, segment each, link, stream out."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from cropformer import InputError, Queries, TestSettings, Views, parse_memory
from entitytransfer.clip_heads import ClipEntityHead, ClipHead
from entitytransfer.clip_sample import ClipSample
from entitytransfer.readers.video import Backend, Frame, VideoReader
from entitytransfer.streaming.sample_frames import SampleFrames
from entitytransfer.streaming.segmented_clip import SegmentedClip, WindowTracks
from entitytransfer.streaming.windows import Reading, Start, cut_windows
from entitytransfer.tracking.window_result import WindowResult
from entitytransfer.tracklets import FrameResult, Linker, LinkRules

R = TypeVar("R")
_OFFLINE_FRAMES = 64  # that go through the network together, unless a bound on the memory allows fewer


class WindowPredictor(Protocol):
    """What predicts for window after window of a clip, see `cropformer.ClipPredictor`."""

    def predict(self, frames: list[np.ndarray], predict: Callable[[Queries, Views], R], *, known: int) -> R:
        """What ``predict`` makes of the queries of a window whose first ``known`` frames the one before ended with."""

    def network_bytes(self, size_hw: tuple[int, int], *, frames: int) -> int:
        """About what a window of so many frames needs."""


class ClipModel(Protocol):
    """What a model needs for video."""

    settings: TestSettings

    def clip_predictor(
        self,
        *,
        overlap: int,
        crops: int,
        short_side: int | None,
        max_side: int | None,
        max_memory: int | None,
        precision: str,
    ) -> WindowPredictor:
        """Start a clip; None leaves a number to the model's own default."""


class VideoSegmenter:
    """Segments clips of any length; a window of frames goes through the model as views with shared queries.

    Args:
        model: what `cropformer.load` returns.
        head: what its queries mean; None for entities that share no pixel.
        window: frames that the model sees at once; None = the whole clip, if it is short.
        overlap: frames that consecutive windows share, by which their entities are linked.
        short_side: size of the shorter side that frames are resized to; None = the model's default.
        max_side: limit of the longer side; None = the model's default.
        crops: views of each frame beside the full one, 0 or 4.
        min_score: entities below it are dropped; None = the model's default. Other heads have limits of their own.
        memory: windows that an entity may be out of sight and still get its id back.
        max_memory: bound on what the network needs beside the weights, such as "2GB"; a head has its own.
        precision: "fp32" or "bf16", see `EntitySegmenter.segment`.

    Raises:
        InputError: the windows cannot advance, ``min_score`` is given beside a head, or a memory makes no sense.
    """

    def __init__(
        self,
        model: ClipModel,
        *,
        head: ClipHead | None = None,
        window: int | None = 4,
        overlap: int = 1,
        short_side: int | None = None,
        max_side: int | None = None,
        crops: int = 0,
        min_score: float | None = None,
        memory: int = 10,
        max_memory: str | int | None = None,
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> None:
        if window is not None and not 0 <= overlap < window:
            raise InputError(f"Windows of {window} frames cannot share {overlap}; give an overlap below the window.")
        if head is not None and min_score is not None:
            raise InputError("The head has its own min_score; give it to the head, or leave out the head.")
        if memory < 0:
            raise InputError(f"Entities cannot be remembered for {memory} windows; give a memory of 0 or more.")
        self.model = model
        self.window = window
        self.overlap = overlap if window else 0
        self.short_side = short_side
        self.max_side = max_side
        self.crops = crops
        self.memory = memory
        self.max_memory = parse_memory(max_memory)
        self.precision = precision
        least = model.settings.min_score if min_score is None else min_score
        self.head = head or ClipEntityHead(min_score=least, max_memory=self.max_memory)

    def segment(
        self,
        clip: str | Path | ClipSample,
        *,
        stride: int = 1,
        start_frame: int = 0,
        end_frame: int | None = None,
        start_s: float = 0.0,
        end_s: float | None = None,
        backend: Backend = "pyav",
        state: dict[str, Any] | None = None,
    ) -> SegmentedClip:
        """Open a clip, and segment it as the results are asked for.

        Args:
            clip: a video file or another thing that `VideoReader` opens, or a clip of a dataset.
            stride: see `VideoReader`, as all that select frames.
            start_frame: likewise.
            end_frame: likewise.
            start_s: likewise; of clips that `VideoReader` opens, as ``end_s`` and ``backend``.
            end_s: likewise.
            backend: likewise.
            state: of a window of an earlier run with the same arguments: go on after it, with the same results as if
                that run had not ended. On an accelerator they may differ by rounding.

        Raises:
            InputError: the clip cannot be read at all, or is too long for one window (at once where the clip tells its
                length), or the range holds no frame (on iteration); damage on the way only ends in a ``warning``.
        """
        start = Start() if state is None else Start(**state)
        frames = {"stride": stride, "start_frame": start_frame, "end_frame": end_frame}
        if isinstance(clip, ClipSample):
            reader = SampleFrames(clip, **frames)
        else:
            reader = VideoReader(clip, **frames, start_s=start_s, end_s=end_s, backend=backend)
        predictor = self._predictor()
        if self.window is None and reader.expected_frames:
            self._check_length(predictor, reader.size_hw, reader.expected_frames)
        windows = self._windows(reader, predictor, start)
        return SegmentedClip(reader, windows, head=self.head, fps=reader.fps / stride, done=start.done)

    def _predictor(self) -> WindowPredictor:
        return self.model.clip_predictor(
            overlap=self.overlap,
            crops=self.crops,
            short_side=self.short_side,
            max_side=self.max_side,
            max_memory=self.max_memory,
            precision=self.precision,
        )

    def _check_length(self, predictor: WindowPredictor, size_hw: tuple[int, int], frames: int) -> None:
        """Refuse a clip that is too long for one window."""
        advice = "use windows, such as window=4, which go on for any length"
        if frames > _OFFLINE_FRAMES:
            raise InputError(f"The clip has more than {_OFFLINE_FRAMES} frames, too many to be seen at once; {advice}.")
        needed = predictor.network_bytes(size_hw, frames=frames) if self.max_memory else 0
        if self.max_memory and needed > self.max_memory:
            raise InputError(
                f"The {frames} frames of the clip need about {needed / 10**6:.0f} MB in the network when they are seen "
                f"at once, and max_memory is {self.max_memory / 10**6:.0f} MB; {advice}."
            )

    def _windows(
        self, reader: VideoReader | SampleFrames, predictor: WindowPredictor, start: Start
    ) -> Iterator[WindowTracks]:
        rules = LinkRules(overlap=self.overlap, memory=self.memory)
        linker = Linker(rules) if start.linker is None else Linker.restore(start.linker)
        with reader:
            reading = Reading(reader, start)
            frames = islice(reading, start.again - start.known, None)
            done, kept = start.done, 0  # ``kept`` frames are known to the predictor
            for window, known in self._cut(frames, predictor, reader.size_hw, known=start.known):
                images = [frame.image for frame in window]
                result = predictor.predict(images, self.head.predict_window, known=min(known, kept))
                done, kept = done + len(window) - known, self.overlap
                yield self._link(linker, window, result, known=known, done=done, tally=reading.tally)

    def _cut(
        self, frames: Iterator[Frame], predictor: WindowPredictor, size_hw: tuple[int, int], *, known: int
    ) -> Iterator[tuple[list[Frame], int]]:
        """The windows, and how many of the first frames of each the one before already held."""
        if self.window is not None:
            yield from cut_windows(frames, size=self.window, overlap=self.overlap, known=known)
            return
        clip = []
        for frame in frames:
            clip.append(frame)
            self._check_length(predictor, size_hw, len(clip))
        if clip:
            yield clip, 0

    def _link(
        self,
        linker: Linker,
        window: list[Frame],
        result: WindowResult,
        *,
        known: int,
        done: int,
        tally: tuple[int, float | None],
    ) -> WindowTracks:
        links = linker.link(result)
        frames = [
            FrameResult(frame.index, frame.time_s, result.frames[i], links.track_ids[result.rows(i)], frame.image)
            for i, frame in enumerate(window)
        ]
        again = window[-max(self.overlap, 1) :]
        go_on = Start(again[0].index, len(again), len(again) if self.overlap else 0, done, tally, linker.state())
        return WindowTracks(frames[known:], links, vars(go_on))
