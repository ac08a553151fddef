"""An annotation file, parsed once and kept as memory-mapped arrays, so that no later run and no worker parses it.

The index of a file lies in the cache folder under the SHA-256 of the file's content, masks as compressed RLE. A
process that is handed an index gets its path and maps it again.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar, overload

import numpy as np

from cropformer import InputError, atomic_path
from entitytransfer.file_digest import sha256_of

CACHE_VARIABLE = "ENTITYTRANSFER_CACHE"
Index = TypeVar("Index", bound="MappedIndex")

_CHECKSUM_BYTES = 4
_LARGE_BYTES = 100 * 2**20  # a file that takes long enough to parse that one should say so


@dataclass(frozen=True, eq=False)
class Texts(Sequence[str]):
    """Many strings in one array, ``data`` uint8; string i is ASCII or UTF-8 from ``edges[i]`` to ``edges[i + 1]``.

    A slice is a view, and travels by pickling as nothing but its own strings.
    """

    edges: np.ndarray
    data: np.ndarray

    @classmethod
    def pack(cls, texts: Iterable[str]) -> Texts:
        """Join strings."""
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        edges = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        return cls(edges, np.frombuffer(b"".join(encoded), dtype=np.uint8))

    def __len__(self) -> int:
        """Number of strings."""
        return len(self.edges) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Texts: ...

    def __getitem__(self, index: int | slice) -> str | Texts:
        """One string, or those of a slice without a step."""
        if isinstance(index, slice):
            first, stop, _ = index.indices(len(self))
            edges = self.edges[first : max(first, stop) + 1]
            return Texts(edges - edges[0], self.data[edges[0] : edges[-1]])
        number = range(len(self))[index]
        return self.data[self.edges[number] : self.edges[number + 1]].tobytes().decode("utf-8", "surrogatepass")

    def __eq__(self, other: object) -> bool:
        """Whether the strings are the same."""
        return isinstance(other, Texts) and list(self) == list(other)


class MappedIndex:
    """What an annotation file says: a frozen dataclass of arrays, then of `Texts`, and last of ``path``.

    Attributes:
        suffix: of the files that indices of this kind are kept in; another one for another layout.
        path: the file that the arrays are mapped from; None if they are in memory.
    """

    suffix: ClassVar[str]
    path: Path | None

    def __reduce__(self) -> tuple:
        """Travel as a path where there is one."""
        return (_map, (self.path, type(self))) if self.path else (_assemble, (self._arrays(), None, type(self)))

    def _arrays(self) -> list[np.ndarray]:
        """Everything, in the order of the file."""
        values: list[Any] = [getattr(self, field.name) for field in fields(self) if field.name != "path"]
        texts = [value for value in values if isinstance(value, Texts)]
        edges, data = ([getattr(text, name) for text in texts] for name in ("edges", "data"))
        return [*values[: -len(texts)], *edges, *data]


@dataclass(frozen=True, eq=False)
class AnnotationIndex(MappedIndex):
    """The images of an annotation file, I of them, and their annotations, A of them, image after image.

    Attributes:
        sizes_hw: int64 [I,2].
        first: int64 [I+1]; the annotations of image i are those from ``first[i]`` to ``first[i + 1]``.
        crowds: int64 [I]; so many annotations of each image, its last ones, are crowds.
        category_ids: int64 [A].
        areas: float64 [A], as the file states them; pixels of the mask where it does not.
        listed_categories: int64 [C], ascending; the ids that the file lists, used or not.
        listed_things: bool [C]; whether the categories are countable.
        category_names: C of them.
        image_ids: I of them, as JSON, because some are numbers and some strings.
        file_names: I of them.
        ids: A of them, as JSON.
        counts: A compressed COCO counts.
        path: the file that the arrays are mapped from; None if they are in memory.
    """

    sizes_hw: np.ndarray
    first: np.ndarray
    crowds: np.ndarray
    category_ids: np.ndarray
    areas: np.ndarray
    listed_categories: np.ndarray
    listed_things: np.ndarray
    category_names: Texts
    image_ids: Texts
    file_names: Texts
    ids: Texts
    counts: Texts
    path: Path | None = None

    suffix: ClassVar[str] = ".v2.index"


def open_index(source: Path, build: Callable[[Path], Index], kind: type[Index]) -> Index:
    """The index of an annotation file: from the cache, or built and put there for the next time.

    The cache is the folder that the environment variable ENTITYTRANSFER_CACHE names, else ``~/.cache/entitytransfer``.
    An index that is damaged is built again. One that cannot be kept stays in memory, and a line on the standard error
    stream says so.

    Args:
        source: the annotation file.
        build: makes its index.
        kind: of the index.

    Raises:
        InputError: the file cannot be read, or ``build`` refuses it.
    """
    path = cache_folder() / "annotations" / f"{_sha256(source)}{kind.suffix}"
    try:
        return _map(path, kind)
    except (OSError, ValueError):  # not there yet, or damaged
        if source.stat().st_size > _LARGE_BYTES:
            print(f"Indexing {source}; later runs find the index in {cache_folder()}.", file=sys.stderr)
        return _keep(build(source), path)


def cache_folder() -> Path:
    """Where files lie that can be made again."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "entitytransfer")


def _sha256(source: Path) -> str:
    try:
        return sha256_of(source)
    except OSError as error:
        raise InputError(f"Cannot read the annotation file {source}: {error.strerror or error}.") from error


def _keep(index: Index, path: Path) -> Index:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, index._arrays())
        return _map(path, type(index))
    except (OSError, InputError) as error:
        print(
            f"The index of an annotation file stays in memory and is made again by the next run, because {path.parent} "
            f"cannot be written ({error}); name another folder in {CACHE_VARIABLE}.",
            file=sys.stderr,
        )
        return index


def _write(path: Path, arrays: Sequence[np.ndarray]) -> None:
    """Write the arrays one after the other, each as a .npy file has it, and a checksum of them all."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for array in arrays:
            np.save(file, array, allow_pickle=False)
        file.flush()
        checksum = zlib.crc32(np.memmap(temporary, mode="r"))
        file.write(checksum.to_bytes(_CHECKSUM_BYTES, "little"))


def _map(path: Path, kind: type[Index]) -> Index:
    """Map what `_write` wrote.

    Raises:
        OSError: there is no such file.
        ValueError: it is damaged.
    """
    content = np.memmap(path, mode="r").view(np.ndarray)
    stored, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
    if zlib.crc32(stored) != int.from_bytes(checksum.tobytes(), "little"):
        raise ValueError(f"{path} is damaged")
    arrays = []
    with path.open("rb") as file:
        while file.tell() < stored.size:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            first, size = file.tell(), int(np.prod(shape)) * dtype.itemsize
            arrays.append(stored[first : first + size].view(dtype).reshape(shape))
            file.seek(first + size)
    return _assemble(arrays, path, kind)


def _assemble(arrays: Sequence[np.ndarray], path: Path | None, kind: type[Index]) -> Index:
    """The index of what ``MappedIndex._arrays`` gave: each of its `Texts` is two arrays in one field."""
    texts = len(arrays) - (len(fields(kind)) - 1)
    numbers, edges, data = arrays[: -2 * texts], arrays[-2 * texts : -texts], arrays[-texts:]
    return kind(*numbers, *map(Texts, edges, data), path)
