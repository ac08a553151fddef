"""Files of weights: every genuine layout is read, and every damaged file gets one sentence."""

import io
import json
import pickle
from collections import Counter, OrderedDict
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from cropformer.containers.tensor_files import STATE_KEYS, TensorFile, read_tensor_file
from cropformer.errors import InputError

ARRAYS = {
    "backbone.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "half": np.array([0.5, -65504.0], dtype=np.float16),
    "double": np.array([[1e300]]),
    "steps": np.array(7),
    "index": np.array([[1, 2], [3, 4]], dtype=np.int32),
    "flags": np.array([True, False]),
    "bytes": np.array([0, 127, 128, 255], dtype=np.uint8),
    "none": np.zeros((0, 3), dtype=np.float32),
}
TENSORS = {name: torch.from_numpy(array) for name, array in ARRAYS.items()}


def torch_bytes(content: object, **choices) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **choices)
    return file.getvalue()


@cache
def whole_file(kind: str) -> bytes:
    """A small genuine file of each kind."""
    if kind == "safetensors":
        return save(TENSORS, metadata={"format": "pt"})
    if kind.startswith("torch"):
        return torch_bytes({"model": TENSORS}, _use_new_zipfile_serialization=kind == "torch zip")
    return pickle.dumps({"model": ARRAYS, "__author__": "me", "matching_heuristics": True}, int(kind[-1]))


KINDS = ["safetensors", "torch zip", "torch legacy", *(f"pickle {protocol}" for protocol in range(6))]


def read(content: bytes, folder: Path, name: str = "weights.bin") -> TensorFile:
    (folder / name).write_bytes(content)
    return read_tensor_file(folder / name)


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


def assert_refused(content: bytes, folder: Path, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        read(content, folder)
    assert str(caught.value).startswith(str(folder / "weights.bin"))
    assert str(caught.value).isprintable()


# --- genuine files


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pkl", ""])
@pytest.mark.parametrize("kind", KINDS)
def test_the_content_tells_the_kind_of_file(kind, suffix, tmp_path):
    assert_same(read(whole_file(kind), tmp_path, f"weights{suffix}").tensors, TENSORS)


@pytest.mark.parametrize("key", [*STATE_KEYS, None])
def test_where_the_state_dict_stands(key, tmp_path):
    state = OrderedDict(TENSORS) | {"note": "text", "scale": 3}
    content = {key: state, "other": torch.ones(2), "iteration": 7} if key else state
    assert_same(read(torch_bytes(content), tmp_path).tensors, TENSORS)


def test_a_place_without_tensors_is_passed_over(tmp_path):
    content = {"model": "swin_t", "state_dict": {"weight": torch.ones(2)}, "module": {"weight": torch.zeros(2)}}
    file = read(torch_bytes(content), tmp_path)
    assert_same(file.tensors, {"weight": torch.ones(2)})
    assert file.metadata == {"model": "swin_t"}


@pytest.mark.parametrize("zipped", [True, False])
def test_a_lightning_checkpoint(zipped, tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    content = {
        "epoch": 3,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": model.state_dict(),
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [{k: v for k, v in scheduler.state_dict().items() if isinstance(v, (int, list, Counter))}],
        "callbacks": {"ModelCheckpoint{'monitor': 'ap'}": {"best": torch.tensor(0.4), "kept": {"a.ckpt": None}}},
        "loops": {"fit_loop": {"progress": {"ready": 5, "sizes": (1, 2.5, {"x"})}}},
        "size": torch.Size([3, 4]),
        "device": torch.device("cuda", 0),
        "dtype": torch.float32,
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "architecture": json.dumps({"backbone": "swin"}),
        "settings": "{}",
    }
    file = read(torch_bytes(content, _use_new_zipfile_serialization=zipped), tmp_path)
    assert_same(file.tensors, dict(model.state_dict()))
    expected = {"pytorch-lightning_version": "2.5.0", "architecture": '{"backbone": "swin"}', "settings": "{}"}
    assert file.metadata == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.uint16])
def test_dtypes_that_numpy_or_old_storages_lack(dtype, tmp_path):
    state = {"weight": torch.ones(2, dtype=dtype)}
    assert_same(read(save(state), tmp_path).tensors, state)
    assert_same(read(torch_bytes(state), tmp_path).tensors, state)


def test_views_and_parameters_of_torch(tmp_path):
    whole = torch.arange(12.0).reshape(3, 4)
    state = {"rows": whole[1:], "turned": whole.T, "tied": whole, "parameter": torch.nn.Parameter(whole[0])}
    file = read(torch_bytes(state), tmp_path)
    assert_same(file.tensors, {name: tensor.detach() for name, tensor in state.items()})
    assert not file.tensors["parameter"].requires_grad


def test_the_metadata_of_safetensors(tmp_path):
    assert read(save(TENSORS, metadata={"settings": "{}"}), tmp_path).metadata == {"settings": "{}"}


@pytest.mark.parametrize("protocol", range(6))
def test_the_layout_of_the_detectron2_zoo(protocol, tmp_path):
    arrays = ARRAYS | {"turned": np.asfortranarray(ARRAYS["index"]), "big endian": np.array([1.5, 2], dtype=">f4")}
    content = {"model": arrays, "__author__": "Third Party", "matching_heuristics": True}
    extra = {"iteration": np.int64(9), "sets": [{1, "a"}, frozenset({2})], "bytes": b"\xff", "none": [None, (), 2.5]}
    file = read(pickle.dumps(OrderedDict(content | extra), protocol), tmp_path)
    expected = {name: torch.from_numpy(array.astype(array.dtype.newbyteorder("="))) for name, array in arrays.items()}
    assert_same(file.tensors, expected)
    assert file.metadata == {"__author__": "Third Party"}
    file.tensors["half"].zero_()  # writable


def test_the_names_of_numpy_1(tmp_path):
    content = whole_file("pickle 2")
    assert b"numpy._core." in content
    assert_same(read(content.replace(b"numpy._core.", b"numpy.core."), tmp_path).tensors, TENSORS)


def test_a_pickle_of_python_2(tmp_path):
    """Text and data are byte strings there, and the flags of a dtype are integers."""
    dtype = b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    data = np.array([1.5, -2.25], dtype="<f4").tobytes()
    array = empty + b"(K\x01K\x02\x85" + dtype + b"\x89T\x08\x00\x00\x00" + data + b"tb"
    content = b"\x80\x02}q\x01(U\x05modelq\x02ccollections\nOrderedDict\n](](U\x01w" + array + b"ee\x85Ru."
    assert_same(read(content, tmp_path).tensors, {"w": torch.tensor([1.5, -2.25])})


def test_arrays_of_protocol_5_are_not_copied(tmp_path):
    """The buffer of a bytearray becomes the tensor: equal arrays of one pickle share it, as they did when written."""
    array = np.ones(4, dtype=np.float32)
    file = read(pickle.dumps({"a": array, "b": array}, 5), tmp_path)
    assert file.tensors["a"].data_ptr() == file.tensors["b"].data_ptr()


def test_a_link_to_a_file(tmp_path):
    (tmp_path / "weights.pth").write_bytes(whole_file("torch zip"))
    (tmp_path / "link").symlink_to(tmp_path / "weights.pth")
    assert_same(read_tensor_file(tmp_path / "link").tensors, TENSORS)


# --- damaged files


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_anywhere(kind, tmp_path):
    content = whole_file(kind)
    places = {*range(0, 40), *range(0, len(content), 13), *range(len(content) - 30, len(content))}
    for kept in sorted(places):
        assert_refused(content[:kept], tmp_path, "get it again")


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(data=st.data())
def test_flipped_bytes(kind, data, tmp_path_factory):
    content = bytearray(whole_file(kind))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        tensors = read(bytes(content), tmp_path_factory.getbasetemp()).tensors
    except InputError as error:
        assert str(error).isprintable()
    else:
        assert all(isinstance(name, str) for name in tensors)
        assert all(t.isfinite().all() for t in tensors.values() if t.is_floating_point())


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 JFIF " * 50, b"version https://git-lfs", b"<html>", b"ok"])
def test_something_else(content, tmp_path):
    assert_refused(content, tmp_path, "is no weights file .*; get it again")


def test_places_without_a_file(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    for place in (tmp_path, tmp_path / "none.pth", tmp_path / "link", tmp_path / ("a" * 300), Path("a\0b")):
        with pytest.raises(InputError, match="there is no weights file at .*; give 'nano'|cannot be read"):
            read_tensor_file(place)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def deny(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    (tmp_path / "weights.bin").write_bytes(b"")
    monkeypatch.setattr(Path, "open", deny)
    with pytest.raises(InputError, match=r"weights.bin cannot be opened \(Permission denied\); change its permissions"):
        read_tensor_file(tmp_path / "weights.bin")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_not_a_number(dtype, bad, tmp_path):
    state = {"fine": torch.full((5000,), torch.finfo(dtype).max, dtype=dtype), "spoilt": torch.ones(5000, dtype=dtype)}
    assert_same(read(save(state), tmp_path).tensors, state)  # its sum is not finite, its elements are
    state["spoilt"][3000] = bad
    for content in (save(state), torch_bytes(state)):
        assert_refused(content, tmp_path, "holds NaN or infinity in spoilt; the file is damaged, get it again")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.complex64])
def test_dtypes_that_weights_do_not_have(dtype, tmp_path):
    state = {"odd": torch.ones(2).to(dtype)}
    for content in (save(state), torch_bytes(state)):
        assert_refused(content, tmp_path, f"holds odd as {str(dtype)[6:]}; give weights of float32")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("content", [{}, {"model": {}}, {"model": torch.ones(3)}, [torch.ones(2)], torch.ones(2)])
def test_no_named_tensors(content, zipped, tmp_path):
    content = torch_bytes(content, _use_new_zipfile_serialization=zipped)
    assert_refused(content, tmp_path, "holds no tensors; give a CropFormer or Mask2Former checkpoint")


@pytest.mark.parametrize("content", [{}, {"model": {"lr": 0.1}}, [1], {"model": np.float32(3)}])
def test_no_tensors(content, tmp_path):
    for file in (pickle.dumps(content), save({})):
        assert_refused(file, tmp_path, "holds no tensors; give a CropFormer or Mask2Former checkpoint")


@pytest.mark.parametrize("name", [3, b"bytes", None])
def test_names_that_are_no_strings(name, tmp_path):
    expected = f"names a tensor {name}, not by a string"
    assert_refused(pickle.dumps({name: np.ones(2)}), tmp_path, expected)
    if name == 3:
        assert_refused(torch_bytes({name: torch.ones(2)}), tmp_path, expected)


@pytest.mark.filterwarnings("ignore:torch.quantize")
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("kind", "convert"),
    [
        ("sparse", torch.Tensor.to_sparse),
        ("quantised", lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)),
        ("meta", lambda tensor: tensor.to("meta")),
    ],
)
def test_tensors_that_are_not_dense(kind, convert, zipped, tmp_path):
    content = torch_bytes({"odd": convert(torch.ones(2, 2))}, _use_new_zipfile_serialization=zipped)
    assert_refused(content, tmp_path, f"holds {kind} tensors; save the weights as dense tensors")
