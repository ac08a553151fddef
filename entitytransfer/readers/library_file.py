"""A video file whose pictures another library decodes; their numbers and times, and what is damaged, PyAV tells."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import av
import numpy as np

from cropformer import InputError
from entitytransfer.readers.clip import TIME_SLACK_S, Picture, Range
from entitytransfer.readers.video_file import VideoFile


class PictureSource(Protocol):
    """A file as another library has opened it."""

    def read(self, number: int) -> np.ndarray:
        """A picture, uint8 RGB [H,W,3], turned as it is shown; numbers only rise. Any exception means damage."""


class LibraryFile(VideoFile):
    """A video file read by another library as far as that gets; behind the first picture that fails PyAV goes on.

    Args:
        path: the file.
        open_source: opens it, given what PyAV knows of it.

    Raises:
        InputError: as for `VideoFile`; pictures without numbers or partly hidden; what ``open_source`` cannot do.
    """

    def __init__(self, path: Path, open_source: Callable[[VideoFile], PictureSource]) -> None:
        super().__init__(path)
        table = self.packet_table()
        if table is None or table.hidden:
            raise InputError(f"{path} does not number or show all its pictures; only the backend pyav finds those.")
        self._table = table
        self._open_source = open_source
        self._source = self._opened()

    def _pictures(self, wanted: Range, *, first: int) -> Iterator[Picture]:
        self._source = self._opened()
        self._origin = max(wanted.start_frame, self._table.number_at(self.ticks_at(wanted.start_s - TIME_SLACK_S)))
        begin = min(max(self._origin, first), len(self._table.ticks) - 1)
        self.decoded_frames = begin
        for number in range(begin, len(self._table.ticks)):
            if self._source is not None:
                yield Picture(number, self.time_of(self._table.ticks[number]), number)
            if self._source is None:
                self._restart()
                yield from super()._pictures(wanted, first=number)
                return

    def _image(self, source: int | av.VideoFrame) -> np.ndarray | None:
        if isinstance(source, av.VideoFrame):
            return super()._image(source)
        try:
            image = self._source.read(source)
        except Exception:  # every library has its own, and on damage some raise others than these
            image = None
        if image is None or image.shape[:2] != self.size_hw:
            self._source = None
            return None
        return image

    def _opened(self) -> PictureSource | None:
        try:
            return self._open_source(self)
        except InputError:
            raise
        except Exception:
            return None
