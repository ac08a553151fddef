"""A JSON file taken value by value, of which only a window is ever in memory."""

import codecs
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TypeAlias

Take: TypeAlias = Callable[[Any, int, int], None]  # a value, the place of its first byte and that after its last one

_WINDOW = 2**20  # bytes that are read at a time
_BLANKS = re.compile(r"[ \t\n\r]*")
_COMMA = re.compile(r"[ \t\n\r]*,[ \t\n\r]*")
_ENDS_VALUE = re.compile(r"[ \t\n\r]*[,:\]}]")
_scan_value = json.JSONDecoder().scan_once


class JsonText:
    """A JSON file from its beginning to its end; a byte order mark is passed over.

    Every method that takes something raises ValueError if something else comes, as `json.loads` does.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._byte = 3 if file.read(3) == codecs.BOM_UTF8 else 0  # the byte at the place
        file.seek(self._byte)
        self._text, self._place, self._is_complete = "", 0, False

    def next_character(self) -> str:
        """The next one that is not blank, which is not taken; nothing at the end of the file."""
        following = self._text[self._place : self._place + 1]
        if following > " ":
            return following
        self._advance(_BLANKS.match(self._text, self._place).end())
        while self._place == len(self._text) and self._read_more():
            self._advance(_BLANKS.match(self._text).end())
        return self._text[self._place : self._place + 1]

    def take_value(self) -> tuple[Any, int, int]:
        """Parse what comes next, and say at which byte it begins and before which it ends."""
        self.next_character()
        while True:
            try:
                value, end = _scan_value(self._text, self._place)
            except StopIteration as error:
                if not self._read_more():
                    raise self._error("Expecting value") from error
            except ValueError as error:
                if not self._read_more():
                    raise self._error(getattr(error, "msg", str(error))) from error
            else:
                if _ENDS_VALUE.match(self._text, end) or not self._read_more():  # a number might go on
                    start = self._byte
                    self._advance(end)
                    return value, start, self._byte

    def take_list(self, take: Take) -> None:
        """Hand over the values of a list one by one."""
        self._expect("[")
        if self.next_character() == "]":
            self._expect("]")
            return
        while True:
            self._take_window(take)
            take(*self.take_value())
            if self._expect(",", "]") == "]":
                return

    def _take_window(self, take: Take) -> None:
        """Hand over values of a list as long as they and a comma after them are in the window: most of a long list."""
        self.next_character()  # passes over blanks
        text, place, start = self._text, self._place, self._byte
        is_ascii = text.isascii()
        while True:
            try:
                value, end = _scan_value(text, place)
            except (StopIteration, ValueError):
                break  # it goes on after the window, or is wrong
            comma = _COMMA.match(text, end)
            if comma is None:
                break
            stop = start + (end - place if is_ascii else len(text[place:end].encode()))
            take(value, start, stop)
            place, start = comma.end(), stop + comma.end() - end
        self._place, self._byte = place, start

    def take_names(self) -> Iterator[str]:
        """The names in an object; whoever gets one takes its value before the next one."""
        self._expect("{")
        if self.next_character() == "}":
            self._expect("}")
            return
        while True:
            if self.next_character() != '"':
                raise self._error("Expecting property name enclosed in double quotes")
            name = self.take_value()[0]
            self._expect(":")
            yield name
            if self._expect(",", "}") == "}":
                return

    def expect_end(self) -> None:
        """Nothing but blanks may come."""
        if self.next_character():
            raise self._error("Extra data")

    def _expect(self, *characters: str) -> str:
        found = self.next_character()
        if found not in characters:
            raise self._error(f"Expecting {' or '.join(map(repr, characters))}")
        self._advance(self._place + 1)
        return found

    def _advance(self, place: int) -> None:
        taken = place - self._place
        self._byte += taken if self._text.isascii() else len(self._text[self._place : place].encode())
        self._place = place

    def _read_more(self) -> bool:
        """Let go what is taken and double the rest; False at the end of the file."""
        if self._is_complete:
            return False
        rest = self._text[self._place :]
        read = self._file.read(max(_WINDOW, len(rest)))
        self._is_complete = not read
        self._text, self._place = rest + self._decoder.decode(read, final=not read), 0
        return True

    def _error(self, problem: str) -> ValueError:
        return ValueError(f"{problem}: byte {self._byte}")
