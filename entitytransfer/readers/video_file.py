"""A video file as a clip, decoded by FFmpeg through PyAV."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from cropformer import InputError
from entitytransfer.readers.clip import Clip, Frame, is_selected

_FALLBACK_FPS = 25.0  # FFmpeg's own guess for a stream that states no rate
_SOUND_TAIL_S = 1.0  # where only a duration is declared, sound may outlast the pictures by this much


class VideoFile(Clip):
    """One video stream, decoded by FFmpeg."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with _open_container(path) as container:
            stream = _video_stream(container, path)
            self.fps = float(stream.average_rate or stream.guessed_rate or _FALLBACK_FPS)
            self.declared_frames = stream.frames or None
            self._start_s = float((stream.start_time or 0) * stream.time_base)
            self._declared_s = (container.duration or 0) / av.time_base
            first = next(self._pictures(container), None)
        if first is None:
            raise InputError(f"No frame of {path} can be decoded; it is empty or damaged, copy it again.")
        self._coded_wh = (first.width, first.height)
        self._display_matrix = _display_matrix(first)
        self.size_hw = self._to_rgb(first).shape[:2]
        self._restart()

    def frames(self, selection: slice) -> Iterator[Frame]:
        """See `Clip.frames`."""
        self._restart()
        with _open_container(self.path) as container:
            for index, picture in enumerate(self._pictures(container)):
                if index == selection.stop:
                    return
                time_s = index / self.fps if picture.time is None else picture.time - self._start_s
                self._count(time_s)
                if is_selected(index, selection):
                    yield Frame(index, time_s, self._to_rgb(picture))
        self._check_length()
        self._check_start(selection.start)

    def _pictures(self, container: InputContainer) -> Iterator[av.VideoFrame]:
        for packet in self._packets(container):
            self._discarded += packet.is_discard
            try:
                pictures = packet.decode()
            except av.FFmpegError:
                pictures = []
                self._report_break()
            for picture in pictures:
                if picture.is_corrupt:
                    self._report_break()
                yield picture

    def _packets(self, container: InputContainer) -> Iterator[av.Packet]:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        try:
            yield from container.demux(stream)
        except av.FFmpegError:
            self._report_break()

    def _check_length(self) -> None:
        """Most containers cut off after their index just end, so hold the length against the declared one."""
        if self.declared_frames is None:
            is_short = self.end_s + _SOUND_TAIL_S < self._declared_s
        else:
            is_short = self.decoded_frames + self._discarded < self.declared_frames
        if is_short:
            self._report_break()

    def _restart(self) -> None:
        super()._restart()
        self._discarded = 0  # packets outside the edit list: counted by the file, never shown

    def _to_rgb(self, picture: av.VideoFrame) -> np.ndarray:
        width, height = self._coded_wh
        return _orient(picture.to_ndarray(format="rgb24", width=width, height=height), self._display_matrix)


def _open_container(path: Path) -> InputContainer:
    try:
        return av.open(f"file:{path}")  # without the prefix a colon in a name would be read as a protocol
    except (av.FFmpegError, OSError) as error:
        raise InputError(
            f"{path} is not a video that can be read ({error.strerror}); check or copy it again."
        ) from error


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    if not container.streams.video:
        raise InputError(f"{path} has no video stream; give a file with pictures.")
    return container.streams.video[0]


def _display_matrix(picture: av.VideoFrame) -> np.ndarray:
    """How the file wants its pictures turned, int32 [3,3].

    Asked of one picture only: access to side data keeps a picture in memory until the garbage collector runs.
    """
    matrix = picture.side_data.get("DISPLAYMATRIX")
    return np.eye(3, dtype=np.int32) if matrix is None else np.frombuffer(matrix, np.int32).reshape(3, 3).copy()


def _orient(image: np.ndarray, display_matrix: np.ndarray) -> np.ndarray:
    """Turn and mirror coded pixels [H,W,3] by a display matrix (ISO/IEC 14496-12, 6.2.2).

    It says x' = ax + cy, y' = bx + dy. A slanted matrix is taken as the nearest quarter turn or mirroring.
    """
    (a, b), (c, d) = display_matrix[:2, :2].tolist()
    if abs(b) > abs(a):
        a, d = c, b
        image = image.transpose(1, 0, 2)  # [H,W,3] -> [W,H,3]
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
