"""The numbers of a clip's pictures, known from the time stamps of its packets without decoding what comes before.

They are those that counting would give: in the order in which pictures are shown, without those that the file itself
leaves out. A picture that is lost to damage keeps its number. Time stamps are in ticks of the stream.
"""

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise
from typing import NamedTuple

import av


class Entry(NamedTuple):
    """A key frame at which decoding may begin, with the number of hidden packets that precede it in the file."""

    ticks: int
    hidden: int


@dataclass(frozen=True)
class PacketTable:
    """What the packets of a stream say about its pictures.

    Attributes:
        ticks: time stamp of every picture that is shown, sorted; the end may be missing, see `read_packet_table`.
        entries: the key frames from which every later picture can be decoded, in order.
        hidden: how many packets an edit list cuts off.
    """

    ticks: array
    entries: list[Entry]
    hidden: int

    def number_at(self, ticks: float) -> int:
        """Number of the first picture at this time or later."""
        return bisect_left(self.ticks, ticks)

    def entry_before(self, number: int) -> Entry:
        """The last key frame from which a picture can be reached; for one behind the end, the last of all."""
        ticks = self.ticks[min(number, len(self.ticks) - 1)]
        return self.entries[bisect_right(self.entries, ticks, key=lambda entry: entry.ticks) - 1]


def read_packet_table(
    packets: Iterable[av.Packet], *, number: float = math.inf, ticks: float = math.inf
) -> PacketTable | None:
    """Read packets until the picture of this number, and the first one at this time, are surely among them.

    Args:
        packets: the packets of one video stream, in the order of the file.
        number: number of a picture; infinity = read to the end.
        ticks: a time; infinity likewise.

    Returns:
        The table, or None if the packets do not tell: no time stamps, equal ones, or none that begins.
    """
    shown, hidden, entries = array("q"), 0, []
    latest = -math.inf
    is_reached = False
    for packet in packets:
        if not packet.size:
            continue
        if packet.pts is None:
            return None
        if (packet.is_keyframe or not entries) and packet.pts > latest:
            if is_reached:
                break  # pictures of an open group may follow their key frame and yet be shown before it
            is_reached = len(shown) > number and latest >= ticks
            entries.append(Entry(packet.pts, hidden))
        if packet.is_discard:
            hidden += 1
        else:
            shown.append(packet.pts)
        latest = max(latest, packet.pts)
    in_order = array("q", sorted(shown))
    if not in_order or entries[0].ticks > in_order[0]:
        return None
    if any(before == after for before, after in pairwise(in_order)):
        return None
    return PacketTable(in_order, entries, hidden)


class Numbering:
    """Numbers pictures as they come out of the decoder, by the packets that went in; memory does not grow.

    Args:
        entry_ticks: time of the key frame that decoding began with; what comes before it has no number.
        number: number of that key frame.
    """

    def __init__(self, *, entry_ticks: float = -math.inf, number: int = 0) -> None:
        self._entry_ticks = entry_ticks
        self._next = number
        self._waiting: list[int] = []

    def add(self, packet: av.Packet) -> None:
        """Take note of a packet before it is decoded."""
        if packet.size and not packet.is_discard and packet.pts is not None and packet.pts >= self._entry_ticks:
            heappush(self._waiting, packet.pts)

    def number_of(self, picture: av.VideoFrame) -> int | None:
        """The number of a picture, or None for one from before the key frame."""
        if picture.pts is None:
            return self._take()
        if picture.pts < self._entry_ticks:
            return None
        while self._waiting and self._waiting[0] < picture.pts:
            heappop(self._waiting)
            self._next += 1
        if self._waiting and self._waiting[0] == picture.pts:
            heappop(self._waiting)
        return self._take()

    def _take(self) -> int:
        self._next += 1
        return self._next - 1
