"""Clips for the tests of reading and writing: frames that tell their index, and every way in which files differ."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from entitytransfer.writers.video import VideoWriter

SIZE_HW = (48, 64)
UPRIGHT = (1, 0, 0, 1)


def grey_frame(index: int, size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    """A frame whose brightness tells its index."""
    return np.full((*size_hw, 3), 20 + 5 * index, dtype=np.uint8)


def index_of(image: np.ndarray) -> int:
    return round((float(image.mean()) - 20) / 5)


def write_clip(path: Path, frames: int, *, fps: float = 10.0, noise: bool = False) -> Path:
    """One group of pictures without B-frames, as our own writer makes them; noise makes the file large."""
    random = np.random.default_rng(0)
    with VideoWriter(path, fps=fps, size_hw=SIZE_HW) as video:
        for index in range(frames):
            video.write(random.integers(0, 256, (*SIZE_HW, 3), np.uint8) if noise else grey_frame(index))
    return path


def write_groups(
    path: Path,
    frames: int,
    *,
    times_s: list[float] | None = None,
    group: int = 8,
    clock_hz: int = 90_000,
    noise: bool = False,
) -> Path:
    """Key frames every few frames with B-frames between them, open groups, and any times.

    With noise every frame has a thousand bytes, and still a brightness that tells its index.
    """
    random = np.random.default_rng(0)
    with av.open(path, "w") as container:
        x264 = f"keyint={group}:min-keyint={group}:scenecut=0:bframes=3:b-adapt=0:open-gop=1"
        stream = container.add_stream("libx264", rate=10, options={"x264-params": x264})
        stream.height, stream.width = SIZE_HW
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, clock_hz)
        for index in range(frames):
            image = grey_frame(index)
            if noise:
                image[:, :, :] += random.integers(0, 2, (*SIZE_HW, 1), np.uint8) * 20
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            frame.pts = round((index / 10 if times_s is None else times_s[index]) * clock_hz)
            frame.time_base = Fraction(1, clock_hz)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def remux(source: Path, path: Path, *, shift_s: float = 0.0, **options: str) -> Path:
    """Copy the coded frames into another file or container, with their times shifted."""
    with av.open(source) as container, av.open(path, "w", options=options) as copy:
        stream = copy.add_stream_from_template(container.streams.video[0])
        for packet in container.demux(video=0):
            if packet.dts is not None:
                packet.pts += round(shift_s / packet.time_base)
                packet.dts += round(shift_s / packet.time_base)
                packet.stream = stream
                copy.mux(packet)
    return path


def set_display_matrix(path: Path, abcd: tuple[int, int, int, int]) -> Path:
    """Overwrite the matrix of the track header (ISO/IEC 14496-12, 8.3.2)."""

    def box(a: int, b: int, c: int, d: int) -> bytes:
        return struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)

    content = path.read_bytes()
    start = content.index(box(*UPRIGHT), content.index(b"tkhd"))
    path.write_bytes(content[:start] + box(*abcd) + content[start + 36 :])
    return path


def cut_off(path: Path, share: float = 0.5) -> Path:
    """Keep only the beginning of a file."""
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def zero_middle(path: Path, zeros: int) -> Path:
    """Overwrite bytes in the middle of a file."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + zeros] = bytes(zeros)
    path.write_bytes(content)
    return path
