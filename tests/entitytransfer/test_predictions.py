"""A result file appears whole or not at all, and a refusal names the place and the cause."""

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cropformer.errors import InputError
from entitytransfer.predictions import atomic_path, ensure_writable, write_json, write_png


def test_success_replaces_and_leaves_nothing_else(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_path(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_failure_keeps_the_old_file(tmp_path: Path, stop: type[BaseException]):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(stop), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise stop
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_failure_before_the_first_byte_leaves_nothing(tmp_path: Path):
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "a.txt"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_one_sentence(tmp_path: Path, code: int):
    sentence = r"No space left on the device while writing .*a\.txt; earlier outputs are kept"
    with pytest.raises(InputError, match=sentence), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise OSError(code, "full")
    assert list(tmp_path.iterdir()) == []


def test_other_files_errors_pass_through(tmp_path: Path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
        (tmp_path / "source.txt").read_text()


@pytest.mark.parametrize("name", ["missing/a.json", "file/a.json"])
def test_place_that_takes_no_file(tmp_path: Path, name: str):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"Cannot write .*a\.json: .*; choose another place"):
        write_json(tmp_path / name, [])


def test_target_that_is_a_folder(tmp_path: Path):
    (tmp_path / "a.json" / "inside").mkdir(parents=True)
    with pytest.raises(InputError, match=r"Cannot write .*a\.json: Is a directory"):
        write_json(tmp_path / "a.json", [])


def test_long_names_are_fine(tmp_path: Path):
    name = "x" * 250 + ".json"
    write_json(tmp_path / name, [1])
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_json_round_trip(tmp_path: Path):
    content = {"metrics": {"AP": None, "PQ": 0.5}, "name": "Brücke"}
    write_json(tmp_path / "a.json", content)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == content


def test_json_refuses_nan_and_leaves_no_file(tmp_path: Path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"AP": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("dtype", "shape"), [(np.uint8, (5, 7, 3)), (np.uint8, (5, 7)), (np.uint16, (5, 7))])
def test_png_round_trip(tmp_path: Path, dtype: type, shape: tuple[int, ...]):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    write_png(tmp_path / "a.png", pixels)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), pixels)


def test_ensure_writable_creates_the_folder_and_leaves_it_empty(tmp_path: Path):
    folder = ensure_writable(tmp_path / "new" / "out")
    assert folder.is_dir()
    assert list(folder.iterdir()) == []
    assert ensure_writable(str(folder)) == folder


@pytest.mark.parametrize("name", ["file", "file/out"])
def test_ensure_writable_refuses_a_file_in_the_way(tmp_path: Path, name: str):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"Cannot write to the folder .*file.*; choose another folder"):
        ensure_writable(tmp_path / name)
