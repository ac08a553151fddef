"""Files made to harm: nothing in them runs, and each gets one sentence."""

import contextlib
import copyreg
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cropformer.containers.tensor_files import read_tensor_file
from cropformer.errors import InputError

from .pickle_parts import (
    array,
    call,
    dtype_of,
    integer,
    legacy_bytes,
    raw,
    sequence,
    state,
    storage,
    text,
    view,
    wrapped,
    zip_bytes,
)


def assert_refused(content: bytes, folder: Path, reason: str) -> None:
    (folder / "weights.pkl").write_bytes(content)
    with pytest.raises(InputError, match=reason) as caught:
        read_tensor_file(folder / "weights.pkl")
    assert str(caught.value).startswith(str(folder / "weights.pkl"))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_harmless_files_from_the_same_parts(form, tmp_path):
    """What is refused below is not refused for the way in which it was put together."""
    count = (2).to_bytes(8, "little")
    data = np.array([1.5, 2.5], dtype=np.float32).tobytes()
    files = {
        "zip": zip_bytes({"data.pkl": state(view(storage(2), 0, [2, 1], [1, 1])), "data/0": data}),
        "legacy": legacy_bytes(state(view(storage(2, legacy=True), 0, [2, 1], [1, 1])), ["0"], count + data),
    }
    (tmp_path / "weights.pkl").write_bytes(files[form])
    assert read_tensor_file(tmp_path / "weights.pkl").tensors["w"].tolist() == [[1.5], [2.5]]


# --- code


class Demand:
    """Pickled, it makes an ordinary unpickler call ``function``."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.reduction = function, arguments

    def __reduce__(self) -> tuple:
        return self.reduction


DEMANDS = {
    "system": (os.system, "touch crater"),
    "eval": (eval, "open('crater', 'w')"),
    "open": (open, "crater", "w"),
    "getattr": (getattr, int, "mro"),
    "bytearray": (bytearray, 10**12),
    "_reconstructor": (copyreg._reconstructor, Demand, object, None),
    "load": (np.load, "crater"),
    "_load_from_bytes": (torch.storage._load_from_bytes, b""),
}


@pytest.mark.parametrize("form", ["plain", "zip", "legacy"])
@pytest.mark.parametrize("wanted", DEMANDS)
def test_code_does_not_run(wanted, form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for protocol in range(6):
        content = pickle.dumps({"model": {"weight": 1}, "extra": [Demand(*DEMANDS[wanted])]}, protocol)
        torch_tensors = form == "plain" and wanted == "_load_from_bytes"
        reason = (
            "holds torch tensors" if torch_tensors else rf"asks for [\w.]+\.{wanted}; get the weights from a source"
        )
        assert_refused(wrapped(content, form), tmp_path, reason)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pkl"]


def test_such_code_would_run(tmp_path, monkeypatch):
    """The proof that the demands above are real."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Demand(*DEMANDS["system"])))
    assert (tmp_path / "crater").exists()


def test_torch_tensors_in_a_plain_pickle(tmp_path):
    """Conversion scripts for Mask2Former pickle ImageNet weights without torch.save."""
    content = {"model": {"weight": torch.ones(2)}, "__author__": "third_party", "matching_heuristics": True}
    for protocol in range(2, 6):
        assert_refused(pickle.dumps(content, protocol), tmp_path, "did not write; give the original .pth")


INSTRUCTIONS = {
    "INST": b"(iposix\nsystem\n",
    "OBJ": b"(" + b"]" + b"o",
    "NEWOBJ": b"]" + b")" + b"\x81",
    "NEWOBJ_EX": b"]" + b")" + b"}" + b"\x92",
    "EXT1": b"\x82\x01",
    "EXT2": b"\x83\x01\x00",
    "EXT4": b"\x84\x01\x00\x00\x00",
    "PERSID": b"Pname\n",
    "NEXT_BUFFER": b"\x97",
    "READONLY_BUFFER": b"]" + b"\x98",
}


@pytest.mark.parametrize("form", ["plain", "zip", "legacy"])
@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_instructions_that_weights_do_not_need(name, form, tmp_path):
    assert_refused(wrapped(state(INSTRUCTIONS[name]), form), tmp_path, f"asks for the pickle instruction {name};")


PERSISTENT_IDS = {
    "a text": text("anything"),
    "a module": sequence(text("module"), text("Net"), text("net.py"), text("code")),
    "a view": sequence(text("storage"), b"ctorch\nFloatStorage\n", text("0"), text("cpu"), b"K\x01", sequence()),
}


@pytest.mark.parametrize("form", ["plain", "zip", "legacy"])
@pytest.mark.parametrize("identity", PERSISTENT_IDS)
def test_persistent_ids(identity, form, tmp_path):
    plain = form == "plain" and identity == "a view"
    reason = "holds torch tensors" if plain else "asks for an object outside the pickle|cannot be read as"
    assert_refused(wrapped(state(PERSISTENT_IDS[identity] + b"Q"), form), tmp_path, reason)


def test_names_are_shown_without_their_control_characters(tmp_path):
    name = "\x1b[2Jevil\nname" + "x" * 500
    content = b"\x80\x04" + text("mod") + text(name) + b"\x93."
    assert_refused(content, tmp_path, r"asks for mod\. \[2Jevil namex{50,90}; get")
    assert_refused(pickle.dumps({name: np.array([np.nan])}), tmp_path, r"infinity in  \[2Jevil name")


# --- hostile use of what is allowed

WRONG = {
    "an array of objects": array(b"K\x01\x85", dtype_of("O8"), b"]"),
    "a structured dtype": array(
        b"K\x01\x85", dtype_of("f4") + sequence(b"K\x03", text("<"), b"]", b"N", b"N") + b"b", raw(b"0000")
    ),
    "a dtype that is none": array(b"K\x01\x85", b"N", raw(b"0000")),
    "a dtype of a list": array(b"K\x01\x85", call("numpy", "dtype", b"]"), raw(b"0000")),
    "too few bytes": array(b"K\x02\x85", dtype_of("f4"), raw(b"0000")),
    "too many bytes": array(b"K\x02\x85", dtype_of("f4"), raw(b"0" * 12)),
    "a negative shape": array(sequence(integer(-1), integer(-1)), dtype_of("f4"), raw(b"0000")),
    "a shape of a float": array(b"G?\xf0\0\0\0\0\0\0\x85", dtype_of("f4"), raw(b"0000")),
    "a shape of many dimensions": array(sequence(*[b"K\x01"] * 100), dtype_of("f4"), raw(b"0000")),
    "a state of one part": array(b"K\x01\x85", dtype_of("f4"), raw(b"0000"))[:-2] + b"0K\x01\x85b",
    "an array without a state": call("numpy.core.multiarray", "_reconstruct", b"cnumpy\nndarray\n", b"K\0\x85", b"N"),
    "an array of another class": call("numpy.core.multiarray", "_reconstruct", b"cnumpy\ndtype\n", b"K\0\x85", b"N"),
    "a call of a text": text("f") + b")R",
    "a call of a class": b"cnumpy\nndarray\n)R",
    "a call without arguments": b"ccollections\nOrderedDict\nNR",
    "a state of a list": b"]}b",
    "items of a text": text("a") + b"Na",
    "an odd dictionary": b"(Nd",
    "a key that is a list": b"}]Ns",
    "an absent memo": b"h\x07",
    "an empty stack": b"0000",
    "an unknown instruction": b"\xff",
    "an unfinished number": b"L" + b"9" * 10_000 + b"\n",
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_use_of_what_is_allowed(name, tmp_path):
    assert_refused(
        state(WRONG[name]), tmp_path, "cannot be read as a tensor-only checkpoint|plain numbers|original .pth"
    )


@pytest.mark.parametrize("name", ["data.pkl", "DATA.pkl"])
def test_two_parts_of_one_name(name, tmp_path):
    """Torch does not tell capitals apart in a zip: the inspected pickle must be the one that it reads."""
    with pytest.warns(UserWarning) if name == "data.pkl" else contextlib.nullcontext():
        file = io.BytesIO(zip_bytes({"data.pkl": state(b"N")}))
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(f"archive/{name}", state(b"]"))
    assert_refused(file.getvalue(), tmp_path, "holds two parts of one name")


def test_zips_that_torch_did_not_write(tmp_path):
    (tmp_path / "arrays.npz").write_bytes(b"")
    np.savez(tmp_path / "arrays.npz", a=np.ones(2))
    assert_refused(
        (tmp_path / "arrays.npz").read_bytes(), tmp_path, "is a zip file that torch.save did not write; give"
    )
    script = zip_bytes({"data.pkl": state(b"N"), "constants.pkl": b""})
    assert_refused(script, tmp_path, "is a TorchScript program; give the original .pth")


# --- safetensors


def safetensors_bytes(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype: str, shape: list[int], start: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


SPOILT_HEADERS = {
    "a header longer than the file": struct.pack("<Q", 2**62) + b"{}",
    "a header of 99 MB that is not there": struct.pack("<Q", 99_000_000) + b'{"a":',
    "not JSON": safetensors_bytes(b"{" * 100),
    "nested JSON": safetensors_bytes(b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
    "data behind the end": safetensors_bytes({"a": entry("F32", [4], 0, 16)}, b"\0" * 8),
    "overlapping data": safetensors_bytes({"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 4, 12)}, b"\0" * 12),
    "data before the start": safetensors_bytes({"a": entry("F32", [1], 4, 0)}, b"\0" * 4),
    "a shape of another size": safetensors_bytes({"a": entry("F32", [2**40, 2**40], 0, 4)}, b"\0" * 4),
    "an unknown dtype": safetensors_bytes({"a": entry("F99", [1], 0, 4)}, b"\0" * 4),
    "a dtype of sub-bytes": safetensors_bytes({"a": entry("F4", [4], 0, 2)}, b"\0" * 2),
    "a negative shape": safetensors_bytes({"a": entry("F32", [-1, -1], 0, 4)}, b"\0" * 4),
    "a list": safetensors_bytes(b'{"a": [1, 2]}'),
}


@pytest.mark.parametrize("content", SPOILT_HEADERS.values(), ids=SPOILT_HEADERS.keys())
def test_spoilt_safetensors(content, tmp_path):
    assert_refused(content, tmp_path, "get it again|give weights of float32")
