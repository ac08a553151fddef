"""A video that streams in through the standard input: no seeking, no known length, one run."""

import sys
from collections.abc import Iterator
from itertools import chain

from cropformer import InputError
from entitytransfer.readers.clip import Clip, Picture, Range
from entitytransfer.readers.containers import open_container
from entitytransfer.readers.packet_table import Numbering
from entitytransfer.readers.video_file import VideoFile

PIPE = "-"
_NAME = "the standard input (-)"
_ADVICE = "pipe MPEG-TS, Matroska or fragmented mp4, since an mp4 with its index at the end cannot be streamed"


class VideoPipe(VideoFile):
    """The video on the standard input, decoded as it arrives; it can be run through once."""

    _run: Iterator[Picture] | None = None

    def __init__(self) -> None:
        Clip.__init__(self, _NAME)
        if sys.stdin is not None and sys.stdin.isatty():
            raise InputError(f"There is a keyboard and no video on {_NAME}; {_ADVICE}.")
        try:
            self._container = open_container("pipe:0", _NAME)
        except InputError as error:
            raise InputError(f"No video could be read from {_NAME}; {_ADVICE}.") from error
        self._read_header(self._container)
        pictures = self._decode(self._container, Numbering())
        first = next(pictures, None)
        if first is None:
            raise InputError(f"No frame of {_NAME} could be decoded as it streamed in; {_ADVICE}.")
        self._read_format(first.source)
        self._run = chain([first], pictures)

    def _pictures(self, wanted: Range, *, first: int) -> Iterator[Picture]:
        run, self._run = self._run, None
        if run is None:
            raise InputError(f"A video on {_NAME} can be read only once; save it to a file to read it again.")
        with self._container:
            yield from run

    def _restart(self) -> None:
        if self._run is None:  # the one run began when the stream was examined, and keeps what was met then
            super()._restart()
