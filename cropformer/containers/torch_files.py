"""Files of ``torch.save``, zip and legacy: inspected without torch, then read by ``torch.load(weights_only=True)``.

``weights_only`` runs no code, but it can be made to allocate without end, to crash on nested keys, or to read past a
storage. The inspection refuses such files before torch sees them.
"""

from __future__ import annotations

import math
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from mmap import ACCESS_READ, mmap
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import torch

from .safe_pickle import (
    ByteSource,
    Call,
    ForbiddenName,
    Name,
    Refusal,
    checked_size,
    ordered_dict,
    plain_set,
    read_pickle,
)

LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."  # the pickled number that opens the file

# Bytes per element of the storages that a file may name.
_STORAGES = {"torch.storage.UntypedStorage": 1} | {
    f"torch.{kind}Storage": size
    for kinds, size in (
        ("Byte Char Bool", 1),
        ("Short Half BFloat16", 2),
        ("Int Float", 4),
        ("Long Double ComplexFloat", 8),
        ("ComplexDouble", 16),
    )
    for kind in kinds.split()
}
_DTYPES = {f"torch.{name}": dtype for name, dtype in vars(torch).items() if isinstance(dtype, torch.dtype)}
_KINDS = {
    "torch._utils._rebuild_qtensor": "quantised",
    "torch._utils._rebuild_sparse_tensor": "sparse",
    "torch._utils._rebuild_sparse_csr_tensor": "sparse",
    "torch._utils._rebuild_nested_tensor": "nested",
    "torch._utils._rebuild_meta_tensor_no_storage": "meta",
}
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, length of the name, length of the extra field


def read_torch_zip(path: Path) -> object:
    """What ``torch.save`` wrote as a zip, its tensors mapped from the file where torch allows it.

    Raises:
        Refusal: the file asks for more than plain containers and dense tensors that fit in it.
        Exception: the file is damaged.
    """
    with path.open("rb") as file:
        sizes, pickle = _inspect_zip(file, path.stat().st_size)
    inspection = _Inspection()
    inspection.read(BytesIO(pickle), len(pickle))
    if any(sizes.get(f"data/{key}", 0) != nbytes for key, nbytes in inspection.storages.items()):
        raise Refusal("does not hold all the tensors that it lists; get it again")
    # Torch maps a file by its path only, and takes any path with this suffix for safetensors.
    return _load(path, mapped=path.suffix != ".safetensors")


def read_torch_legacy(path: Path) -> object:
    """What ``torch.save`` wrote before torch 1.6: five pickles, then the storages.

    Raises:
        Refusal: the file asks for more than plain containers and dense tensors that fit in it.
        Exception: the file is damaged.
    """
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as view:
        for _ in range(3):  # magic number, version, facts about the machine
            read_pickle(view, {}, size=len(view))
        inspection = _Inspection()
        inspection.read(view, len(view))
        read_pickle(view, {}, size=len(view))  # names of the storages
        if sum(inspection.storages.values()) > len(view) - view.tell():
            raise Refusal("does not hold all the tensors that it lists; get it again")
    return _load(path, mapped=False)


def _load(path: Path, *, mapped: bool) -> object:
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a protocol that torch does not know: it fails, or it does not matter
        return torch.load(path if mapped else file, map_location="cpu", weights_only=True, mmap=mapped)


def _inspect_zip(file: ByteSource, size: int) -> tuple[dict[str, int], bytes]:
    """Sizes of the parts of a zip by their names for torch, and its pickle."""
    with ZipFile(file) as archive:
        records = archive.infolist()
    _check_records(records, size)
    prefix = records[0].filename.partition("/")[0]
    parts = {info.filename.removeprefix(f"{prefix}/"): info for info in records}
    if "data.pkl" not in parts or "constants.pkl" in parts or len(parts) != len(records):
        kind = "a TorchScript program" if "constants.pkl" in parts else "a zip file that torch.save did not write"
        raise Refusal(f"is {kind}; give the original .pth")
    starts = {name: _data_start(file, info, size) for name, info in parts.items()}
    file.seek(starts["data.pkl"])
    return {name: info.file_size for name, info in parts.items()}, file.read(parts["data.pkl"].file_size)


def _check_records(records: list[ZipInfo], size: int) -> None:
    """The directory of the zip promises no more than the file holds, and each name once as torch compares names."""
    if any(info.compress_type != ZIP_STORED or info.file_size != info.compress_size for info in records):
        raise Refusal("is a compressed zip file, which torch.save does not write; give the original .pth")
    if sum(info.file_size for info in records) > size or min((r.header_offset for r in records), default=-1) != 0:
        raise Refusal("states other data than it holds; get it again")
    if len({info.filename.lower() for info in records}) != len(records):
        raise Refusal("holds two parts of one name; get the weights from a source that you trust")


def _data_start(file: ByteSource, info: ZipInfo, size: int) -> int:
    """Where the content of a part starts, found as torch finds it."""
    file.seek(info.header_offset)
    signature, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    start = info.header_offset + _LOCAL_HEADER.size + name + extra
    if signature != b"PK\x03\x04" or start + info.file_size > size:
        raise Refusal("is a damaged zip file; get it again")
    return start


@dataclass(frozen=True)
class _Storage:
    """A storage that the pickle mentions."""

    nbytes: int
    itemsize: int


@dataclass
class _Inspection:
    """The storages that a pickle of torch mentions, by name, in bytes; its tensors are checked against them."""

    storages: dict[str, int] = field(default_factory=dict)

    def read(self, source: ByteSource, size: int) -> None:
        """Go through the pickle and keep nothing but the sizes of its storages."""
        try:
            read_pickle(source, self._calls(), size=size, persistent=self._storage)
        except ForbiddenName as error:
            kind = _KINDS.get(error.name, "quantised" if error.name.startswith("torch.Q") else None)
            if kind is None:
                raise
            raise Refusal(f"holds {kind} tensors; save the weights as dense tensors") from error

    def _storage(self, identity: object) -> _Storage:
        """``("storage", type, key, location, elements)``, and in legacy files None for "no view of another"."""
        kind, storage_type, key, _, count, *view = identity
        if kind != "storage" or any(part is not None for part in view) or type(key) is not str:
            raise ForbiddenName("an object outside the pickle")
        if type(count) is not int or count < 0:
            raise ValueError("a storage of no known size")
        itemsize = _STORAGES[storage_type.text]
        if self.storages.setdefault(key, count * itemsize) != count * itemsize:
            raise ValueError("a storage of two sizes")
        return _Storage(count * itemsize, itemsize)

    def _calls(self) -> Mapping[str, Call | None]:
        """What the pickle may name: what state dicts, optimisers and Lightning are made of."""
        calls: dict[str, Call | None] = dict.fromkeys((*_STORAGES, *_DTYPES))
        calls |= {f"torch._utils._rebuild_tensor{version}": _check_tensor for version in ("", "_v2")}
        calls |= dict.fromkeys(("builtins.set", "__builtin__.set"), plain_set)
        return calls | {
            "torch._utils._rebuild_tensor_v3": _check_tensor_with_dtype,
            "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
            "torch.Size": _check_size,
            "torch.device": _check_device,
            "collections.OrderedDict": ordered_dict,
            "collections.Counter": _check_counter,
        }


def _check_tensor(storage: object, offset: object, size: object, stride: object, *_: object) -> None:
    """A strided tensor lies within its storage and has no more elements than it; torch would enlarge the storage."""
    _check_view(storage, offset, size, stride, itemsize=storage.itemsize)


def _check_tensor_with_dtype(
    storage: object, offset: object, size: object, stride: object, _: object, __: object, dtype: Name, *___: object
) -> None:
    """The same for dtypes that have no storage type of their own."""
    _check_view(storage, offset, size, stride, itemsize=_DTYPES[dtype.text].itemsize)


def _check_view(storage: object, offset: object, size: object, stride: object, *, itemsize: int) -> None:
    size, stride = checked_size(size), checked_size(stride)
    if type(offset) is not int or offset < 0 or len(size) != len(stride):
        raise TypeError("a tensor at no known place")
    count = math.prod(size)
    end = offset + sum((n - 1) * step for n, step in zip(size, stride)) + 1 if count else offset
    if max(end, count) * itemsize > storage.nbytes:
        raise Refusal("holds a tensor that is larger than its data; get it again, or save expanded tensors as clones")


def _check_size(size: object = ()) -> None:
    """The ``torch.Size`` of a pickle."""
    checked_size(tuple(size) if type(size) is list else size)


def _check_device(kind: object, index: object = None) -> None:
    """The ``torch.device`` of a pickle."""
    if type(kind) is not str or type(index) not in (int, type(None)):
        raise TypeError("a device that is none")


def _check_counter(counts: object = None) -> None:
    """The ``collections.Counter`` of a pickle."""
    if type(counts) not in (dict, type(None)):
        raise TypeError("a counter of something else than a dictionary")
