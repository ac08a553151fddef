"""Panoptic, semantic and video panoptic tasks of `score` against the numbers of the official tools."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cropformer import Entities, rle
from entitytransfer.cli import main
from entitytransfer.evaluators.entity_maps import map_entities
from entitytransfer.evaluators.panoptic_quality import PanopticQuality
from entitytransfer.evaluators.segment_tables import tabulate
from entitytransfer.evaluators.semantic_iou import SemanticIoU
from entitytransfer.evaluators.tracking_quality import TrackingQuality
from entitytransfer.evaluators.video_panoptic import VideoPanoptic
from entitytransfer.readers.coco_panoptic import read_panoptic_results, read_panoptic_truth
from entitytransfer.readers.label_png import read_labels
from entitytransfer.readers.vipseg_json import read_vipseg_results, read_vipseg_truth
from entitytransfer.score_task import score, score_task

DATA = Path(__file__).parents[1] / "data" / "metrics"
ADE20K, VIPSEG = DATA / "ade20k", DATA / "vipseg"
OFFICIAL = ADE20K / "ADEChallengeData2016"
PANOPTIC = {"ground_truth": OFFICIAL / "ade20k_panoptic_val.json", "predictions": ADE20K / "pred_panoptic.json"}
SEMANTIC = {
    "ground_truth": OFFICIAL / "annotations_detectron2" / "validation",
    "predictions": ADE20K / "pred_sem_seg",
}
VIDEO = {"ground_truth": VIPSEG / "VIPSeg_720P" / "panoptic_gt_VIPSeg_val.json", "predictions": VIPSEG / "pred"}
WINDOWS = (1, 2, 4, 6, 8)


def expected(folder):
    return json.loads((folder / "expected.json").read_text())


def expected_panoptic(kind):
    official = expected(ADE20K)[kind]
    groups = {"": "All", "_th": "Things", "_st": "Stuff"}
    return {
        f"{name}{suffix}": official[group][name.lower()]
        for suffix, group in groups.items()
        for name in ("PQ", "SQ", "RQ")
    }


def expected_semantic():
    return {name: value / 100 for name, value in expected(ADE20K)["sem_seg_percent"].items()}


def expected_video():
    """Everything but what `VPQ_released` and its like are called when classes do not matter."""
    official = expected(VIPSEG)
    metrics = {}
    for suffix, group in {"": "all", "_th": "thing", "_st": "stuff"}.items():
        metrics[f"VPQ{suffix}"] = official["vpq_mean_1_2_4_6"][group] / 100
        metrics[f"VPQ_released{suffix}"] = official["vpq_mean_1_2_4_6_8_official_script"][group] / 100
        metrics |= {f"VPQ_{k}{suffix}": official["vpq_percent"][str(k)][group] / 100 for k in WINDOWS}
    means = official["class_agnostic_veq_mean_percent"]
    metrics["VPQ_agnostic"] = means["1_2_4_6"] / 100
    metrics["VPQ_released_agnostic"] = means["1_2_4_6_8_official"] / 100
    metrics |= {f"VPQ_{k}_agnostic": official["class_agnostic_veq"][str(k)]["pq"] for k in WINDOWS}
    for suffix, group in {"": "stq", "_agnostic": "class_agnostic_stq"}.items():
        metrics |= {f"{ours}{suffix}": official[group][theirs] for ours, theirs in STQ_NAMES.items()}
    return metrics


STQ_NAMES = {"STQ": "STQ", "AQ": "AQ", "SQ": "IoU"}


def close(numbers):
    return pytest.approx(numbers, rel=0, abs=1e-9)


@pytest.mark.parametrize("workers", [None, 1])
def test_every_number_is_official(workers):
    assert score("panoptic", **PANOPTIC, workers=workers) == close(expected_panoptic("panoptic"))
    assert score("semantic", **SEMANTIC, workers=workers) == close(expected_semantic())
    assert score("vipseg", **VIDEO, workers=workers) == close(expected_video())


def test_boundary_quality_is_official():
    metrics = score("panoptic", **PANOPTIC, boundary=True)
    official = {f"boundary_{name}": value for name, value in expected_panoptic("boundary_panoptic").items()}
    assert metrics == close(expected_panoptic("panoptic") | official)


def test_counts_of_every_class_are_official():
    truth, results = read_video()
    quality = PanopticQuality(truth.classes.is_thing, windows=WINDOWS)
    for table in tables(truth, results):
        quality.update(table)
    for window in WINDOWS:
        official = np.zeros((124, 4))
        for number, counts in expected(VIPSEG)["vpq_percent"][str(window)]["per_class"].items():
            official[int(number)] = [counts[name] for name in ("iou", "tp", "fp", "fn")]
        np.testing.assert_allclose(quality.counts(window), official, rtol=0, atol=1e-9)


def test_every_video_has_the_official_tracking_quality():
    truth, results = read_video()
    quality = TrackingQuality(truth.classes.is_thing)
    for table in tables(truth, results):
        quality.update(table)
    official = expected(VIPSEG)["stq"]
    for index in range(3):
        ours = quality.compute(np.array([index]))
        assert ours == close({name: official[f"{theirs}_per_seq"][index] for name, theirs in STQ_NAMES.items()})


@pytest.mark.parametrize(
    ("task", "files", "options"),
    [
        ("panoptic", PANOPTIC, ["--gt-dir", OFFICIAL / "ade20k_panoptic_val", "--pred-dir", ADE20K / "pred_panoptic"]),
        ("semantic", SEMANTIC, ["--num-classes", "150", "--ignore", "255"]),
        (
            "vipseg",
            VIDEO | {"predictions": VIPSEG / "pred" / "pred.json"},
            ["--gt-dir", VIPSEG / "VIPSeg_720P" / "panomasksRGB", "--pred-dir", VIPSEG / "pred" / "pan_pred"],
        ),
    ],
    ids=["panoptic", "semantic", "vipseg"],
)
def test_the_command_gives_the_same_numbers_with_their_protocol(tmp_path, capsys, task, files, options):
    out = tmp_path / "score.json"
    typed = ["score", task, "--gt", files["ground_truth"], "--pred", files["predictions"], *options, "--json", out]
    assert main([str(part) for part in typed]) == 0
    written = json.loads(out.read_text())
    assert written["metrics"] == score(task, **files)
    assert written["protocol"]["task"] == task
    assert "protocol" in capsys.readouterr().out


def test_the_card_names_the_choices():
    card = score_task("vipseg", **VIDEO, windows=(1, 3), stq_mode="corrected").protocol
    assert (card["windows"], card["stq_mode"], card["class_agnostic"]) == ([1, 3], "corrected", False)
    assert (card["videos"], card["frames"], card["things"], card["stuff"]) == (3, 25, 58, 66)
    card = score_task("panoptic", **PANOPTIC, boundary=True).protocol
    assert (card["boundary"], card["images"], card["things"]) == ("0.02 of the diagonal", 4, 100)


# --- options


def test_windows_are_averaged_and_one_longer_than_every_video_is_undefined():
    official = score("vipseg", **VIDEO)
    metrics = score("vipseg", **VIDEO, windows=(2, 4))
    assert metrics["VPQ"] == close((official["VPQ_2"] + official["VPQ_4"]) / 2)
    assert metrics["VPQ_released"] == official["VPQ_released"]
    metrics = score("vipseg", **VIDEO, windows=(1, 11))
    assert (metrics["VPQ"], metrics["VPQ_11"]) == (None, None)
    assert metrics["VPQ_1"] == official["VPQ_1"]


def test_corrected_tracking_has_no_class_for_void_and_no_accidental_crowd():
    official, corrected = (score("vipseg", **VIDEO, stq_mode=mode) for mode in ("official", "corrected"))
    truth, _ = read_video()
    classes = {int(number) for frames in truth.clips.values() for f in frames.values() for number in f.segments.classes}
    assert corrected["SQ"] == close(official["SQ"] * (len(classes) + 1) / len(classes))
    assert corrected["SQ_agnostic"] == close(2 * official["SQ_agnostic"])
    assert corrected["AQ_agnostic"] != official["AQ_agnostic"]
    assert {name: value for name, value in corrected.items() if name.startswith("VPQ")} == {
        name: value for name, value in official.items() if name.startswith("VPQ")
    }


def test_predictions_without_classes_are_scored_class_agnostically(tmp_path):
    shutil.copytree(VIPSEG / "pred", tmp_path / "pred")
    path = tmp_path / "pred" / "pred.json"
    content = json.loads(path.read_text())
    for video in content["annotations"]:
        for frame in video["annotations"]:
            for segment in frame["segments_info"]:
                segment["category_id"] = 999
    path.write_text(json.dumps(content))
    metrics = score("vipseg", ground_truth=VIDEO["ground_truth"], predictions=tmp_path / "pred", class_agnostic=True)
    assert metrics == close({name: value for name, value in expected_video().items() if name.endswith("_agnostic")})


def test_class_agnostic_panoptic_quality_is_that_of_one_class():
    metrics = score("panoptic", **PANOPTIC, class_agnostic=True)
    assert metrics["PQ"] == metrics["PQ_th"] == pytest.approx(metrics["SQ"] * metrics["RQ"])
    assert metrics["PQ_st"] is None


def test_the_number_of_classes_changes_nothing_but_what_is_refused():
    assert score("semantic", **SEMANTIC, num_classes=121) == score("semantic", **SEMANTIC)
    with pytest.raises(ValueError, match="label 120, but classes are below 120"):
        score("semantic", **SEMANTIC, num_classes=120)


@pytest.mark.parametrize(("task", "files"), [("panoptic", PANOPTIC), ("semantic", SEMANTIC), ("vipseg", VIDEO)])
def test_intervals_enclose_the_value_and_repeat(task, files):
    first, second = (score_task(task, **files, bootstrap=30, seed=4) for _ in range(2))
    assert first.intervals == second.intervals
    name = next(iter(first.metrics))
    low, high = first.intervals[name]
    assert 0 <= low <= first.metrics[name] <= high <= 1
    assert low < high


# --- streaming


def read_video():
    truth = read_vipseg_truth(VIDEO["ground_truth"], VIPSEG / "VIPSeg_720P" / "panomasksRGB")
    return truth, read_vipseg_results(VIPSEG / "pred" / "pred.json", VIPSEG / "pred" / "pan_pred", truth)


def tables(truth, results):
    for clip_id, frames in truth.clips.items():
        predicted = results.clips[clip_id]
        yield tabulate((frame.read() for frame in frames.values()), (predicted[name].read() for name in frames))


def entities_of(frame):
    """A predicted frame as a model gives it, and its track ids."""
    order = np.argsort(-frame.segments.ids)  # any order
    masks = [frame.ids == frame.segments.ids[index] for index in order]
    count = len(masks)
    return Entities(
        size_hw=frame.ids.shape,
        rles=[rle.encode(mask) for mask in masks],
        scores=np.linspace(0.9, 0.1, count),
        labels=frame.segments.classes[order],
        query_ids=np.arange(count),
        embeddings=None,
    ), frame.segments.ids[order]


def test_images_in_memory_have_the_numbers_of_files():
    truth = read_panoptic_truth(PANOPTIC["ground_truth"], OFFICIAL / "ade20k_panoptic_val")
    results = read_panoptic_results(PANOPTIC["predictions"], ADE20K / "pred_panoptic", truth)
    quality = PanopticQuality(truth.classes.is_thing)
    for image_id, frames in truth.clips.items():
        (true_frame,), (predicted,) = frames.values(), results.clips[image_id].values()
        entities, _ = entities_of(predicted.read())
        quality.update(tabulate([true_frame.read()], [map_entities(entities, source="prediction")]))
    assert quality.compute() == score("panoptic", **PANOPTIC)


def test_clips_in_memory_have_the_numbers_of_files():
    truth, results = read_video()
    metric = VideoPanoptic(truth.classes.is_thing)
    for video_id, frames in truth.clips.items():
        found = (entities_of(results.clips[video_id][name].read()) for name in frames)
        maps = (map_entities(entities, source="prediction", track_ids=ids) for entities, ids in found)
        metric.update(tabulate((frame.read() for frame in frames.values()), maps))
    assert metric.compute() == score("vipseg", **VIDEO)


def test_labels_in_memory_have_the_numbers_of_files():
    metric = SemanticIoU(num_classes=150)
    for path in sorted(SEMANTIC["ground_truth"].iterdir()):
        metric.update(read_labels(path), read_labels(SEMANTIC["predictions"] / path.name))
    assert metric.compute() == score("semantic", **SEMANTIC)
