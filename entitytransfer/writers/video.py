"""Frames to an H.264 mp4 that any player and browser shows; the file appears whole or not at all."""

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream

from entitytransfer.predictions import atomic_path
from entitytransfer.readers.soundtrack import open_soundtrack

# A short look-ahead and few threads: by default x264 holds dozens of frames, and more of them on more cores.
_X264 = {"preset": "veryfast", "crf": "20", "rc-lookahead": "4", "sync-lookahead": "0", "threads": "2"}
_CLOCK_HZ = 90_000  # the clock of MPEG: a frame at 24, 25, 30 or 30000/1001 per second is a whole number of ticks
_BT709 = 1  # names the matrix, the primaries and the transfer curve alike (ITU-T H.273)
_TV_RANGE = 1


class VideoWriter:
    """Context manager that encodes frames as they come, at constant memory.

    Nothing appears at ``path`` before the block ends well; a file that was there stays until then.

    Args:
        path: where the mp4 goes.
        fps: frames per second.
        size_hw: height and width of every frame; an odd side is padded by repeating its last row or column.
        sound: the clip whose frames these are, for its sound between the first and the last of them; frames come
            with their time in it then. A folder, a pipe, or sound that an mp4 cannot hold gives a silent video.

    Raises:
        InputError: the place cannot be written, or the disk is full; on entering, writing or leaving.
        ValueError: a frame of another size, or no frame at all.
    """

    def __init__(self, path: str | Path, *, fps: float, size_hw: tuple[int, int], sound: Path | None = None) -> None:
        self._path = Path(path)
        self._fps = Fraction(fps).limit_denominator(100_000)
        self._size_hw = size_hw
        self._sound_path = sound
        self._frames = 0
        self._start_s: float | None = None
        self._time_s = 0.0
        self._last_tick = -1

    def __enter__(self) -> "VideoWriter":
        """Open a temporary file beside ``path``."""
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self._path))
            temporary.touch()
            container = av.open(f"file:{temporary}", "w", format="mp4", options={"movflags": "faststart"})
            self._container = stack.enter_context(container)
            self._stream = self._add_stream()
            self._sound = None if self._sound_path is None else open_soundtrack(self._sound_path, container)
            if self._sound is not None:
                stack.callback(self._sound.close)
            stack.push(self._flush)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        """Move the finished file into place, or remove it after an error."""
        self._stack.__exit__(*exception)

    def write(self, image: np.ndarray, *, time_s: float | None = None) -> None:
        """Append a frame, uint8 RGB [H,W,3].

        Args:
            image: the frame.
            time_s: seconds, increasing, for clips whose frames are not evenly spaced; the first frame is shown at
                once whatever its time. None = the next multiple of 1 / fps.
        """
        if image.shape != (*self._size_hw, 3):
            raise ValueError(f"A frame of shape {image.shape} does not fit a video of {self._size_hw}.")
        self._time_s = float(self._frames / self._fps) if time_s is None else time_s
        if self._start_s is None:
            self._start_s = self._time_s
        self._last_tick = max(round((self._time_s - self._start_s) * _CLOCK_HZ), self._last_tick + 1)
        self._frames += 1
        self._container.mux(self._stream.encode(self._to_yuv(image, self._last_tick)))
        self._copy_sound(until_s=self._time_s)

    def _copy_sound(self, *, until_s: float) -> None:
        if self._sound is not None:
            self._sound.copy(start_s=self._start_s, end_s=until_s)

    def _add_stream(self) -> VideoStream:
        stream = self._container.add_stream("libx264", rate=self._fps, options=_X264)
        stream.height, stream.width = (side + side % 2 for side in self._size_hw)
        stream.pix_fmt = "yuv420p"
        codec = stream.codec_context
        codec.time_base = Fraction(1, _CLOCK_HZ)
        codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
        codec.color_range = _TV_RANGE
        return stream

    def _to_yuv(self, image: np.ndarray, tick: int) -> av.VideoFrame:
        height, width = self._size_hw
        even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(even, format="rgb24").reformat(format="yuv420p", dst_colorspace="ITU709")
        frame.pts, frame.time_base = tick, Fraction(1, _CLOCK_HZ)
        return frame

    def _flush(self, exception_type: type[BaseException] | None, *_: object) -> None:
        if exception_type is not None:
            return
        if not self._frames:
            raise ValueError(f"No frame was written to {self._path}.")
        self._container.mux(self._stream.encode(None))
        self._copy_sound(until_s=self._time_s + float(1 / self._fps))
