"""Results of YouTube-VIS for the server: what is written is read back, scored alike, and bad zips are named."""

import json
import zipfile
from pathlib import Path

import pytest

from cropformer import InputError
from entitytransfer.readers.json_file import read_json
from entitytransfer.readers.ytvis_json import predicted_tracks, read_ytvis_results, read_ytvis_truth
from entitytransfer.readers.zipped_json import unzipped
from entitytransfer.score_task import score
from entitytransfer.writers.ytvis import YtvisWriter

DATA = Path(__file__).parents[1] / "data" / "metrics"
TRUTH, RESULTS = DATA / "ytvis" / "ytvis_2019" / "valid.json", DATA / "ytvis" / "results.json"
OFFICIAL = {  # ground truth and results
    "ytvis": (TRUTH, RESULTS),
    "uvo": (DATA / "uvo" / "VideoDenseSet" / "UVO_video_val_dense.json", DATA / "uvo" / "results_video_dense.json"),
}
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


@pytest.mark.parametrize("name", ["results.json", "results.zip"])
@pytest.mark.parametrize("task", OFFICIAL)
def test_official_results_pass_through_reader_and_writer(tmp_path, task, name):
    truth_path, results = OFFICIAL[task]
    truth = read_ytvis_truth(truth_path)
    category_ids = {number: category_id for category_id, number in truth.category_numbers.items()}
    with YtvisWriter(tmp_path / name) as writer:
        for video_id, video in read_ytvis_results(results, truth).videos.items():
            tracks = predicted_tracks(video, truth.category_numbers, any_category=False)
            for masks, number, one_score in zip(tracks.masks, tracks.category_ids.tolist(), tracks.scores.tolist()):
                writer.write(video_id, category_id=category_ids[number], score=one_score, segmentations=masks)
    with unzipped(tmp_path / name) as path:
        assert read_json(path) == sorted(read_json(results), key=lambda track: track["video_id"])
    ours = score(task, ground_truth=truth_path, predictions=tmp_path / name)
    assert ours == score(task, ground_truth=truth_path, predictions=results)


def test_a_zip_holds_what_the_server_takes(tmp_path):
    write(tmp_path / "results.zip", json.loads(RESULTS.read_text()))
    assert zipfile.ZipFile(tmp_path / "results.zip").namelist() == ["results.json"]


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
