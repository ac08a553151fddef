"""The sound of one video copied into another, packet by packet as they come, without decoding."""

from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer

from cropformer import InputError
from entitytransfer.readers.containers import open_container, start_of, video_stream

_RUN_UP_S = 5.0  # sound is looked for from so long before its start, as some containers seek only roughly


class Soundtrack:
    """Copies the sound of a clip between two times, which become 0 and the end in the target.

    Args:
        source: the clip, read by nobody else.
        target: what it goes into, before the first packet.
        sound: its stream in the source.
    """

    def __init__(self, source: InputContainer, target: OutputContainer, sound: AudioStream) -> None:
        self._source = source
        self._target = target
        self._sound = sound
        self._copy = target.add_stream_from_template(sound)
        self._waiting: av.Packet | None = None
        self._start_ticks: int | None = None

    def copy(self, *, start_s: float, end_s: float) -> None:
        """Copy what sounds from ``start_s`` of the clip, the same in every call, up to ``end_s``, which rises."""
        if self._start_ticks is None:
            self._seek(start_s)
        end_ticks = self._start_ticks + round((end_s - start_s) / self._sound.time_base)
        try:
            while (packet := self._next()) is not None and packet.pts < end_ticks:
                self._waiting = None
                if packet.pts >= self._start_ticks:
                    self._put(packet)
        except av.error.InvalidDataError:
            self._packets = iter(())  # what is behind the damage stays silent

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _seek(self, start_s: float) -> None:
        """Find the first packet; times of the clip count from the start of its pictures."""
        pictures = video_stream(self._source)
        start_s += 0.0 if pictures is None else start_of(pictures)
        self._start_ticks = round(start_s / self._sound.time_base)
        if start_s > _RUN_UP_S:
            self._source.seek(round((start_s - _RUN_UP_S) / self._sound.time_base), stream=self._sound)
        self._packets = (packet for packet in self._source.demux(self._sound) if packet.pts is not None)

    def _next(self) -> av.Packet | None:
        if self._waiting is None:
            self._waiting = next(self._packets, None)
        return self._waiting

    def _put(self, packet: av.Packet) -> None:
        packet.pts -= self._start_ticks
        packet.dts = packet.pts
        packet.stream = self._copy
        self._target.mux(packet)


def open_soundtrack(path: Path, target: OutputContainer) -> Soundtrack | None:
    """The sound of a clip for a target, or None if there is none, or none that the target can hold."""
    if not path.is_file():
        return None  # a pipe has gone by, and a folder is silent
    try:
        source = open_container(f"file:{path}", str(path))
    except InputError:
        return None
    sound = source.streams.best("audio")
    if sound is None or sound.codec_context is None or sound.codec_context.name not in target.supported_codecs:
        source.close()
        return None
    return Soundtrack(source, target, sound)
