"""Any file of weights, read without running or trusting anything in it.

Safetensors, ``torch.save`` (zip and legacy) and plain pickles of NumPy arrays are told apart by their content.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from mmap import ACCESS_READ, mmap
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from ..errors import InputError
from .pickled_arrays import PickledArray, read_array_pickle
from .safe_pickle import Refusal, printable
from .torch_files import LEGACY_MAGIC, read_torch_legacy, read_torch_zip

# Where a state dict may stand in a pickle, tried in this order: detectron2, Lightning and timm, plain torch training
# loops, DeepSpeed. Otherwise the top level is the state dict.
STATE_KEYS = ("model", "state_dict", "model_state_dict", "module")
_INTEGERS = {torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32, torch.int64}
_DTYPES = _INTEGERS | {torch.bool, torch.float16, torch.bfloat16, torch.float32, torch.float64}
# Tied weights share data; more than this and the file is made to exhaust memory.
_MAX_SHARING = 4


@dataclass(frozen=True)
class TensorFile:
    """All weights of a file under its own names, and the texts that stand beside them.

    Attributes:
        tensors: dense CPU tensors of any shape, in the dtype of the file (bool, integers, 16 to 64 bit floats);
            floating ones are finite. They may share memory with the file or with each other.
        metadata: metadata of safetensors, or the strings at the top level of a pickle.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)


def read_tensor_file(path: Path) -> TensorFile:
    """Read safetensors, a file of ``torch.save``, or a plain pickle of NumPy arrays; the suffix does not matter.

    State dicts are looked for under ``STATE_KEYS`` and at the top level. Entries that are no tensors are left out.

    Raises:
        InputError: the file is missing, unreadable, damaged or hostile, holds no tensors, or holds tensors with NaN,
            infinity or a dtype that is not that of weights.
    """
    try:
        if not path.is_file():
            raise InputError(
                f"there is no weights file at {path}; give 'nano', another known name, or the path of a file"
            )
        file = _reader(path)(path)
        _check(file.tensors)
    except InputError:
        raise
    except Refusal as error:
        raise InputError(f"{path} {error}") from error
    except PermissionError as error:
        raise InputError(f"{path} cannot be opened ({error.strerror}); change its permissions") from error
    except Exception as error:  # parsers raise many types for damaged or hostile files
        reason = printable(f"{type(error).__name__}: {error}".splitlines()[0], length=160)
        raise InputError(f"{path} cannot be read as a tensor-only checkpoint ({reason}); get it again") from error
    return file


def _reader(path: Path) -> Callable[[Path], TensorFile]:
    """The function for the kind of file that the first bytes announce."""
    with path.open("rb") as file:
        start = file.read(len(LEGACY_MAGIC))
    if start.startswith(b"PK\x03\x04"):
        return lambda path: _from_content(read_torch_zip(path), path)
    if start == LEGACY_MAGIC:
        return lambda path: _from_content(read_torch_legacy(path), path)
    if start[8:9] == b"{":  # behind the length of the header
        return _read_safetensors
    if start[:1] in (b"\x80", b"(", b"}", b"c"):  # protocol 2 and above; a dictionary in protocols 0 and 1
        return _read_plain_pickle
    raise Refusal("is no weights file (safetensors, torch.save or a pickle of arrays); get it again")


def _read_safetensors(path: Path) -> TensorFile:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata() or {}
    if not tensors:
        raise Refusal("holds no tensors; give a CropFormer or Mask2Former checkpoint")
    return TensorFile(tensors, metadata)


def _read_plain_pickle(path: Path) -> TensorFile:
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as view:
        content = read_array_pickle(view, size=len(view))
    return _from_content(content, path)


def _from_content(content: object, path: Path) -> TensorFile:
    """The state dict of an unpickled file, as tensors, and the strings beside it."""
    top = content if isinstance(content, dict) else {}
    candidates = [top.get(key) for key in STATE_KEYS]
    candidates.append({name: entry for name, entry in top.items() if name not in STATE_KEYS})
    found = next((entries for entries in map(_tensor_entries, candidates) if entries), {})
    if not found:
        raise Refusal("holds no tensors; give a CropFormer or Mask2Former checkpoint")
    odd = [name for name in found if not isinstance(name, str)]
    if odd:
        raise Refusal(f"names a tensor {printable(odd[0])}, not by a string; give a checkpoint of a model")
    if sum(entry.nbytes for entry in found.values()) > _MAX_SHARING * path.stat().st_size:
        raise Refusal("names far more tensors than it holds; get the weights from a source that you trust")
    tensors = {name: e.tensor if isinstance(e, PickledArray) else e.detach() for name, e in found.items()}
    return TensorFile(tensors, {k: v for k, v in top.items() if isinstance(k, str) and isinstance(v, str)})


def _tensor_entries(state: object) -> dict[object, Tensor | PickledArray]:
    """The entries of a state dict that are tensors."""
    items = state.items() if isinstance(state, dict) else ()
    return {name: entry for name, entry in items if isinstance(entry, (Tensor, PickledArray))}


def _check(tensors: dict[str, Tensor]) -> None:
    """Each tensor is of a dtype that weights have, and finite."""
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES:
            dtype = str(tensor.dtype).removeprefix("torch.")
            raise Refusal(f"holds {printable(name)} as {dtype}; give weights of float32, float16 or bfloat16")
        if tensor.is_floating_point() and tensor.numel() and not _finite(tensor):
            raise Refusal(f"holds NaN or infinity in {printable(name)}; the file is damaged, get it again")


def _finite(tensor: Tensor) -> bool:
    """Whether all is finite: one pass without temporaries, as NaN goes into both extremes."""
    low, high = tensor.aminmax()
    return bool(low.isfinite() and high.isfinite())
