"""The report of loading weights: what became of every tensor of a file and of every tensor of the model."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .fitting import window_of

Shape = tuple[int, ...]
ABSENT = "not in the file"
_LISTED = 2  # as many tensors of one module are named; of more, only the module


@dataclass(frozen=True)
class Reinitialised:
    """A tensor of the model, of ``shape``, that keeps its fresh values for ``reason``."""

    name: str
    shape: Shape
    reason: str


@dataclass(frozen=True)
class Resized:
    """A table of relative positions that was made for another window."""

    name: str
    from_shape: Shape
    to_shape: Shape


@dataclass(frozen=True)
class LoadReport:
    """What became of the tensors of a file and of a model.

    Attributes:
        layout: the layout of the file.
        loaded: names in the model that were filled as they stand in the file.
        reinitialised: what keeps its fresh values.
        resized: what was interpolated.
        ignored: names in the file that no model needs.
        unexpected: names that mean nothing here.
    """

    layout: str
    loaded: tuple[str, ...] = ()
    reinitialised: tuple[Reinitialised, ...] = ()
    resized: tuple[Resized, ...] = ()
    ignored: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether the file filled the whole model as it stands, and held nothing else."""
        return not (self.reinitialised or self.resized or self.unexpected)

    def __str__(self) -> str:
        """Layout and counts, then a line for each thing that a reader should know of."""
        counts = (
            f"{len(self.loaded)} tensors loaded, {len(self.resized)} resized, "
            f"{len(self.reinitialised)} re-initialised, {len(self.ignored)} ignored, {len(self.unexpected)} unexpected"
        )
        details = (
            f"loaded {_by_part(self.loaded)}",
            *(f"re-initialised {line}" for line in self._reinitialised_lines()),
            *(f"resized {line}" for line in _resized_lines(self.resized)),
            *(f"ignored {line}" for line in _alike(self.ignored)),
            *(f"unexpected {line}" for line in _alike(self.unexpected)),
        )
        return "\n".join((f"{self.layout}: {counts}", *(f"  {line}" for line in details)))

    def _reinitialised_lines(self) -> Iterator[str]:
        """Tensors with one fate together, under the largest module that shares it."""
        filled = {*self.loaded, *(item.name for item in self.resized)}
        partly = {".".join(name.split(".")[:i]) for name in filled for i in range(name.count(".") + 1)}
        groups: dict[tuple[str, str], list[Reinitialised]] = defaultdict(list)
        for item in self.reinitialised:
            parts = item.name.split(".")
            modules = (".".join(parts[:i]) for i in range(1, len(parts)))
            groups[next((m for m in modules if m not in partly), item.name), item.reason].append(item)
        for (module, reason), items in groups.items():
            if len(items) > _LISTED:
                values = sum(math.prod(item.shape) for item in items)
                yield f"{module} ({len(items)} tensors, {values:,} values): {reason}"
            else:
                yield from (f"{item.name} {list(item.shape)}: {reason}" for item in items)


def _by_part(names: Iterable[str]) -> str:
    """How many of these tensors each part of the model has."""
    parts = Counter(name.partition(".")[0] for name in names)
    return ", ".join(f"{count} of {part}" for part, count in parts.items()) or "nothing"


def _resized_lines(resized: Iterable[Resized]) -> Iterator[str]:
    windows = Counter((window_of(item.from_shape[0]), window_of(item.to_shape[0])) for item in resized)
    for (before, after), count in windows.items():
        yield f"{count} tables of relative positions: from window {before} to window {after}"


def _alike(names: Iterable[str]) -> Iterator[str]:
    """Names, those that differ only in the numbers of their layers together."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[re.sub(r"\.[0-9]+(?=\.)", "", name)].append(name)
    for pattern, members in groups.items():
        yield members[0] if len(members) == 1 else f"{pattern} ({len(members)} tensors)"
