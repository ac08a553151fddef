"""Pictures by OpenCV."""

import cv2
import numpy as np

from entitytransfer.readers.orientation import orient
from entitytransfer.readers.video_file import VideoFile


class OpencvSource:
    """A file opened by OpenCV, which is only sure of its place when it goes through picture by picture."""

    def __init__(self, file: VideoFile) -> None:
        self._capture = cv2.VideoCapture(str(file.path), cv2.CAP_FFMPEG)
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)  # it turns, but does not mirror
        self._display_matrix = file.display_matrix
        self._next = 0

    def read(self, number: int) -> np.ndarray:
        """See `PictureSource.read`."""
        while self._next <= number:
            self._next += 1
            if not self._capture.grab():
                raise EOFError(f"OpenCV stops before frame {number}.")
        _, image = self._capture.retrieve()
        return orient(image[..., ::-1], self._display_matrix)  # BGR -> RGB
