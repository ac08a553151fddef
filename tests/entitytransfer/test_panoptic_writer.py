"""Panoptic result files: what is written is read back, and a result is there whole or not at all."""

import json
from pathlib import Path

import numpy as np
import pytest

from cropformer import InputError
from entitytransfer.readers.coco_panoptic import read_panoptic_results, read_panoptic_truth
from entitytransfer.readers.panoptic_png import read_id_map
from entitytransfer.readers.vipseg_json import read_vipseg_results, read_vipseg_truth
from entitytransfer.score_task import score
from entitytransfer.writers.panoptic import PanopticWriter, VipsegWriter

DATA = Path(__file__).parents[1] / "data" / "metrics"
ADE20K, VIPSEG = DATA / "ade20k", DATA / "vipseg"
IDS = np.array([[0, 7, 7], [70000, 70000, 7]])


def categories_of(frame, classes):
    """Segment id → category id."""
    ids = {number: category_id for category_id, number in classes.numbers.items()}
    return {
        segment: ids[number] for segment, number in zip(frame.segments.ids.tolist(), frame.segments.classes.tolist())
    }


def same_segments(first, second, names=("id", "category_id", "area", "iscrowd", "bbox")):
    """Equal but for the order of the segments."""
    by_id = [sorted(({n: one[n] for n in names} for one in many), key=lambda s: s["id"]) for many in (first, second)]
    return by_id[0] == by_id[1]


def test_panoptic_results_are_written_as_they_were_read(tmp_path):
    truth_path = ADE20K / "ADEChallengeData2016" / "ade20k_panoptic_val.json"
    truth = read_panoptic_truth(truth_path, truth_path.with_suffix(""))
    results = read_panoptic_results(ADE20K / "pred_panoptic.json", ADE20K / "pred_panoptic", truth)
    with PanopticWriter(tmp_path / "out.json") as writer:
        for image_id, frames in results.clips.items():
            (frame,) = frames.values()
            writer.write(image_id, frame.read().ids, categories_of(frame, truth.classes), name=image_id)
    files = {"ground_truth": truth_path}
    ours, theirs = tmp_path / "out.json", ADE20K / "pred_panoptic.json"
    assert score("panoptic", **files, predictions=ours) == score("panoptic", **files, predictions=theirs)
    written, original = (json.loads(path.read_text())["annotations"] for path in (ours, theirs))
    assert [one["image_id"] for one in written] == [one["image_id"] for one in original]
    for one, other in zip(written, original):
        assert same_segments(one["segments_info"], other["segments_info"])


def test_vipseg_results_are_written_as_they_were_read(tmp_path):
    truth_path = VIPSEG / "VIPSeg_720P" / "panoptic_gt_VIPSeg_val.json"
    truth = read_vipseg_truth(truth_path, truth_path.parent / "panomasksRGB")
    results = read_vipseg_results(VIPSEG / "pred" / "pred.json", VIPSEG / "pred" / "pan_pred", truth)
    with VipsegWriter(tmp_path / "pred") as writer:
        for video_id, frames in results.clips.items():
            for name, frame in frames.items():
                writer.write(video_id, frame.read().ids, categories_of(frame, truth.classes), name=name)
    again = read_vipseg_results(tmp_path / "pred" / "pred.json", tmp_path / "pred" / "pan_pred", truth)
    assert {video: list(frames) for video, frames in again.clips.items()} == {
        video: list(frames) for video, frames in results.clips.items()
    }
    for video, frames in results.clips.items():
        for name, frame in frames.items():
            np.testing.assert_array_equal(again.clips[video][name].read().ids, frame.read().ids)
    written, original = (
        [
            frame
            for video in json.loads((at / "pred" / "pred.json").read_text())["annotations"]
            for frame in video["annotations"]
        ]
        for at in (tmp_path, VIPSEG)
    )
    for one, other in zip(written, original, strict=True):
        assert same_segments(one.pop("segments_info"), other.pop("segments_info"))
        assert one == other
    ours, theirs = (score("vipseg", ground_truth=truth_path, predictions=at / "pred") for at in (tmp_path, VIPSEG))
    assert ours == theirs


def test_segments_are_described(tmp_path):
    with PanopticWriter(tmp_path / "out.json", tmp_path / "png") as writer:
        writer.write(5, IDS, {7: 1, 70000: 2, 9: 3}, name="five")
    np.testing.assert_array_equal(read_id_map(tmp_path / "png" / "five.png"), IDS)
    (annotation,) = json.loads((tmp_path / "out.json").read_text())["annotations"]
    assert (annotation["image_id"], annotation["file_name"]) == (5, "five.png")
    assert annotation["segments_info"] == [
        {"id": 7, "category_id": 1, "area": 3, "bbox": [1, 0, 2, 2], "iscrowd": 0},
        {"id": 70000, "category_id": 2, "area": 2, "bbox": [0, 1, 2, 1], "iscrowd": 0},
    ]


@pytest.mark.parametrize("make", [PanopticWriter, VipsegWriter])
def test_a_result_that_failed_has_no_json(tmp_path, make):
    target = tmp_path / "out.json" if make is PanopticWriter else tmp_path
    json_path = target if make is PanopticWriter else tmp_path / "pred.json"
    json_path.write_text("an older result")
    with pytest.raises(RuntimeError), make(target) as writer:
        writer.write("a", IDS, {7: 1, 70000: 2}, name="0")
        raise RuntimeError("stop")
    assert not json_path.exists()


def test_ids_that_cannot_be_written_are_named(tmp_path):
    with PanopticWriter(tmp_path / "out.json") as writer:
        with pytest.raises(InputError, match="0.png would have the segment 70000 without a category"):
            writer.write("a", IDS, {7: 1}, name="0")
        with pytest.raises(InputError, match="0.png cannot hold the ids -1 to 7; use 0 to 16777215"):
            writer.write("a", np.array([[-1, 7]]), {7: 1}, name="0")
        writer.write("empty", np.zeros((2, 3), dtype=int), {}, name="1")
    assert json.loads((tmp_path / "out.json").read_text())["annotations"][0]["segments_info"] == []
