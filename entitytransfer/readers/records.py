"""Checked access to the objects of an annotation or result file: a wrong field is said with file and record."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from cropformer import InputError

Id: TypeAlias = int | str
Value = TypeVar("Value")

MAX_PIXELS = 2**28  # of one image; the largest of any benchmark has a ninth of that, and RLE counts in 32 bits
_SHOWN_CHARACTERS = 40


class Record(NamedTuple):
    """One JSON object and where it stands.

    Attributes:
        content: its fields.
        source: the file.
        kind: what it is, such as "prediction".
        index: its place in its list, from 0.
    """

    content: dict[str, Any]
    source: Path
    kind: str
    index: int

    def error(self, problem: str) -> InputError:
        """The sentence about a problem of this record."""
        return InputError(f"{self.source}, {self.kind} {self.index}: {problem}; correct or remove it.")

    def not_an_object(self, value: Any) -> InputError:
        """The sentence about something else in its place."""
        return self.error(f"it must be an object, not {shown(value)}")

    def taken(self, key: Id, other: int) -> InputError:
        """The sentence about an id that another record of the kind has already."""
        return self.error(f"the id {shown(key)} is already that of {self.kind} {other}")

    def field(self, name: str) -> Any:
        """A field that must be there."""
        try:
            return self.content[name]
        except KeyError:
            raise self.error(f"the field '{name}' is missing") from None

    def number(self, name: str) -> float:
        """A finite number."""
        value = self.field(name)
        if not is_finite(value):
            raise self.error(f"'{name}' must be a finite number, not {shown(value)}")
        return float(value)

    def identifier(self, name: str) -> Id:
        """An id: a whole number or text."""
        value = self.field(name)
        if type(value) not in (int, str):
            raise self.error(f"'{name}' must be a whole number or text, not {shown(value)}")
        return value

    def lookup(self, name: str, known: Mapping[Id, Value]) -> Value:
        """What belongs to an id of the ground truth."""
        value = self.identifier(name)
        if value not in known:
            raise self.error(f"'{name}' {shown(value)} is not in the ground truth")
        return known[value]

    def lookup_or(self, name: str, known: Mapping[Id, Value], other: Value) -> Value:
        """What belongs to an id of the ground truth, or something else if there is no such id."""
        return known.get(self.identifier(name), other) if name in self.content else other

    def flag(self, name: str) -> bool:
        """0 or 1; 0 if it is not there."""
        value = self.content.get(name, 0)
        if value not in (0, 1) or not isinstance(value, (int, float)):
            raise self.error(f"'{name}' must be 0 or 1, not {shown(value)}")
        return bool(value)

    def size_hw(self) -> tuple[int, int]:
        """The fields height and width."""
        height, width = self.field("height"), self.field("width")
        whole = all(type(side) is int and side > 0 for side in (height, width))
        if not whole or height * width > MAX_PIXELS:
            raise self.error(f"height {shown(height)} and width {shown(width)} are not the size of an image")
        return height, width

    def check_box(self, box_xywh: Any) -> None:
        """A box must be null or x, y, width, height with no negative side."""
        if box_xywh is None:
            return
        is_box = isinstance(box_xywh, list) and len(box_xywh) == 4 and all(map(is_finite, box_xywh))
        if not is_box or min(box_xywh[2:]) < 0:
            raise self.error(f"the box {shown(box_xywh)} is not x, y, width, height with sides of at least 0")


def fields(listed: Sequence[Record], name: str) -> list[Any]:
    """A field that all records must have."""
    try:
        return [one.content[name] for one in listed]
    except KeyError:
        return [one.field(name) for one in listed]  # says which one it is


def numbers(listed: Sequence[Record], name: str) -> list[float]:
    """A finite number of each record."""
    values = fields(listed, name)
    if {*map(type, values)} <= {float} and np.isfinite(values).all():
        return values
    return [one.number(name) for one in listed]


def check_boxes(listed: Sequence[Record]) -> None:
    """The field bbox, where a record has one, must be as `Record.check_box` says."""
    for one in listed:
        if "bbox" in one.content:
            one.check_box(one.content["bbox"])


def records(values: Any, *, source: Path, kind: str) -> list[Record]:
    """The objects of a list.

    Raises:
        InputError: it is no list, or something in it is no object.
    """
    if not isinstance(values, list):
        raise not_a_list(values, source=source, kind=kind)
    for index, value in enumerate(values):
        if not isinstance(value, dict):
            raise Record({}, source, kind, index).not_an_object(value)
    return [Record(value, source, kind, index) for index, value in enumerate(values)]


def not_a_list(value: Any, *, source: Path, kind: str) -> InputError:
    """The sentence about something else in the place of a list of records."""
    return InputError(f"{source} must hold a list of {kind}s, not {shown(value)}; check that it is the right file.")


def by_id(listed: Sequence[Record]) -> dict[Id, Record]:
    """The records by their id, in ascending order of the ids, which is the order in which tools score them.

    Raises:
        InputError: an id is there twice, or some are numbers and some text.
    """
    found: dict[Id, Record] = {}
    for record in listed:
        key = record.identifier("id")
        if key in found:
            raise record.taken(key, found[key].index)
        found[key] = record
    try:
        return dict(sorted(found.items()))
    except TypeError:
        raise InputError(
            f"{listed[0].source} has {listed[0].kind} ids of both kinds, numbers and text; use one."
        ) from None


def is_finite(value: Any) -> bool:
    """Whether a JSON value is a number that float64 can hold."""
    if type(value) not in (int, float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def shown(value: Any) -> str:
    """A JSON value as the sentences show it, never long."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list) and any(isinstance(part, (list, dict, str)) for part in value[:4]):
        return f"a list of {len(value)}"
    if isinstance(value, int) and abs(value) >= 2**63:
        return "a huge number"
    text = repr(value[:4] + ["..."] if isinstance(value, list) and len(value) > 4 else value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
