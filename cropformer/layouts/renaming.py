"""Renaming: what a layout is made of, pairs of names that read both ways, so that reading and writing agree."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

_SLOT = re.compile(r"\{(\+\d)?\}")


@dataclass(frozen=True)
class Translation:
    """Tensors under our names, where a name without a place in our model is kept, and the names left aside."""

    state: dict[str, Tensor]
    ignored: tuple[str, ...] = ()


class NameTable:
    """Pairs of how a name begins in their layout and in ours; the first pair that fits renames it.

    ``{}`` stands for a number, in the same order on both sides; ``{+2}`` for one that is greater by 2 on its side.

    Args:
        pairs: theirs and ours; what follows the beginning stays as it is.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self.pairs = tuple(pairs)
        self._to_ours = [_Rule(theirs, ours) for theirs, ours in self.pairs]
        self._from_ours = [_Rule(ours, theirs) for theirs, ours in self.pairs]

    def to_ours(self, name: str) -> str:
        """Our name of theirs; the name itself if no pair fits."""
        return _rename(name, self._to_ours)

    def from_ours(self, name: str) -> str:
        """Their name of ours; the name itself if no pair fits."""
        return _rename(name, self._from_ours)


class _Rule:
    """One pair in one direction."""

    def __init__(self, source: str, target: str) -> None:
        fixed = [re.escape(part) for part in _SLOT.split(source)[::2]]
        self.pattern = re.compile("([0-9]{1,4})".join(fixed))
        self.target = _SLOT.sub("{}", target)
        self.shifts = [int(b or 0) - int(a or 0) for a, b in zip(_SLOT.findall(source), _SLOT.findall(target))]

    def __call__(self, name: str) -> str | None:
        match = self.pattern.match(name)
        if match is None:
            return None
        numbers = [int(number) + shift for number, shift in zip(match.groups(), self.shifts)]
        return self.target.format(*numbers) + name[match.end() :]


def _rename(name: str, rules: list[_Rule]) -> str:
    renamed = (rule(name) for rule in rules)
    return next((new for new in renamed if new is not None), name)


def translate_names(
    tensors: Mapping[str, Tensor], new_name: Callable[[str], str], *, ignored: re.Pattern[str]
) -> Translation:
    """Leave aside the tensors whose names ``ignored`` matches from the start, and rename the others.

    Of two tensors that would get the same name the second keeps its own, and so ends up unexpected.
    """
    state: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not ignored.match(name):
            ours = new_name(name)
            state[name if ours in state else ours] = tensor
    return Translation(state, tuple(name for name in tensors if ignored.match(name)))
