"""RecallResults against the official numbers of the four zero-shot sets, and by hand."""

import json
import math

import numpy as np
import pytest

from cropformer import Entities
from entitytransfer.evaluators.coco_ap import ImageRecall
from entitytransfer.evaluators.coco_images import image_set
from entitytransfer.evaluators.recall_results import RecallResults
from entitytransfer.readers.coco_json import read_coco
from entitytransfer.readers.mask_file import MaskedPhotos
from entitytransfer.readers.mask_folder import find_fss, find_ocid, read_camo
from entitytransfer.score_task import score_task

from .evaluator_cases import DATA, entities_of, feed, only, recall_pairs, truth_of

SIZE_HW = (120, 160)
KEYS = ["AR@1", "AR@10", "AR@100", "AR@100_50:95", "ARs@100", "ARm@100", "ARl@100"]
SETS = {  # the samples as datasets give them, the predictions, and the name of the official numbers
    "lvis": (lambda: coco("lvis/annotations/lvis_v1_val.json"), "lvis/pred_class_agnostic.json", "class_agnostic"),
    "ocid": (lambda: masked(find_ocid(DATA / "ocid", supports=False)), "ocid/pred.json", "class_agnostic"),
    "camo++": (lambda: coco("camo/CAMO_pp/test.json"), "camo/pred.json", "camo_pp_instances"),
    "fss": (lambda: masked(find_fss(DATA / "fss", split="test")), "fss/pred.json", "class_agnostic"),
}


def coco(name):
    return read_coco(DATA / name, DATA)


def masked(files):
    """The photos are not there and not needed."""
    return MaskedPhotos([(file, file.png_path) for file in files], exhaustive=False)


def measured(samples, predictions):
    results = json.loads((DATA / predictions).read_text())
    return feed(RecallResults(), [(entities_of(results, one.image_id, one.size_hw), one) for one in samples]).compute()


@pytest.mark.parametrize("name", SETS)
def test_equals_the_official_numbers(name):
    read, predictions, key = SETS[name]
    metrics = measured(read(), predictions)
    official = json.loads((DATA / predictions).with_name("expected.json").read_text())[key]
    expected = official["IoU50"] | {"AR@100_50:95": official["IoU50_95"]["AR@100"]}
    expected |= {f"AR{size}@100": value for size, value in official["IoU50_AR100_by_COCO_area"].items()}
    assert list(metrics) == KEYS
    assert metrics == pytest.approx(
        {key: math.nan if value == -1 else value for key, value in expected.items()}, rel=0, abs=1e-12, nan_ok=True
    )


def test_images_that_are_matched_alone_join_to_a_set():
    """Also the mean over images, which no evaluator asks for, and after it has been asked for one."""
    read, predictions, key = SETS["ocid"]
    results = json.loads((DATA / predictions).read_text())
    limits = {"max_dets": (1, 10, 100), "iou_thresholds": (0.5,)}
    first, *others = [
        ImageRecall(image_set(entities_of(results, one.image_id, one.size_hw), one, None), **limits) for one in read()
    ]
    alone = first.mean(np.array([0]))
    first.extend(others)
    official = json.loads((DATA / predictions).with_name("expected.json").read_text())[key]
    mean = first.mean(np.arange(len(others) + 1))
    assert mean["AR@100"] == pytest.approx(official["mean_of_per_image_recall_IoU50_100"], rel=0, abs=1e-12)
    assert first.mean(np.array([0])) == pytest.approx(alone, nan_ok=True)


def test_ground_truth_of_score_equals_score():
    ground_truth, predictions = DATA / "camo/CAMO-V.1.0-CVIU2019/GT", DATA / "camo/pred.json"
    metrics = feed(RecallResults(), recall_pairs(read_camo(ground_truth), predictions)).compute()
    scored = score_task("recall", ground_truth=ground_truth, predictions=predictions, format="camo").values()
    assert {name: None if math.isnan(value) else value for name, value in metrics.items()} == scored


def box(left, top, right, bottom):
    mask = np.zeros(SIZE_HW, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def test_recall_is_pooled_and_takes_the_best_predictions_first():
    """Of three entities the best prediction finds one; the second of IoU 0.62 is found at .50, .55 and .60 of ten."""
    truth = [box(0, 0, 100, 100), box(110, 0, 150, 40), box(110, 60, 150, 100)]
    predictions = np.stack([truth[0], truth[1] & box(110, 0, 150, 25), box(0, 100, 30, 120)])
    found = only(
        RecallResults(), Entities.from_masks(predictions, [0.9, 0.5, 0.4], [3, 1, 0]), truth_of(truth), SIZE_HW
    )
    assert found["AR@1"] == pytest.approx(1 / 3)
    assert found["AR@10"] == found["AR@100"] == pytest.approx(2 / 3)
    assert found["AR@100_50:95"] == pytest.approx((1 + 0.3) / 3)
    assert math.isnan(found["ARs@100"])
    assert (found["ARm@100"], found["ARl@100"]) == (0.5, 1.0)


def test_labels_do_not_matter():
    truth = truth_of([box(0, 0, 100, 100)], labels=[7])
    found = only(RecallResults(), Entities.from_masks(box(0, 0, 100, 100)[None], [0.9], [2]), truth, SIZE_HW)
    assert found["AR@1"] == 1.0


def test_crowds_are_not_to_be_found():
    truth = truth_of([box(0, 0, 100, 100), box(110, 0, 150, 40)], crowds=[0])
    found = only(RecallResults(), Entities.from_masks(box(110, 0, 150, 40)[None], [0.9], [0]), truth, SIZE_HW)
    assert found["AR@100"] == 1.0
