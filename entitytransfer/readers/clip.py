"""What every kind of clip has in common: its frames, and the books on what was read and where it broke."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cropformer import InputError


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame: ``index`` in the clip from 0, ``time_s`` from its start, ``image`` uint8 RGB [H,W,3]."""

    index: int
    time_s: float
    image: np.ndarray


class Clip(ABC):
    """A source of frames that can be run through again and again.

    Attributes:
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

    def __init__(self, path: Path) -> None:
        self.path = path
        self._restart()

    @abstractmethod
    def frames(self, selection: slice) -> Iterator[Frame]:
        """Start a run over the selected frames (all three fields of the slice set, ``stop`` possibly None).

        Raises:
            InputError: the clip has no frame at or after the start.
        """

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

    def _check_start(self, start: int) -> None:
        if start >= self.decoded_frames:
            raise InputError(f"{self.path} has only {self.decoded_frames} readable frames; begin before frame {start}.")


def is_selected(index: int, selection: slice) -> bool:
    """Whether a frame at or before the end of a selection belongs to it."""
    offset = index - selection.start
    return offset >= 0 and offset % selection.step == 0
