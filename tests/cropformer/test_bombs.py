"""Small files that ask for endless memory, time or depth: read in a process that may use little more than it has."""

import json
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from .pickle_parts import (
    PROTO,
    array,
    call,
    dtype_of,
    integer,
    legacy_bytes,
    raw,
    state,
    storage,
    text,
    torch_bytes,
    view,
    zip_bytes,
)


def nested_key(depth: int, double: bool) -> bytes:
    """A dictionary whose key is a tuple in a tuple; doubled, its hash takes 2 to the power of ``depth`` steps."""
    return state(b"}N" + (b"2\x86" if double else b"\x85") * depth + b"Ns")


def same_again(once: bytes, again: bytes, times: int) -> bytes:
    """A list of ``again``, which takes what ``once`` has put into memo 0."""
    return state(b"](" + once + b"q\x00" + again * times + b"e")


TORCH_STATE = {"w": torch.ones(100)}
LARGE = 10**12
ENCODE = b"c_codecs\nencode\n"
ROW = b"](" + b"(K\x01K\x02t" * 20_000 + b"e"
BOMBS = {
    "array of a large shape": state(array(integer(LARGE) + b"\x85", dtype_of("f4"), raw(b"0000"))),
    "new array of a large shape": state(array(b"K\0\x85", dtype_of("f4"), raw(b""), integer(LARGE) + b"\x85")),
    "array of two large factors": state(array(integer(2**62) * 2 + b"\x86", dtype_of("f4"), raw(b""))),
    "large memo index": PROTO + b"}r\xff\xff\xff\xff.",
    "large length of bytes": b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"abc.",
    "large length of a bytearray": b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"abc.",
    "large length of a text": PROTO + b"X\xff\xff\xff\xffabc.",
    "large frame": b"\x80\x04\x95" + (2**62).to_bytes(8, "little") + b"}.",
    "large bytes()": state(call("builtins", "bytes", integer(LARGE))),
    "nested lists": PROTO + b"]" * 300_000 + b"a" * 299_999 + b".",
    "open marks": PROTO + b"(" * 300_000 + b".",
    "deep key": nested_key(300_000, double=False),
    "doubled key": nested_key(60, double=True),
    "member of a set": state(b"\x8f(N" + b"2\x86" * 60 + b"\x90"),
    "large integer as a key": state(b"}\x8b\xf0\x49\x02\x00" + b"\x7f" * 150_000 + b"Ns"),
    "codec that doubles": state(
        ENCODE * 2 + text("a" * 1000) + text("hex_codec") + b"\x86R" + text("hex_codec") + b"\x86R"
    ),
    "text encoded again": same_again(text("a" * 10**6), ENCODE + b"h\x00" + text("latin1") + b"\x86R", 1000),
    "list read again": same_again(ROW, b"ccollections\nOrderedDict\nh\x00\x85R", 1000),
    "array named again": pickle.dumps({str(i): ones for ones in [np.ones(10**5)] for i in range(100)}),
    "compressed zip": zip_bytes({"data.pkl": state(b"N"), "data/0": bytes(10**7)}, compression=zipfile.ZIP_DEFLATED),
    "zip that promises more": torch_bytes(TORCH_STATE).replace((400).to_bytes(4, "little") * 2, b"\0\0\0\x70" * 2),
    "zip without a storage": zip_bytes({"data.pkl": state(view(storage(LARGE), 0, [LARGE], [1]))}),
    "legacy without a storage": legacy_bytes(state(view(storage(LARGE, legacy=True), 0, [LARGE], [1])), ["0"]),
    "zip of an expanded tensor": zip_bytes({"data.pkl": state(view(storage(1), 0, [LARGE], [0])), "data/0": bytes(4)}),
    "zip of a tensor behind its storage": zip_bytes(
        {"data.pkl": state(view(storage(1), 9, [1], [1])), "data/0": bytes(4)}
    ),
    "legacy of an enlarged tensor": legacy_bytes(
        state(view(storage(1, legacy=True), 0, [LARGE], [1])), ["0"], (1).to_bytes(8, "little") + bytes(4)
    ),
    "tensor constructor": zip_bytes({"data.pkl": state(call("torch", "FloatTensor", integer(LARGE)))}),
    "storage constructor": zip_bytes({"data.pkl": state(call("torch.storage", "UntypedStorage", integer(LARGE)))}),
    "quantised tensor": zip_bytes({"data.pkl": state(b"ctorch._utils\n_rebuild_qtensor\n")}),
    "deep key of torch": zip_bytes({"data.pkl": nested_key(300_000, double=False)}),
    "tensors named again": torch_bytes({str(i): ones for ones in [torch.ones(10**5)] for i in range(100)}),
}
READ_ALL = """
import json, pathlib, resource, sys
from cropformer.errors import InputError
from cropformer.containers.tensor_files import read_tensor_file
in_use = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + 200_000_000,) * 2)
for path in map(pathlib.Path, sys.argv[1:]):
    try:
        print(json.dumps([path.name, f"{len(read_tensor_file(path).tensors)} tensors"]), flush=True)
    except InputError as error:
        print(json.dumps([path.name, str(error)]), flush=True)
"""


@pytest.fixture(scope="module")
def said_of_bombs(tmp_path_factory) -> dict[str, str]:
    """What a process with little memory says of each bomb; one that crashes says nothing of the rest."""
    folder = tmp_path_factory.mktemp("bombs")
    for name, content in {**BOMBS, "harmless": torch_bytes(TORCH_STATE)}.items():
        (folder / name).write_bytes(content)
    paths = [str(path) for path in sorted(folder.iterdir())]
    command = [sys.executable, "-X", "faulthandler", "-c", READ_ALL, *paths]
    result = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout[-300:] + result.stderr[-3000:]
    return dict(map(json.loads, result.stdout.splitlines()))


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory")
@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name, said_of_bombs):
    assert said_of_bombs["harmless"] == "1 tensors"
    assert re.search("; (give|get|save) ", said_of_bombs[name]), said_of_bombs[name]
    assert "MemoryError" not in said_of_bombs[name]
    assert "allocate" not in said_of_bombs[name]
