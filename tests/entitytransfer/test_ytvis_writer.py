"""Results of YouTube-VIS for the server: what is written is read back, scored alike, and bad zips are named."""

import json
import zipfile
from pathlib import Path

import pytest

from cropformer import InputError
from entitytransfer.readers.json_file import read_json
from entitytransfer.readers.zipped_json import unzipped
from entitytransfer.score_task import score
from entitytransfer.ytvis_writer import YtvisWriter

DATA = Path(__file__).parents[1] / "data" / "metrics" / "ytvis"
TRUTH, RESULTS = DATA / "ytvis_2019" / "valid.json", DATA / "results.json"
MASK = {"size": [2, 3], "counts": "06"}


def write(path, results):
    with YtvisWriter(path) as writer:
        for one in results:
            writer.write(
                one["video_id"],
                category_id=one["category_id"],
                score=one["score"],
                segmentations=one["segmentations"],
            )


@pytest.mark.parametrize("name", ["results.json", "results.zip"])
@pytest.mark.parametrize("count", [0, 1, None])
def test_results_are_read_as_they_were_written(tmp_path, name, count):
    results = json.loads(RESULTS.read_text())[:count]
    write(tmp_path / name, results)
    wanted = [{key: one[key] for key in ("video_id", "score", "category_id", "segmentations")} for one in results]
    with unzipped(tmp_path / name) as path:
        assert read_json(path) == wanted
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_zip_scores_as_its_file_does(tmp_path):
    write(tmp_path / "results.zip", json.loads(RESULTS.read_text()))
    assert zipfile.ZipFile(tmp_path / "results.zip").namelist() == ["results.json"]
    zipped = score("ytvis", ground_truth=TRUTH, predictions=tmp_path / "results.zip")
    assert zipped == score("ytvis", ground_truth=TRUTH, predictions=RESULTS)


def test_an_error_leaves_no_file(tmp_path):
    sound = {"video_id": 1, "category_id": 1, "score": 0.5, "segmentations": [MASK, None]}
    with pytest.raises(InputError, match="A track of video 1 has the score nan; give a finite number"):
        write(tmp_path / "results.zip", [sound, sound | {"score": float("nan")}])
    with pytest.raises(InputError, match="A track of video 1 has masks of different sizes"):
        write(tmp_path / "results.json", [sound, sound | {"segmentations": [MASK, MASK | {"size": [3, 2]}]}])
    assert list(tmp_path.iterdir()) == []


def sentence(path):
    with pytest.raises(InputError) as raised, unzipped(path) as file:
        read_json(file)
    return str(raised.value)


def test_a_zip_that_servers_refuse_is_named(tmp_path):
    path = tmp_path / "sent.zip"
    assert sentence(path) == f"Cannot read {path}: No such file or directory."
    path.write_bytes(b"no zip")
    assert f"{path} is not a sound zip (File is not a zip file)" in sentence(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("out/results.json", "[]")
    assert f"{path} has no results.json at its top" in sentence(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("results.json", "[1,")
    assert sentence(path).startswith(f"{path / 'results.json'} is not valid JSON")
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("results.json", "[" + " " * 10**6 + "]")
    assert f"{path} unpacks to 1000002 bytes, which no result does" in sentence(path)
    write(path, json.loads(RESULTS.read_text()))
    damaged = bytearray(path.read_bytes())
    damaged[100:140] = bytes(40)
    path.write_bytes(damaged)
    assert f"{path} is not a sound zip" in sentence(path)
