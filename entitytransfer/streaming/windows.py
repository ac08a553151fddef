"""A clip cut into windows: where a run begins, what it reads from there, and where each window ends."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from entitytransfer.readers.video import Frame, VideoReader
from entitytransfer.streaming.sample_frames import SampleFrames


@dataclass(frozen=True)
class Start:
    """Where a run begins.

    Attributes:
        frame: the number of the first frame that is read.
        again: how many from there on were given out before; one at least after a window, so that at the end of a clip
            there is something to read.
        known: how many of them the next window begins with.
        done: how many were given out in all.
        tally: of the reader by the last of them.
        linker: its state after the window before, None at the beginning.
    """

    frame: int = 0
    again: int = 0
    known: int = 0
    done: int = 0
    tally: tuple[int, float | None] = (0, None)
    linker: dict[str, Any] | None = None


class Reading(Iterator[Frame]):
    """The frames that a run reads; ``tally`` is that of the reader by the latest of them."""

    def __init__(self, reader: VideoReader | SampleFrames, start: Start) -> None:
        self.tally = start.tally
        self._reader = reader
        self._again = start.again
        self._frames = reader.frames_from(start.frame)

    def __next__(self) -> Frame:
        """Give the next frame; what an earlier run had met is added when its last frame comes again."""
        frame = next(self._frames)
        self._again -= 1
        if self._again == 0:
            self._reader.tally = self.tally
        if self._again <= 0:
            self.tally = self._reader.tally
        return frame


def cut_windows(frames: Iterable[Frame], *, size: int, overlap: int, known: int) -> Iterator[tuple[list[Frame], int]]:
    """Cut a stream into windows, of which the first begins with ``known`` frames of one that was cut before."""
    window = []
    for frame in frames:
        window.append(frame)
        if len(window) == size:
            yield window, known
            window, known = window[size - overlap :], overlap
    if len(window) > known:
        yield window, known
