"""Pickles read as data: a stack machine that imports nothing and calls only what its caller lists.

The standard library decodes the opcodes; what they may do is decided here, for files that come from anywhere.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from mmap import mmap
from pickletools import genops
from typing import IO, Protocol, runtime_checkable

ByteSource = IO[bytes] | mmap
Call = Callable[..., object]

# Opcodes whose decoded argument is the value itself.
_NUMBERS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
_TEXTS = {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_BYTES = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_VALUES = _NUMBERS | _TEXTS | _BYTES
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_SET": set}
_IGNORED = frozenset({"PROTO", "FRAME"})
_KEY_TYPES = frozenset({str, bytes, int, float, bool, type(None)})
_MAX_DIMS = 64  # as NumPy and torch have it
_SIZED = (str, bytes, bytearray, list, tuple, dict, set, frozenset)


class Refusal(ValueError):
    """Why a file is not read and what to do about it: the predicate of a sentence that starts with its path."""


class ForbiddenName(Refusal):
    """A pickle asks for a global that is not on the list; ``name`` is that global."""

    def __init__(self, name: str) -> None:
        self.name = name
        advice = "get the weights from a source that you trust"
        super().__init__(f"is not a tensor-only checkpoint: it asks for {printable(name)}; {advice}")


@dataclass(frozen=True)
class Name:
    """A global that a pickle names, as ``module.name``; it is never imported."""

    text: str


@runtime_checkable
class Buildable(Protocol):
    """A stand-in that takes the state which a pickle gives to the object it stands for."""

    def build(self, state: object) -> None:
        """Check and take the state."""


def printable(text: object, *, length: int = 100) -> str:
    """``text`` from a file that nobody trusts, on one line, cut to ``length`` and without control characters."""
    return "".join(c if c.isprintable() else " " for c in str(text)[:length])


def read_pickle(
    source: ByteSource,
    calls: Mapping[str, Call | None],
    *,
    size: int,
    persistent: Call | None = None,
) -> object:
    """The content of one pickle (protocol 0 to 5) that starts where ``source`` stands.

    Args:
        source: file or memory map with the pickle; it is left standing behind the pickle.
        calls: what a pickle may name, and the function that plays it; None if it may be named and not called.
        size: length of the pickle in bytes; the calls are given no more items than that, all calls together.
        persistent: resolves persistent ids; without it they are refused.

    Raises:
        Refusal: the pickle asks for something else.
        ValueError, TypeError, LookupError, AttributeError: the pickle is damaged.
    """
    return _Machine(calls, size, persistent).run(source)


def checked_key(key: object) -> object:
    """``key`` if its hash costs nothing: nested tuples take exponential time or the whole stack, huge integers long."""
    if type(key) not in _KEY_TYPES or (type(key) is int and key.bit_length() > 64):
        raise Refusal(f"has a {type(key).__name__} among the keys of a dictionary or set; give the original .pth")
    return key


def checked_size(size: object) -> tuple[int, ...]:
    """``size`` if it can be the shape of an array: few natural numbers, so that their product costs nothing."""
    if type(size) is not tuple or len(size) > _MAX_DIMS or not all(type(n) is int and 0 <= n < 2**63 for n in size):
        raise TypeError("a shape that is none")
    return size


def ordered_dict(pairs: object = ()) -> OrderedDict[object, object]:
    """The ``collections.OrderedDict`` of a pickle: empty, or a list of pairs from Python 2."""
    if type(pairs) not in (list, tuple):
        raise TypeError("an ordered dictionary of something else than pairs")
    return OrderedDict((checked_key(key), value) for key, value in pairs)


def plain_set(items: object = ()) -> set[object]:
    """The ``set`` of a pickle of protocol 3 or older."""
    if type(items) is not list:
        raise TypeError("a set of something else than a list")
    return {checked_key(item) for item in items}


class _Machine:
    """Stack, marks and memo of one pickle."""

    def __init__(self, calls: Mapping[str, Call | None], size: int, persistent: Call | None) -> None:
        self.calls, self.persistent = calls, persistent
        self.budget = size
        self.stack: list[object] = []
        self.below: list[list[object]] = []  # the stacks under each open mark
        self.memo: dict[int, object] = {}

    def run(self, source: ByteSource) -> object:
        """Execute until STOP."""
        for opcode, argument, _ in genops(source):
            name = opcode.name
            if name == "STOP":
                break
            if name in _VALUES:
                self.stack.append(argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name])
            elif name in _EMPTY:
                self.stack.append(_EMPTY[name]())
            elif name in _ACTIONS:
                _ACTIONS[name](self, argument)
            elif name not in _IGNORED:
                raise ForbiddenName(f"the pickle instruction {name}")
        return self.stack.pop()

    def _mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def _push(self, value: object) -> None:
        self.stack.append(value)

    def _since_mark(self) -> list[object]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def _pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._since_mark()

    def _last(self, count: int) -> list[object]:
        """Take the topmost ``count`` values, the deepest first."""
        return [self.stack.pop() for _ in range(count)][::-1]

    def _remember(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def _extend(self, items: list[object]) -> None:
        if type(self.stack[-1]) is not list:
            raise TypeError("items for something else than a list")
        self.stack[-1].extend(items)

    def _add(self, items: list[object]) -> None:
        if type(self.stack[-1]) is not set:
            raise TypeError("members for something else than a set")
        self.stack[-1].update(map(checked_key, items))

    def _set_items(self, items: list[object]) -> None:
        """Put keys and values, which take turns in ``items``, into the dictionary on the stack."""
        target = self.stack[-1]
        if type(target) not in (dict, OrderedDict) or len(items) % 2:
            raise TypeError("keys and values for something else than a dictionary")
        target.update(zip(map(checked_key, items[::2]), items[1::2]))

    def _find(self, name: str) -> None:
        if name not in self.calls:
            raise ForbiddenName(name)
        self.stack.append(Name(name))

    def _reduce(self) -> None:
        name, arguments = self._last(2)
        call = self.calls[name.text] if isinstance(name, Name) else None
        if call is None or type(arguments) is not tuple:
            raise TypeError("a call of something that cannot be called")
        self._charge(arguments)
        self.stack.append(call(*arguments))

    def _build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        self._charge((state,))
        if isinstance(target, Buildable):
            target.build(state)
        elif type(target) is not OrderedDict or type(state) is not dict:
            raise TypeError("a state for something that has none")  # attributes of ordered dictionaries are left out

    def _resolve(self, persistent_id: object) -> None:
        if self.persistent is None:
            raise ForbiddenName("an object outside the pickle")
        self.stack.append(self.persistent(persistent_id))

    def _charge(self, values: tuple[object, ...]) -> None:
        """A call copies what it is given; a few bytes of pickle could ask for that of the same list for ever."""
        self.budget -= sum(len(value) for value in values if isinstance(value, _SIZED))
        if self.budget < 0:
            raise Refusal("asks for far more than it holds; get the weights from a source that you trust")


def _make_dictionary(machine: _Machine) -> None:
    items = machine._since_mark()
    machine._push({})
    machine._set_items(items)


# Opcodes that do more than push a value; most have no argument.
_ACTIONS: dict[str, Callable[[_Machine, object], object]] = {
    "MARK": lambda m, _: m._mark(),
    "POP": lambda m, _: m._pop(),
    "POP_MARK": lambda m, _: m._since_mark(),
    "DUP": lambda m, _: m._push(m.stack[-1]),
    "TUPLE": lambda m, _: m._push(tuple(m._since_mark())),
    "TUPLE1": lambda m, _: m._push(tuple(m._last(1))),
    "TUPLE2": lambda m, _: m._push(tuple(m._last(2))),
    "TUPLE3": lambda m, _: m._push(tuple(m._last(3))),
    "LIST": lambda m, _: m._push(m._since_mark()),
    "DICT": lambda m, _: _make_dictionary(m),
    "FROZENSET": lambda m, _: m._push(frozenset(map(checked_key, m._since_mark()))),
    "APPEND": lambda m, _: m._extend(m._last(1)),
    "APPENDS": lambda m, _: m._extend(m._since_mark()),
    "ADDITEMS": lambda m, _: m._add(m._since_mark()),
    "SETITEM": lambda m, _: m._set_items(m._last(2)),
    "SETITEMS": lambda m, _: m._set_items(m._since_mark()),
    "GLOBAL": lambda m, argument: m._find(argument.replace(" ", ".", 1)),
    "STACK_GLOBAL": lambda m, _: m._find(".".join(m._last(2))),
    "REDUCE": lambda m, _: m._reduce(),
    "BUILD": lambda m, _: m._build(),
    "BINPERSID": lambda m, _: m._resolve(m.stack.pop()),
    "MEMOIZE": lambda m, _: m._remember(len(m.memo)),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda m, argument: m._remember(argument)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda m, argument: m._push(m.memo[argument])),
}
