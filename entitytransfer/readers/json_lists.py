"""JSON files with long lists of objects: scanned once, then read again object by object, so none is ever held whole.

They are parsed as `read_json` parses, and refused with its sentences. N objects.
"""

import json
from array import array
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cropformer import InputError
from entitytransfer.readers.json_file import check_fields, paused_collector, said_errors
from entitytransfer.readers.json_text import JsonText
from entitytransfer.readers.records import Id, Record, not_a_list

MISSING = object()


@dataclass
class RecordList:
    """The objects of one list: where each stands in its file, and a few of its fields.

    Attributes:
        source: the file.
        kind: what the objects are, such as "prediction".
        fields: name → the values of N objects, `MISSING` for one that does not have this field.
        starts: N places of the first byte.
        lengths: N numbers of bytes.
    """

    source: Path
    kind: str
    fields: dict[str, list[Any]]
    starts: array = field(default_factory=lambda: array("q"))
    lengths: array = field(default_factory=lambda: array("I"))
    _shared: dict[Id, Id] = field(default_factory=dict, repr=False)  # equal ids are one Python object

    def __len__(self) -> int:
        """Number of objects."""
        return len(self.starts)

    def append(self, value: Any, start: int, stop: int) -> None:
        """Note one more object, or raise `InputError` if it is none."""
        if not isinstance(value, dict):
            raise Record({}, self.source, self.kind, len(self)).not_an_object(value)
        self.starts.append(start)
        self.lengths.append(stop - start)
        for name, values in self.fields.items():
            one = value.get(name, MISSING)
            values.append(self._shared.setdefault(one, one) if type(one) in (int, str) else one)

    def take_owners(self, name: str, known: Mapping[Id, int]) -> np.ndarray:
        """What belongs to a noted id of each object, int32 [N]; the ids are let go.

        Raises:
            InputError: as `Record.lookup` does.
        """
        values = self.fields.pop(name)
        self._shared.clear()
        for index, value in enumerate(values):
            if type(value) not in (int, str) or value not in known:
                self.record(index).lookup(name, known)
        return np.array([known[value] for value in values], dtype=np.int32)

    def check_unique(self, name: str) -> None:
        """Raise `InputError` if two objects have the same noted id; one may have none. The ids are let go."""
        seen: dict[Id, int] = {}
        for index, value in enumerate(self.fields.pop(name)):
            if value is not MISSING:
                key = value if type(value) in (int, str) else self.record(index).identifier(name)
                if seen.setdefault(key, index) != index:
                    raise self.record(index).taken(key, seen[key])

    def record(self, index: int) -> Record:
        """Read one object again."""
        return self.read(np.array([index]))[0]

    @paused_collector()
    def read(self, indices: np.ndarray) -> list[Record]:
        """Read some objects again.

        Args:
            indices: int64, ascending.

        Raises:
            InputError: the file is no longer what it was.
        """
        found: list[Record] = []
        try:
            with self.source.open("rb") as file:
                for run in np.split(indices, np.flatnonzero(np.diff(indices) != 1) + 1) if indices.size else ():
                    values = self._read_run(file, int(run[0]), int(run[-1]))
                    found += [Record(one, self.source, self.kind, index) for index, one in zip(run.tolist(), values)]
        except (OSError, ValueError) as error:
            raise InputError(f"{self.source} has changed while it was read ({error}); start again.") from error
        return found

    def _read_run(self, file: BinaryIO, first: int, last: int) -> list[Any]:
        """The values from one index to another; only commas and blanks stand between them."""
        file.seek(self.starts[first])
        text = file.read(self.starts[last] + self.lengths[last] - self.starts[first]).decode()
        return json.loads(f"[{text}]")


@dataclass(frozen=True)
class GroupedRecords:
    """The objects of a list by the image or video that they are about, of which there are G.

    Attributes:
        records: the list.
        owners: the index of the image or video of each object, int32 [N].
        order: the indices of the objects by image or video, in the order of the list for each, int32 [N].
        bounds: where the objects of each begin in this order, and where the last ones end, int64 [G+1].
    """

    records: RecordList
    owners: np.ndarray
    order: np.ndarray
    bounds: np.ndarray

    @classmethod
    def by(cls, listed: RecordList, name: str, numbers: Mapping[Id, int]) -> "GroupedRecords":
        """Group by an id.

        Args:
            listed: the field must have been noted.
            name: of the field.
            numbers: id → number, from 1.

        Raises:
            InputError: an object has no id of these.
        """
        owners = listed.take_owners(name, numbers) - 1
        counts = np.bincount(owners, minlength=max(numbers.values(), default=0))
        return cls(listed, owners, np.argsort(owners, kind="stable").astype(np.int32), np.cumsum([0, *counts]))

    def counts(self) -> np.ndarray:
        """Objects in each group, int64 [G]."""
        return np.diff(self.bounds)

    def sizes(self) -> np.ndarray:
        """Bytes in each group, int64 [G]."""
        return np.bincount(self.owners, self.records.lengths, minlength=len(self.bounds) - 1).astype(np.int64)

    def read(self, first: int, last: int) -> tuple[list[Record], list[int]]:
        """The objects of some groups, from the first to before the last, in the order of the list, and their groups."""
        indices = np.sort(self.order[self.bounds[first] : self.bounds[last]])
        return self.records.read(indices), self.owners[indices].tolist()


@paused_collector()
def scan_list(path: Path, kind: str, *, fields: Collection[str]) -> RecordList:
    """Scan a file that is a list of objects.

    Args:
        path: JSON.
        kind: what the objects are.
        fields: those whose values are noted.

    Raises:
        InputError: it cannot be read, is not JSON, is no list, or something in it is no object.
    """
    found = RecordList(path, kind, {name: [] for name in fields})
    with said_errors(path), path.open("rb") as file:
        text = JsonText(file)
        if text.next_character() == "[":
            text.take_list(found.append)
            text.expect_end()
            return found
        value = text.take_value()[0]
        text.expect_end()
    raise not_a_list(value, source=path, kind=kind)


@paused_collector()
def scan_object(
    path: Path,
    *,
    lists: Mapping[str, tuple[str, Collection[str]]],
    fields: Collection[str],
    may_lack_lists: bool = False,
) -> dict:
    """Scan a file that is an object with lists of objects.

    Args:
        path: JSON.
        lists: name of a list → what its objects are, and the fields of these whose values are noted.
        fields: names of other fields.
        may_lack_lists: whether a list that is not there, or null, is taken as one without objects.

    Returns:
        Name → a `RecordList`, or the value of another field, as far as they are there.

    Raises:
        InputError: it cannot be read, is not JSON, is no object or lacks one of the lists, or something in one of them
            is no object.
    """
    content: dict[str, Any] = {}
    with said_errors(path), path.open("rb") as file:
        text = JsonText(file)
        is_object = text.next_character() == "{"
        for name in text.take_names() if is_object else ():
            if name in lists and text.next_character() == "[":
                kind, noted = lists[name]
                content[name] = RecordList(path, kind, {one: [] for one in noted})
                text.take_list(content[name].append)
            else:
                value = text.take_value()[0]
                content |= {name: value} if name in (*lists, *fields) else {}
        if not is_object:
            text.take_value()
        text.expect_end()
    if is_object and may_lack_lists:
        lacking = {name for name in lists if content.get(name) is None}
        content |= {name: RecordList(path, lists[name][0], {one: [] for one in lists[name][1]}) for name in lacking}
    check_fields(content, (*lists,), path=path)
    for name, (kind, _) in lists.items():
        if not isinstance(content[name], RecordList):
            raise not_a_list(content[name], source=path, kind=kind)
    return content
