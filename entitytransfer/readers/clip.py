"""What every kind of clip has in common: how a range is walked through, and the books on damage met on the way."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import numpy as np

from cropformer import InputError

TIME_SLACK_S = 1e-6  # what a time may lose on its way through fractions and floats


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame: ``index`` in the clip from 0, ``time_s`` from its start, ``image`` uint8 RGB [H,W,3]."""

    index: int
    time_s: float
    image: np.ndarray


class Picture(NamedTuple):
    """A frame that has been met but not yet turned into pixels; what ``source`` is, only its clip knows."""

    index: int
    time_s: float
    source: Any


@dataclass(frozen=True)
class Range:
    """Which frames of a clip are wanted: those that both their number and their time let in, every ``stride``-th.

    Attributes:
        start_frame: first frame that may be in.
        end_frame: the first frame behind the range, None = there is none.
        start_s: time of the clip at which the range may begin.
        end_s: time at which it is over, None = never.
        stride: of the frames from the first one in the range on.

    Raises:
        InputError: the range cannot hold a frame.
    """

    start_frame: int = 0
    end_frame: int | None = None
    start_s: float = 0.0
    end_s: float | None = None
    stride: int = 1

    def __post_init__(self) -> None:
        """Refuse what holds no frame of any clip."""
        end_frame = math.inf if self.end_frame is None else self.end_frame
        if not (self.stride >= 1 and 0 <= self.start_frame < end_frame):
            raise InputError(
                f"Frames {self.start_frame} to {self.end_frame} with stride {self.stride} are no range; "
                "give a stride of at least 1 and an end after the start."
            )
        if not 0 <= self.start_s < (math.inf if self.end_s is None else self.end_s):
            raise InputError(f"{self.start_s} s to {self.end_s} s is no range; give an end after the start.")

    def is_before(self, index: int, time_s: float) -> bool:
        """Whether the range has not begun with this frame."""
        return index < self.start_frame or time_s < self.start_s - TIME_SLACK_S

    def is_after(self, index: int, time_s: float) -> bool:
        """Whether the range is over with this frame."""
        return (self.end_frame is not None and index >= self.end_frame) or (
            self.end_s is not None and time_s >= self.end_s - TIME_SLACK_S
        )

    def expected_frames(self, *, declared_frames: int, fps: float) -> int:
        """How many frames it holds of a clip that declares so many; a limit in seconds takes them as evenly spaced."""
        start = max(self.start_frame, _first_at(self.start_s, fps))
        end = declared_frames if self.end_s is None else min(declared_frames, _first_at(self.end_s, fps))
        return len(range(end)[start : self.end_frame : self.stride])


class Clip(ABC):
    """A source of frames that can be run through again and again.

    Attributes:
        name: what messages call it.
        size_hw: height and width in pixels.
        fps: frames per second.
        declared_frames: frames that the clip claims to hold, None if it does not say.
        decoded_frames: frames that the current run has read or passed over.
        broken_at_s: where the current run first met damage, None so far.
        end_s: where the current run has come to.
    """

    size_hw: tuple[int, int]
    fps: float
    declared_frames: int | None

    def __init__(self, name: str) -> None:
        self.name = name
        self._restart()

    def frames(self, wanted: Range, *, first: int = 0) -> Iterator[Frame]:
        """Start a run over a range, giving out only its frames from number ``first`` on.

        Raises:
            InputError: the clip ends before the range begins.
        """
        self._restart()
        begin: int | None = None
        given = first - 1
        for index, time_s, source in self._pictures(wanted, first=first):
            if wanted.is_after(index, time_s):
                if begin is None and not first:
                    raise InputError(f"{self.name} has no frame in the range that was chosen; widen it.")
                return
            if begin is None and not wanted.is_before(index, time_s):
                begin = self._begin(wanted, index)
            image = None
            if begin is not None and index > given and (index - begin) % wanted.stride == 0:
                image = self._image(source)
                if image is None:
                    continue
            self._count(time_s)
            if image is not None:
                given = index
                yield Frame(index, time_s, image)
        self._check_end()
        if begin is None:
            self._refuse(wanted)

    @abstractmethod
    def _pictures(self, wanted: Range, *, first: int) -> Iterator[Picture]:
        """The pictures of the clip in order; those before the range and before ``first`` may be left out.

        One that has been given out already may come again, and is passed over.
        """

    def _begin(self, wanted: Range, reached: int) -> int:
        """The frame that the stride counts from, given the first frame of the range that was met."""
        return reached if wanted.start_s else wanted.start_frame

    @abstractmethod
    def _image(self, source: Any) -> np.ndarray | None:
        """The pixels of a picture, uint8 RGB [H,W,3], or None if it turns out to be damaged."""

    @abstractmethod
    def _check_end(self) -> None:
        """After the last picture: report a break if there should have been more."""

    def _restart(self) -> None:
        self.decoded_frames = 0
        self.broken_at_s: float | None = None
        self.end_s = 0.0

    def _count(self, time_s: float) -> None:
        self.decoded_frames += 1
        self.end_s = time_s + 1 / self.fps

    def _report_break(self) -> None:
        if self.broken_at_s is None:
            self.broken_at_s = self.end_s

    def _refuse(self, wanted: Range) -> NoReturn:
        if wanted.start_frame >= self.decoded_frames:
            frames, start = self.decoded_frames, wanted.start_frame
            raise InputError(f"{self.name} has only {frames} readable frames; begin before frame {start}.")
        raise InputError(f"{self.name} ends at {self.end_s:.2f} s; begin before {wanted.start_s:.2f} s.")


def _first_at(time_s: float, fps: float) -> int:
    return math.ceil(round(time_s * fps, 6))
