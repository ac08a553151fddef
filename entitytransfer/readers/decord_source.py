"""Pictures by decord (extra ``decord``)."""

import numpy as np

from cropformer import InputError
from entitytransfer.readers.orientation import is_turned
from entitytransfer.readers.video_file import VideoFile


class DecordSource:
    """A file opened by decord, which turns no pictures, and finds its place only step by step.

    Raises:
        InputError: decord is not installed, or the file wants its pictures turned.
    """

    def __init__(self, file: VideoFile) -> None:
        try:
            import decord
        except (ImportError, OSError) as error:
            raise InputError('decord is missing; install it with pip install "cropformer[decord]".') from error
        if is_turned(file.display_matrix):
            raise InputError(f"{file.path} is filmed sideways, which decord does not undo; use the backend pyav.")
        self._reader = decord.VideoReader(str(file.path))
        self._next = 0

    def read(self, number: int) -> np.ndarray:
        """See `PictureSource.read`."""
        while self._next < number:
            self._reader.next()
            self._next += 1
        self._next += 1
        return self._reader.next().asnumpy()
