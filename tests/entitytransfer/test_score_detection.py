"""Detection tasks of `score` against the numbers of the official tools, from Python and from the command line."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

import entitytransfer
from cropformer import InputError
from entitytransfer.cli import main
from entitytransfer.readers import coco_results
from entitytransfer.score_task import score_task, task_names

DATA = Path(__file__).parents[1] / "data" / "metrics"
ADE20K = DATA / "ade20k" / "ADEChallengeData2016"
OFFICIAL_NAMES = {"AR1": "AR_max0", "AR10": "AR_max1", "AR100": "AR_max2"}
TOLERANCE = 1e-12


def expected(name):
    return json.loads((DATA / name / "expected.json").read_text())


def close(ours, theirs):
    """Equal keys and values; what the official tools call -1 is None here."""
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        if theirs[name] in (-1, None):
            assert value is None, name
        else:
            assert value == pytest.approx(theirs[name], rel=0, abs=TOLERANCE), name


def equals(ours, official):
    """Every one of the twelve numbers."""
    assert len(ours) == 12
    close(ours, {name: official[OFFICIAL_NAMES.get(name, name)] for name in ours})


def split_boundary(metrics):
    prefix = "boundary_"
    masks = {name: value for name, value in metrics.items() if not name.startswith(prefix)}
    return masks, {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}


DETECTION = {
    "instance": ("instance", ADE20K / "ade20k_instance_val.json", DATA / "ade20k/pred_instance.json"),
    "entity": ("entity", ADE20K / "ade20k_entity_val.json", DATA / "ade20k/pred_entity.json"),
    "frame": ("entity", DATA / "uvo/FrameSet/UVO_frame_val.json", DATA / "uvo/results_frame.json"),
}
OFFICIAL_KEYS = {
    "instance": ("ade20k", "instance", "instance_boundary"),
    "entity": ("ade20k", "entity", "entity_boundary"),
    "frame": ("uvo", "frame", "frame_boundary"),
}


@pytest.mark.parametrize("case", DETECTION)
def test_masks_and_boundaries_equal_the_official_numbers(case):
    task, ground_truth, predictions = DETECTION[case]
    metrics = entitytransfer.score(task, ground_truth=ground_truth, predictions=predictions)
    folder, masks_key, boundaries_key = OFFICIAL_KEYS[case]
    masks, boundaries = split_boundary(metrics)
    equals(masks, expected(folder)[masks_key])
    equals(boundaries, expected(folder)[boundaries_key])


VIDEO = {
    "ytvis": (DATA / "ytvis/ytvis_2019/valid.json", DATA / "ytvis/results.json"),
    "uvo": (DATA / "uvo/VideoDenseSet/UVO_video_val_dense.json", DATA / "uvo/results_video_dense.json"),
}


def score_video(task, **options):
    ground_truth, predictions = VIDEO[task]
    return entitytransfer.score(task, ground_truth=ground_truth, predictions=predictions, **options)


def test_tracks_equal_the_official_numbers():
    equals(score_video("ytvis"), expected("ytvis")["values"])
    equals(score_video("uvo"), expected("uvo")["video"])


def test_tracks_without_regard_to_classes_equal_the_official_numbers():
    equals(score_video("ytvis", class_agnostic=True), expected("ytvis")["class_agnostic_useCats0"])


def test_other_numbers_of_predictions_name_the_recalls():
    metrics = score_video("ytvis", max_dets=(1, 2, 3))
    official = expected("ytvis")["recall_maxDets_1_2_3"]
    found = {f"AR@{k}": metrics[f"AR{k}"] for k in (1, 2, 3)}
    close(found, official)


def test_one_threshold_is_the_official_ap50():
    metrics = score_video("uvo", iou_thresholds=(0.5,))
    assert metrics["AP"] == metrics["AP50"] == pytest.approx(expected("uvo")["video"]["AP50"], rel=0, abs=TOLERANCE)
    assert metrics["AP75"] is None


RECALL = {
    "lvis": ("lvis", "lvis/annotations/lvis_v1_val.json", "lvis/pred_class_agnostic.json", {}, "class_agnostic"),
    "ocid": ("ocid", "ocid/OCID-dataset", "ocid/pred.json", {}, "class_agnostic"),
    "ocid parent": ("ocid", "ocid", "ocid/pred.json", {}, "class_agnostic"),
    "ocid supports": (
        "ocid",
        "ocid/OCID-dataset",
        "ocid/pred.json",
        {"supports": "keep"},
        "variant_support_surfaces_kept",
    ),
    "camo++": ("camo", "camo/CAMO_pp/test.json", "camo/pred.json", {}, "camo_pp_instances"),
    "coco": ("coco", "camo/CAMO_pp/test.json", "camo/pred.json", {}, "camo_pp_instances"),
    "camo": (
        "camo",
        "camo/CAMO-V.1.0-CVIU2019/GT",
        "camo/pred.json",
        {},
        "variant_camo_v1_object_level_one_mask_per_image",
    ),
    "fss": ("fss", "fss", "fss/pred.json", {}, "class_agnostic"),
    "fss all": ("fss", "fss/fewshot_data", "fss/pred.json", {"split": "all"}, "class_agnostic"),
}


@pytest.mark.parametrize("case", RECALL)
def test_recall_equals_the_official_numbers(case):
    name, ground_truth, predictions, options, key = RECALL[case]
    official = expected(predictions.split("/")[0])[key]
    paths = {"ground_truth": DATA / ground_truth, "predictions": DATA / predictions}
    result = score_task("recall", **paths, format=name, **options)
    metrics = result.values()
    wanted = official["IoU50"] | {"AR@100_50:95": official["IoU50_95"]["AR@100"]}
    for size, value in official["IoU50_AR100_by_COCO_area"].items():
        wanted[f"AR{size}@100"] = value
    close(metrics, wanted)
    assert result.protocol["ground truths"] == official["n_gt"]
    spread = entitytransfer.score("recall", **paths, format=name, iou_thresholds=np.linspace(0.5, 0.95, 10), **options)
    close({key: spread[key] for key in official["IoU50_95"]}, official["IoU50_95"])
    mean = entitytransfer.score("recall", **paths, format=name, average="mean", **options)
    assert mean["AR@100"] == pytest.approx(official["mean_of_per_image_recall_IoU50_100"], rel=0, abs=TOLERANCE)


def test_lvis_equals_the_official_numbers():
    metrics = entitytransfer.score(
        "lvis",
        ground_truth=DATA / "lvis/annotations/lvis_v1_val.json",
        predictions=DATA / "lvis/pred_class_aware.json",
    )
    names = {"AR300": "AR@300", "ARs": "ARs@300", "ARm": "ARm@300", "ARl": "ARl@300"}
    close({names.get(name, name): value for name, value in metrics.items()}, expected("lvis")["lvis_api_class_aware"])


def test_lvis_needs_the_frequency_of_each_class(tmp_path):
    truth = json.loads((DATA / "lvis/annotations/lvis_v1_val.json").read_text())
    del truth["categories"][2]["frequency"]
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    with pytest.raises(InputError, match="gt.json, category 2: 'frequency' must be r, c or f"):
        score_task("lvis", ground_truth=tmp_path / "gt.json", predictions=DATA / "lvis/pred_class_aware.json")


@pytest.mark.parametrize("task", VIDEO)
def test_the_command_prints_and_stores_what_python_gives(task, tmp_path, capsys):
    ground_truth, predictions = VIDEO[task]
    out = tmp_path / "score.json"
    assert main(["score", task, "--gt", str(ground_truth), "--pred", str(predictions), "--json", str(out)]) == 0
    stored = json.loads(out.read_text())
    assert set(stored) == {"metrics", "protocol"}
    assert stored["metrics"] == score_video(task)
    printed = capsys.readouterr().out
    assert f"AP                 {100 * stored['metrics']['AP']:.2f}" in printed
    assert "max_dets" in printed


def test_the_command_hands_over_every_option(tmp_path):
    ground_truth, predictions = DATA / "ocid", DATA / "ocid/pred.json"
    images = tmp_path / "images.txt"
    listed = sorted({one["image_id"] for one in json.loads(predictions.read_text())})[:3]
    images.write_text("\n".join(listed) + "\n")
    out = tmp_path / "score.json"
    typed = "--format ocid --average mean --overlap remove --supports keep --max-dets 1,5 --iou-thresholds 0.6,0.7"
    typed += f" --json {out} --top-k 4 --image-list {images} --bootstrap 3 --seed 2"
    assert main(["score", "recall", "--gt", str(ground_truth), "--pred", str(predictions), *typed.split()]) == 0
    options = {"format": "ocid", "average": "mean", "overlap": "remove", "supports": "keep", "max_dets": (1, 5)}
    options |= {"iou_thresholds": (0.6, 0.7), "top_k": 4, "image_list": images, "bootstrap": 3, "seed": 2}
    result = score_task("recall", ground_truth=ground_truth, predictions=predictions, **options)
    stored = json.loads(out.read_text())
    assert stored["metrics"] == result.values()
    assert set(stored["intervals"]) == set(result.metrics) == {"AR@1", "AR@5", "AR@5_50:95", "ARs@5", "ARm@5", "ARl@5"}
    assert stored["protocol"]["images"] == 3
    assert stored["protocol"]["overlap"] == "remove"


@pytest.mark.parametrize("case", ["instance", "entity"])
def test_the_order_of_images_and_the_size_of_parts_do_not_matter(case, tmp_path, monkeypatch):
    task, ground_truth, predictions = DETECTION[case]
    truth, results = json.loads(ground_truth.read_text()), json.loads(predictions.read_text())
    ranks = {}
    by_rank = sorted(results, key=lambda one: ranks.setdefault(one["image_id"], itertools.count()).__next__())
    assert [one["image_id"] for one in by_rank[:2]] != [one["image_id"] for one in results[:2]]
    (tmp_path / "pred.json").write_text(json.dumps(by_rank))
    (tmp_path / "gt.json").write_text(json.dumps({name: truth[name] for name in reversed(truth)}))
    whole = entitytransfer.score(task, ground_truth=ground_truth, predictions=predictions)
    monkeypatch.setattr(coco_results, "_PART_BYTES", 1)
    mixed = entitytransfer.score(task, ground_truth=tmp_path / "gt.json", predictions=tmp_path / "pred.json")
    assert mixed == whole


def test_videos_may_come_in_any_order(tmp_path):
    ground_truth, predictions = VIDEO["ytvis"]
    results = json.loads(predictions.read_text())
    mixed = sorted(results, key=lambda one: -one["video_id"])
    assert mixed != results
    (tmp_path / "pred.json").write_text(json.dumps(mixed))
    assert score_video("ytvis") == entitytransfer.score(
        "ytvis", ground_truth=ground_truth, predictions=tmp_path / "pred.json"
    )


def test_boundaries_can_be_left_out():
    _, ground_truth, predictions = DETECTION["entity"]
    paths = {"ground_truth": ground_truth, "predictions": predictions}
    masks, _ = split_boundary(entitytransfer.score("entity", **paths))
    assert entitytransfer.score("entity", **paths, boundary=False) == masks


def test_an_image_list_counts_those_images_only(tmp_path):
    """The listed half scores as a ground truth that has only this half."""
    _, ground_truth, predictions = DETECTION["entity"]
    content, results = json.loads(ground_truth.read_text()), json.loads(predictions.read_text())
    kept = [image["id"] for image in content["images"]][1::2]
    (tmp_path / "list.txt").write_text("\n".join(kept))
    content["images"] = [one for one in content["images"] if one["id"] in kept]
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in kept]
    (tmp_path / "gt.json").write_text(json.dumps(content))
    (tmp_path / "pred.json").write_text(json.dumps([one for one in results if one["image_id"] in kept]))
    half = entitytransfer.score("entity", ground_truth=tmp_path / "gt.json", predictions=tmp_path / "pred.json")
    listed = entitytransfer.score(
        "entity", ground_truth=ground_truth, predictions=predictions, image_list=tmp_path / "list.txt"
    )
    assert listed == half


def test_top_k_keeps_the_best_of_all_classes(tmp_path):
    ground_truth, predictions = VIDEO["ytvis"]
    results = json.loads(predictions.read_text())
    best = sorted(results, key=lambda one: -one["score"])
    of_videos = [[one for one in best if one["video_id"] == video] for video in {one["video_id"] for one in best}]
    kept = [one for of_video in of_videos for one in of_video[:2]]
    (tmp_path / "pred.json").write_text(json.dumps([one for one in results if one in kept]))
    assert score_video("ytvis", top_k=2) == entitytransfer.score(
        "ytvis", ground_truth=ground_truth, predictions=tmp_path / "pred.json"
    )


def test_an_unknown_task_or_option_is_named(capsys):
    typed = ["--gt", "a.json", "--pred", "b.json"]
    assert main(["score", "colour", *typed]) == 2
    assert f"no task 'colour'; choose one of {', '.join(task_names())}." in capsys.readouterr().err
    assert main(["score", "ytvis", *typed, "--supports", "keep"]) == 2
    assert "The task ytvis has no option 'supports'; it has bootstrap, class_agnostic," in capsys.readouterr().err
    assert main(["score", "recall", *typed, "--format", "voc"]) == 2
    assert "'format' must be one of coco, lvis, ocid, camo, fss, not 'voc'" in capsys.readouterr().err


def test_help_lists_every_task(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["score", "--help"])
    assert stopped.value.code == 0
    listed = " ".join(capsys.readouterr().out.split())
    assert f"one of {', '.join(task_names())}" in listed
