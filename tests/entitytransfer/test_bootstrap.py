"""Confidence intervals: by resampling what was measured once, equal for equal seeds, and around the value."""

import json
from pathlib import Path

import numpy as np
import pytest

from entitytransfer.evaluation.bootstrap import percentile_intervals
from entitytransfer.evaluators.coco_ap import CocoMetrics
from entitytransfer.evaluators.detection_summary import IOU_THRESHOLDS, MAX_DETS
from entitytransfer.readers.coco_results import read_coco_results, read_coco_truth
from entitytransfer.score_task import score_task

DATA = Path(__file__).parents[1] / "data" / "metrics"
ENTITY = DATA / "ade20k/ADEChallengeData2016/ade20k_entity_val.json", DATA / "ade20k/pred_entity.json"


def test_the_interval_of_a_mean_is_that_of_its_normal_law():
    values = np.random.default_rng(0).normal(3.0, 2.0, size=400)
    units = np.arange(400)
    intervals = percentile_intervals(lambda drawn: {"mean": values[drawn].mean()}, units, draws=2000, seed=1)
    spread = 1.96 * values.std() / 20
    assert intervals["mean"] == pytest.approx((values.mean() - spread, values.mean() + spread), abs=0.02)


def test_undefined_draws_do_not_count():
    intervals = percentile_intervals(
        lambda drawn: {"some": 1.0 if 0 in drawn else float("nan"), "never": float("nan")},
        np.arange(3),
        draws=50,
        seed=0,
    )
    assert intervals == {"some": (1.0, 1.0), "never": None}


def test_no_draws_no_intervals():
    assert percentile_intervals(lambda _: {"a": 1.0}, np.arange(3), draws=0, seed=0) is None


def test_an_image_drawn_twice_counts_as_two_images(tmp_path):
    """What is put together from one matching equals a set that really holds the image twice."""
    truth = json.loads(ENTITY[0].read_text())
    results = json.loads(ENTITY[1].read_text())
    names = sorted(image["id"] for image in truth["images"])
    copies = {"first": names[0], "second": names[0], "third": names[2]}
    drawn = {
        "images": [image | {"id": c} for c, name in copies.items() for image in truth["images"] if image["id"] == name],
        "categories": truth["categories"],
        "annotations": [
            one | {"image_id": c, "id": f"{c} {one['id']}"}
            for c, name in copies.items()
            for one in truth["annotations"]
            if one["image_id"] == name
        ],
    }
    (tmp_path / "gt.json").write_text(json.dumps(drawn))
    predicted = [one | {"image_id": c} for c, name in copies.items() for one in results if one["image_id"] == name]
    (tmp_path / "pred.json").write_text(json.dumps(predicted))
    really = measure(tmp_path / "gt.json", tmp_path / "pred.json", np.arange(3))
    assert measure(*ENTITY, np.array([0, 0, 2])) == pytest.approx(really, nan_ok=True, abs=1e-12)


def measure(ground_truth, predictions, images):
    coco_set = read_coco_results(predictions, read_coco_truth(ground_truth), any_category=True).as_one_class()
    return CocoMetrics(coco_set, boundary=True, max_dets=MAX_DETS, iou_thresholds=IOU_THRESHOLDS).measure(images)


def test_equal_seeds_give_equal_intervals_around_the_value():
    paths = {"ground_truth": ENTITY[0], "predictions": ENTITY[1], "boundary": False}
    result = score_task("entity", **paths, bootstrap=40, seed=3)
    assert result.intervals == score_task("entity", **paths, bootstrap=40, seed=3).intervals
    assert result.intervals != score_task("entity", **paths, bootstrap=40, seed=4).intervals
    low, high = result.intervals["AP"]
    assert low < result.metrics["AP"] < high
    assert result.metrics == score_task("entity", **paths).metrics


@pytest.mark.parametrize("average", ["pooled", "mean"])
def test_a_single_image_has_no_spread(tmp_path, average):
    (tmp_path / "list.txt").write_text("2\n")
    paths = {"ground_truth": DATA / "camo/CAMO_pp/test.json", "predictions": DATA / "camo/pred.json"}
    options = {"average": average, "image_list": tmp_path / "list.txt", "bootstrap": 3}
    result = score_task("recall", **paths, **options)
    assert result.intervals["AR@100"] == (result.metrics["AR@100"],) * 2
