"""AveragePrecision against pycocotools on random scenes, and against hand-computed cases."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cropformer import Entities, rle
from entitytransfer.adapter import Sample
from entitytransfer.evaluators.average_precision import AveragePrecision

KEYS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "AR@100"]
SIZE_HW = (180, 240)


@dataclass(frozen=True)
class Masks:
    """An annotation that is already decoded."""

    array: np.ndarray

    def masks(self):
        return self.array

    def rles(self):
        return [rle.encode(mask) for mask in self.array]

    def labels(self):
        return np.arange(len(self.array))


def sample(masks, image_id="a string"):
    return Sample(image_id, Path("none.jpg"), masks.shape[1:], Masks(masks), exhaustive=True)


def box_mask(x0, y0, x1, y1, size_hw=SIZE_HW):
    mask = np.zeros(size_hw, dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def entities(masks, scores):
    return Entities.from_masks(masks, scores, np.arange(len(masks)) % 3)


def random_scene(rng):
    """Ground truth of mixed sizes; predictions that are shifted copies of it plus false ones."""
    corners = rng.integers(0, 90, size=(9, 2))
    sides = rng.integers(6, 150, size=(9, 2))
    truth = np.stack([box_mask(x, y, x + w, y + h) for (x, y), (w, h) in zip(corners, sides)])
    shift = rng.integers(-4, 5, size=(9, 2)) * (sides > 20)
    near = [
        box_mask(max(x + dx, 0), max(y + dy, 0), x + w, y + h)
        for (x, y), (w, h), (dx, dy) in zip(corners, sides, shift)
    ]
    false = [box_mask(x, y, x + 15, y + 9) for x, y in rng.integers(0, 100, size=(120, 2))]
    predictions = np.stack(near + false)
    scores = rng.permutation(len(predictions)) / len(predictions)
    scores[:9] = np.maximum(scores[:9], rng.random(9))
    return truth, predictions, scores


def pycocotools_metrics(scenes):
    images, truths, results = [], [], []
    for image_id, (truth, predictions, scores) in enumerate(scenes, start=1):
        images.append({"id": image_id, "height": SIZE_HW[0], "width": SIZE_HW[1]})
        for mask in truth:
            encoded = rle.encode(mask)
            common = {"image_id": image_id, "category_id": 1, "segmentation": encoded}
            truths.append(common | {"id": len(truths) + 1, "iscrowd": 0, "area": int(mask.sum())})
        for mask, score in zip(predictions, scores):
            encoded = rle.encode(mask)
            results.append(
                {"image_id": image_id, "category_id": 1, "segmentation": encoded, "score": np.float32(score)}
            )
    truth = COCO()
    truth.dataset = {"images": images, "annotations": truths, "categories": [{"id": 1}]}
    truth.createIndex()
    evaluation = COCOeval(truth, truth.loadRes(results), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return [*evaluation.stats[:9], evaluation.eval["recall"][0, 0, 0, -1]]


def test_equals_pycocotools_on_random_scenes():
    rng = np.random.default_rng(0)
    scenes = [random_scene(rng) for _ in range(6)]
    metric = AveragePrecision()
    for index, (truth, predictions, scores) in enumerate(scenes):
        metric.update(entities(predictions, scores), sample(truth, f"image {index}"))
    metrics = metric.compute()
    assert list(metrics) == KEYS
    assert 0.05 < metrics["AP"] < 0.95  # the comparison would say little at either end
    np.testing.assert_allclose(list(metrics.values()), pycocotools_metrics(scenes), atol=1e-12)


def test_perfect_predictions_score_one_whatever_their_labels():
    truth = np.stack([box_mask(0, 0, 20, 20), box_mask(30, 30, 80, 80), box_mask(10, 10, 120, 110)])
    metric = AveragePrecision()
    metric.update(entities(truth, [0.5, 0.9, 0.1]), sample(truth))
    metrics = metric.compute()
    assert metrics.pop("AR1") == pytest.approx(1 / 3)
    assert all(value == pytest.approx(1.0) for value in metrics.values())


def test_no_prediction_scores_zero():
    metric = AveragePrecision()
    metric.update(Entities.empty(SIZE_HW), sample(np.stack([box_mask(0, 0, 100, 100), box_mask(0, 0, 130, 110)])))
    metrics = metric.compute()
    assert math.isnan(metrics.pop("APs"))
    assert math.isnan(metrics.pop("APm"))
    assert set(metrics.values()) == {0.0}


def test_no_ground_truth_is_undefined():
    metric = AveragePrecision()
    metric.update(Entities.empty(SIZE_HW), sample(np.zeros((0, *SIZE_HW), dtype=bool)))
    assert all(math.isnan(value) for value in metric.compute().values())


def test_recall_is_pooled_over_ground_truth_not_over_images():
    crowded = np.stack([box_mask(20 * i, 0, 20 * i + 15, 15) for i in range(3)])
    single = box_mask(0, 0, 90, 90)[None]
    metric = AveragePrecision()
    metric.update(Entities.empty(SIZE_HW), sample(crowded))
    metric.update(entities(single, [0.4]), sample(single))
    assert metric.compute()["AR@100"] == pytest.approx(1 / 4)


def test_iou_thresholds_by_hand():
    truth = box_mask(0, 0, 100, 100)[None]
    prediction = box_mask(0, 0, 100, 62)[None]  # IoU 0.62: matched at .50, .55, .60 of ten thresholds
    metric = AveragePrecision()
    metric.update(entities(prediction, [1.0]), sample(truth))
    metrics = metric.compute()
    assert metrics["AP"] == pytest.approx(0.3)
    assert metrics["AP50"] == pytest.approx(1.0)
    assert metrics["AP75"] == 0.0
    assert metrics["AR@100"] == pytest.approx(1.0)


def test_predictions_fall_into_size_ranges_by_mask_area():
    """A thin diagonal has a large box and a small mask: unmatched, it must not count as a large one."""
    truth = box_mask(0, 0, 100, 100)[None]
    diagonal = np.eye(*SIZE_HW, dtype=bool)
    metric = AveragePrecision()
    metric.update(entities(np.stack([diagonal, truth[0]]), [0.9, 0.5]), sample(truth))
    metrics = metric.compute()
    assert metrics["APl"] == pytest.approx(1.0)
    assert metrics["AP"] == pytest.approx(0.5)


def test_ground_truth_without_pixels_is_left_out():
    truth = np.stack([box_mask(0, 0, 50, 50), np.zeros(SIZE_HW, dtype=bool)])
    metric = AveragePrecision()
    metric.update(entities(truth[:1], [1.0]), sample(truth))
    assert metric.compute()["AR@100"] == pytest.approx(1.0)


def test_is_silent(capfd):
    truth = box_mask(0, 0, 50, 50)[None]
    metric = AveragePrecision()
    metric.update(entities(truth, [1.0]), sample(truth))
    metric.compute()
    assert capfd.readouterr() == ("", "")
