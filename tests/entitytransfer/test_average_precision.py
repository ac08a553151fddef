"""AveragePrecision against pycocotools on random scenes, and against hand-computed cases."""

import math

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import entitytransfer
from cropformer import Entities, InputError, rle
from entitytransfer.classes import Classes
from entitytransfer.evaluators.average_precision import AveragePrecision
from entitytransfer.readers.panoptic_png import read_panoptic

from .evaluator_cases import FILES, classes_of, feed, instance_pairs, only, sample_of, truth_of

KEYS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "AR@100"]
OF_BOTH = [*KEYS, *(f"boundary_{name}" for name in KEYS if name != "AR@100")]
SIZE_HW = (180, 240)


def sample(masks, image_id="a string"):
    """Every mask with a label of its own."""
    return sample_of(truth_of(masks, labels=np.arange(len(masks))), masks.shape[1:], image_id)


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


def test_ground_truth_without_pixels_is_missed():
    """As in COCOeval, so that the numbers are those of `score` for the same file."""
    truth = np.stack([box_mask(0, 0, 50, 50), np.zeros(SIZE_HW, dtype=bool)])
    assert only(AveragePrecision(), entities(truth[:1], [1.0]), truth_of(truth), SIZE_HW)["AR@100"] == 0.5


def test_size_ranges_go_by_the_annotated_area():
    mask = box_mask(0, 0, 50, 50)
    found = only(AveragePrecision(), entities(mask[None], [1.0]), truth_of([mask], areas=[10_000]), SIZE_HW)
    assert math.isnan(found["APm"])
    assert found["APl"] == pytest.approx(1.0)


def test_crowds_are_neither_to_be_found_nor_wrong_to_be_found():
    crowd, other, truth = box_mask(0, 0, 100, 100), box_mask(10, 10, 40, 40), box_mask(120, 0, 160, 40)
    predictions = entities(np.stack([other, truth]), [0.9, 0.5])
    metrics = only(AveragePrecision(), predictions, truth_of([truth, crowd], crowds=[1]), SIZE_HW)
    assert (metrics["AP"], metrics["AR100"]) == pytest.approx((1.0, 1.0))
    assert only(AveragePrecision(), predictions, truth_of([truth]), SIZE_HW)["AP"] == pytest.approx(0.5)


def test_more_predictions_count_where_more_are_asked_for():
    truth = box_mask(0, 0, 50, 50)
    false = np.stack([box_mask(100 + i, 100, 102 + i, 102) for i in range(12)])
    predictions = entities(np.stack([*false, truth]), [*np.full(12, 0.9), 0.1])
    found = [
        only(AveragePrecision(max_entities=count), predictions, truth_of([truth]), SIZE_HW)["AR@100"]
        for count in (12, 13)
    ]
    assert found == [0, 1]
    with pytest.raises(ValueError, match="at least 10"):
        AveragePrecision(max_entities=9)


@pytest.mark.parametrize("task", ["entity", "instance"])
def test_equals_the_official_numbers(task):
    """Masks and boundaries, of one class and of a hundred."""
    classes = classes_of(FILES["instance"][0]) if task == "instance" else None
    pairs = instance_pairs(task, classes.labels() if classes else None)
    metrics = feed(AveragePrecision(classes, boundary=True), pairs).compute()
    assert list(metrics) == [name for name in OF_BOTH if classes is None or name != "AR@100"]
    ground_truth, predictions = FILES[task]
    expected = entitytransfer.score(task, ground_truth=ground_truth, predictions=predictions)
    if classes is None:
        recall = entitytransfer.score("recall", ground_truth=ground_truth, predictions=predictions)
        expected["AR@100"] = recall["AR@100"]
    same = {name: math.nan if expected[name] is None else expected[name] for name in metrics}
    assert metrics == pytest.approx(same, rel=0, abs=1e-12, nan_ok=True)


def test_segments_of_a_panoptic_set_count_as_the_entities_that_are_visible():
    """The maps hide much of some segments, and the entity file states what is left of them."""
    ground_truth, _ = FILES["panoptic"]
    samples = read_panoptic(ground_truth, ground_truth.with_suffix(""), ground_truth.parent)
    results = {sample.image_id: result for result, sample in instance_pairs("entity")}
    metrics = feed(AveragePrecision(), [(results[sample.image_id], sample) for sample in samples]).compute()
    assert metrics == feed(AveragePrecision(), instance_pairs("entity")).compute()


def test_a_label_that_is_no_class_is_refused():
    mask = box_mask(0, 0, 50, 50)
    metric = AveragePrecision(Classes(("a", "b"), (1, 2), (True, True)))
    with pytest.raises(ValueError, match=r"below 2, the number of classes, not \[2\]"):
        only(metric, Entities.from_masks(mask[None], [1.0], [2]), truth_of([mask]), SIZE_HW)


def test_a_damaged_mask_is_named():
    mask = box_mask(0, 0, 50, 50)
    damaged = Entities.from_rles(SIZE_HW, [{"size": list(SIZE_HW), "counts": "1"}], [1.0], [0])
    with pytest.raises(InputError, match="^Image 1, prediction 0: the runs of its RLE do not add up to its size; "):
        only(AveragePrecision(), damaged, truth_of([mask]), SIZE_HW)


def test_is_silent(capfd):
    truth = box_mask(0, 0, 50, 50)[None]
    metric = AveragePrecision()
    metric.update(entities(truth, [1.0]), sample(truth))
    metric.compute()
    assert capfd.readouterr() == ("", "")
