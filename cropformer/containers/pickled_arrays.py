"""NumPy arrays in plain pickles, as in the detectron2 model zoo: read without calling NumPy's own unpickling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from .safe_pickle import (
    ByteSource,
    Call,
    ForbiddenName,
    Name,
    Refusal,
    checked_size,
    ordered_dict,
    plain_set,
    printable,
    read_pickle,
)

_DTYPES = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})


class PickledDtype:
    """The ``numpy.dtype`` of a pickle: a plain number or bool of some byte order."""

    def __init__(self, text: object, *_: object) -> None:
        if type(text) is not str or text not in _DTYPES:
            kind = printable(text) if type(text) is str else "unknown"
            raise Refusal(f"holds an array of dtype {kind}; give weights of plain numbers")
        self.numpy = np.dtype(text)

    def build(self, state: object) -> None:
        """Take the byte order; all else in the state belongs to structured dtypes."""
        _, order, *rest = state
        if order not in ("<", ">", "|", "=") or rest[:3] != [None, None, None]:
            raise Refusal("holds an array of a structured dtype; give weights of plain numbers")
        self.numpy = self.numpy.newbyteorder(order)


class PickledArray:
    """The ``numpy.ndarray`` of a pickle; nothing is allocated until ``tensor`` is asked for."""

    def __init__(self) -> None:
        self._shape: tuple[int, ...] | None = None
        self._dtype = np.dtype(np.uint8)
        self._order, self._data = "C", b""

    def build(self, state: object) -> None:
        """Take version, shape, dtype, whether in Fortran order, and the bytes (a latin-1 string from Python 2)."""
        _, shape, dtype, fortran, data = state
        self.fill(data, dtype, shape, "F" if fortran else "C")

    def fill(self, data: object, dtype: object, shape: object, order: object) -> None:
        """Take the content if it has the size that shape and dtype state."""
        if not isinstance(dtype, PickledDtype) or not isinstance(data, (bytes, bytearray, str)):
            raise TypeError("an array of something else than bytes")
        self._shape, self._dtype = checked_size(shape), dtype.numpy
        if math.prod(self._shape) * self._dtype.itemsize != len(data) or order not in ("C", "F"):
            raise ValueError(f"an array of shape {shape} in {len(data)} bytes")
        self._data, self._order = data, order

    @property
    def nbytes(self) -> int:
        """Size of the content."""
        return len(self._data)

    @cached_property
    def tensor(self) -> Tensor:
        """The array as a tensor of native byte order; it shares a writable buffer of the pickle (protocol 5)."""
        if self._shape is None:
            raise ValueError("an array without content")
        data = self._data.encode("latin-1") if isinstance(self._data, str) else self._data
        buffer = data if isinstance(data, bytearray) else bytearray(data)
        array = np.ndarray(self._shape, self._dtype, buffer, order=self._order)
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))


def read_array_pickle(source: ByteSource, *, size: int) -> object:
    """The content of a plain pickle of ``size`` bytes, with ``PickledArray`` for arrays and None for array scalars.

    Raises:
        Refusal: the pickle asks for anything but arrays of numbers and plain containers.
        ValueError, TypeError, LookupError, AttributeError: the pickle is damaged.
    """
    try:
        return read_pickle(source, _CALLS, size=size)
    except ForbiddenName as error:
        if error.name.startswith("torch."):
            raise Refusal("holds torch tensors that torch.save did not write; give the original .pth") from error
        raise


def _reconstruct(kind: object, shape: object, _: object) -> PickledArray:
    """An array that is still to be given its state."""
    if kind != Name("numpy.ndarray") or shape != (0,):
        raise TypeError("a new array that is not empty")
    return PickledArray()


def _from_buffer(data: object, dtype: object, shape: object, order: object) -> PickledArray:
    """An array as protocol 5 writes it."""
    array = PickledArray()
    array.fill(data, dtype, shape, order)
    return array


def _scalar(*_: object) -> None:
    """A scalar such as an iteration count: no weight is one."""


def _encode(text: object, encoding: object = "") -> bytearray:
    """Bytes as Python 3 writes them in protocols 0 to 2; other codecs could compress, or take quadratic time."""
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise ForbiddenName("_codecs.encode with another codec than latin1")
    return bytearray(text, "latin-1")


def _empty_bytes() -> bytes:
    """``bytes()``, which protocols 0 to 2 write for an array without elements; with a length it could fill memory."""
    return b""


def _calls() -> Mapping[str, Call | None]:
    """What a plain pickle may name."""
    calls: dict[str, Call | None] = {
        "_codecs.encode": _encode,
        "collections.OrderedDict": ordered_dict,
        "numpy.ndarray": None,
        "numpy.dtype": PickledDtype,
    }
    for builtins in ("builtins", "__builtin__"):  # in Python 3 and 2
        calls |= dict.fromkeys((f"{builtins}.set", f"{builtins}.frozenset"), plain_set)
        calls[f"{builtins}.bytes"] = _empty_bytes
    for core in ("numpy.core", "numpy._core"):  # before and since NumPy 2
        calls |= {f"{core}.multiarray._reconstruct": _reconstruct, f"{core}.multiarray.scalar": _scalar}
        calls[f"{core}.numeric._frombuffer"] = _from_buffer
    return calls


_CALLS = _calls()
