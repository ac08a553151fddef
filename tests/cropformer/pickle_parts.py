"""Pickles and files of torch put together by hand, for tests of what no pickler would write."""

import io
import pickle
import zipfile

import torch

PROTO, EMPTY_DICT, END = b"\x80\x02", b"}", b"."


def torch_bytes(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def zip_bytes(parts: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A file as ``torch.save`` lays it out, with these parts and the two that torch asks for."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in {"version": b"3\n", "byteorder": b"little", **parts}.items():
            archive.writestr(f"archive/{name}", content)
    return file.getvalue()


# --- building blocks of pickles


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def integer(value: int) -> bytes:
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def sequence(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def call(module: str, name: str, *arguments: bytes) -> bytes:
    return f"c{module}\n{name}\n".encode() + sequence(*arguments) + b"R"


def state(entry: bytes) -> bytes:
    """A pickle of ``{"w": entry}``."""
    return PROTO + EMPTY_DICT + text("w") + entry + b"s" + END


def array(shape: bytes, dtype: bytes, data: bytes, start: bytes = b"K\x00\x85") -> bytes:
    empty = call("numpy.core.multiarray", "_reconstruct", b"cnumpy\nndarray\n", start, text("b"))
    return empty + sequence(b"K\x01", shape, dtype, b"\x89", data) + b"b"


def dtype_of(kind: str) -> bytes:
    return call("numpy", "dtype", text(kind), b"\x89", b"\x88")


def raw(data: bytes) -> bytes:
    return b"B" + len(data).to_bytes(4, "little") + data


def storage(elements: int, *, key: str = "0", legacy: bool = False) -> bytes:
    parts = [text("storage"), b"ctorch\nFloatStorage\n", text(key), text("cpu"), integer(elements)]
    return sequence(*parts, *([b"N"] if legacy else [])) + b"Q"


def view(source: bytes, offset: int, size: list[int], stride: list[int]) -> bytes:
    parts = [source, integer(offset), sequence(*map(integer, size)), sequence(*map(integer, stride))]
    return call("torch._utils", "_rebuild_tensor_v2", *parts, b"\x89", call("collections", "OrderedDict"))


def legacy_bytes(content: bytes, keys: list[str] = (), data: bytes = b"") -> bytes:
    start = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    return b"".join(pickle.dumps(part, 2) for part in start) + content + pickle.dumps(keys, 2) + data


def wrapped(content: bytes, form: str) -> bytes:
    """A pickle as a file of its own, or in one of the two forms of ``torch.save``."""
    return {"plain": content, "zip": zip_bytes({"data.pkl": content}), "legacy": legacy_bytes(content)}[form]
