"""A video file as a clip, decoded by FFmpeg through PyAV."""

import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from cropformer import InputError
from entitytransfer.readers.clip import TIME_SLACK_S, Clip, Picture, Range
from entitytransfer.readers.containers import find_video_stream, open_container, start_of, video_stream
from entitytransfer.readers.orientation import display_matrix_of, orient
from entitytransfer.readers.packet_table import Entry, Numbering, PacketTable, read_packet_table

_FALLBACK_FPS = 25.0  # FFmpeg's own guess for a stream that states no rate
_MOST_FPS = 500  # beyond is no rate of pictures but that of the clock, which some containers give for it
_SOUND_TAIL_S = 1.0  # where only a duration is declared, sound may outlast the pictures by this much
_SILENT_TAIL_FRAMES = 1.5  # and by so much the duration of pictures alone may be rounded up
_ABSOLUTE_CONTAINER = "matroska"  # its duration ends with the last picture but counts from time 0, not from the first
_CONTAINERS = frozenset({"mp4", "matroska"})  # every picture has a packet with a time stamp of its own
_TIMELESS_CONTAINER = "avi"  # pictures follow one another at a fixed rate; time stamps are those of decoding
_HIDING_CODEC = "vp8"  # some of its packets hold pictures that are never shown


class _Start(NamedTuple):
    """Where a run begins: the frame that its stride counts from, the key frame to seek, and the number of that."""

    origin: int
    entry: Entry
    number: int


class VideoFile(Clip):
    """The best video stream of a file by FFmpeg's judgement, which puts films before cover pictures.

    In mp4, mov, mkv and webm every picture has a time stamp: a run that begins late seeks, and a picture that is
    lost to damage keeps its number. Elsewhere pictures are counted as they leave the decoder.

    Attributes:
        path: the file.
        stream_index: number of the stream in it.
        display_matrix: how it wants its coded pictures turned, int32 [3,3].
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path
        with self._open() as container:
            self._read_header(container)
            first = next(self._decode(container, Numbering()), None)
        if first is None:
            raise InputError(f"No frame of {path} can be decoded; it is empty or damaged, copy it again.")
        self._read_format(first.source)

    def packet_table(self, *, number: float = math.inf, ticks: float = math.inf) -> PacketTable | None:
        """See `read_packet_table`; also None in a container whose packets are no pictures."""
        if not self._is_numbered:
            return None
        with self._open() as container:
            return read_packet_table(_packets(container), number=number, ticks=ticks)

    def time_of(self, ticks: int) -> float:
        """A time stamp of the stream as seconds of the clip."""
        return float(ticks * self._tick_s) - self._start_s

    def ticks_at(self, time_s: float) -> float:
        """Seconds of the clip as a time stamp of the stream."""
        return (time_s + self._start_s) / float(self._tick_s)

    def _pictures(self, wanted: Range, *, first: int) -> Iterator[Picture]:
        start = self._find_start(wanted, first)
        numbering = Numbering()
        with self._open() as container:
            if start is not None:
                self._origin, self._discarded, self.decoded_frames = start.origin, start.entry.hidden, start.number
                self.end_s = self.time_of(start.entry.ticks)
                numbering = Numbering(entry_ticks=start.entry.ticks, number=start.number)
                container.seek(start.entry.ticks, stream=video_stream(container))
            yield from self._decode(container, numbering)

    def _begin(self, wanted: Range, reached: int) -> int:
        return super()._begin(wanted, reached) if self._origin is None else self._origin

    def _find_start(self, wanted: Range, first: int) -> _Start | None:
        """None = at the beginning."""
        if not (wanted.start_frame or wanted.start_s or first):
            return None
        ticks = self.ticks_at(wanted.start_s - TIME_SLACK_S)
        table = self.packet_table(number=max(wanted.start_frame, first), ticks=ticks)
        if table is None:
            return None
        origin = max(wanted.start_frame, table.number_at(ticks))
        entry = table.entry_before(max(origin, first))
        return _Start(origin, entry, table.number_at(entry.ticks)) if self._leads_to(entry) else None

    def _leads_to(self, entry: Entry) -> bool:
        """Whether the container really finds the packet of a key frame, or one before it."""
        with self._open() as container:
            container.seek(entry.ticks, stream=video_stream(container))
            landed = next(_packets(container), None)
        return landed is not None and landed.pts is not None and landed.pts <= entry.ticks

    def _decode(self, container: InputContainer, numbering: Numbering) -> Iterator[Picture]:
        video_stream(container).thread_type = "AUTO"
        for packet in self._packets(container):
            self._discarded += packet.is_discard
            if packet.is_corrupt:
                self._report_break()
            if self._is_numbered:
                numbering.add(packet)
            try:
                pictures = packet.decode()
            except av.FFmpegError:
                pictures = []
                self._report_break()
            yield from self._numbered(pictures, numbering)

    def _numbered(self, pictures: Iterable[av.VideoFrame], numbering: Numbering) -> Iterator[Picture]:
        for picture in pictures:
            number = numbering.number_of(picture)
            if number is None:
                continue
            if picture.is_corrupt:
                self._report_break()
            has_time = self._is_timed and picture.time is not None
            time_s = picture.time - self._start_s if has_time else number / self.fps
            yield Picture(number, time_s, picture)

    def _packets(self, container: InputContainer) -> Iterator[av.Packet]:
        """All up to the first that cannot be read, and an empty one by which the decoder gives out what it holds back.

        Where pictures have packets of their own, a last one that is cut off is left out: it gives no picture, and makes
        several threads lose whole ones.
        """
        stream = video_stream(container)
        cut: av.Packet | None = None
        is_broken = False
        try:
            for packet in container.demux(stream):
                if not packet.size:
                    continue
                if cut is not None:
                    yield cut
                cut = packet if packet.is_corrupt and self._is_numbered else None
                if cut is None:
                    yield packet
        except av.FFmpegError:
            is_broken = True
        yield _end_of(stream)
        if is_broken or cut is not None:
            self._report_break()

    def _check_end(self) -> None:
        """Most containers cut off after their index just end, so hold the length against the declared one."""
        if self.declared_frames is None:
            is_short = self.end_s + self._tail_s < self._declared_s
        else:
            is_short = self.decoded_frames + self._discarded < self.declared_frames
        if is_short:
            self._report_break()

    def _restart(self) -> None:
        super()._restart()
        self._origin: int | None = None
        self._discarded = 0  # packets outside the edit list: counted by the file, never shown

    def _open(self) -> InputContainer:
        return open_container(f"file:{self.path}", self.name)  # bare, a colon in a name would end a protocol

    def _read_header(self, container: InputContainer) -> None:
        stream = find_video_stream(container, self.name)
        self.stream_index = stream.index
        rates = (stream.average_rate, stream.guessed_rate)
        self.fps = float(next((rate for rate in rates if rate and rate <= _MOST_FPS), _FALLBACK_FPS))
        self.declared_frames = stream.frames or None
        self._tick_s = stream.time_base
        self._start_s = start_of(stream)
        formats = set(container.format.name.split(","))
        self._declared_s = (container.duration or 0) / av.time_base
        self._declared_s -= self._start_s if _ABSOLUTE_CONTAINER in formats else 0.0
        self._tail_s = _SOUND_TAIL_S if len(container.streams) > 1 else _SILENT_TAIL_FRAMES / self.fps
        self._is_timed = _TIMELESS_CONTAINER not in formats
        self._is_numbered = bool(formats & _CONTAINERS) and stream.codec_context.name != _HIDING_CODEC

    def _read_format(self, picture: av.VideoFrame) -> None:
        self._coded_wh = (picture.width, picture.height)
        self.display_matrix = display_matrix_of(picture)
        self.size_hw = self._image(picture).shape[:2]

    def _image(self, source: av.VideoFrame) -> np.ndarray:
        width, height = self._coded_wh
        return orient(source.to_ndarray(format="rgb24", width=width, height=height), self.display_matrix)


def _end_of(stream: VideoStream) -> av.Packet:
    """What the container would give after the last packet."""
    packet = av.Packet()
    packet.stream, packet.time_base = stream, stream.time_base
    return packet


def _packets(container: InputContainer) -> Iterator[av.Packet]:
    """The packets of the stream up to the first damage, which is none of the business of who only looks ahead."""
    with suppress(av.FFmpegError):
        yield from container.demux(video_stream(container))
