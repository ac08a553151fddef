"""PanopticResults against the official numbers, and by hand."""

import json

import numpy as np
import pytest

from cropformer import Entities, InputError
from entitytransfer.classes import Classes
from entitytransfer.evaluators.panoptic_results import PanopticResults
from entitytransfer.score_task import score

from .evaluator_cases import ADE20K, FILES, classes_of, feed, only, panoptic_pairs, truth_of

SIZE_HW = (4, 20)
CLASSES = Classes(("person", "sky"), (1, 2), (True, False))


def columns(first, last):
    mask = np.zeros(SIZE_HW, dtype=bool)
    mask[:, first:last] = True
    return mask


def measured(predictions, truth, **options):
    masks, labels = zip(*predictions)
    entities = Entities.from_masks(np.stack(masks), -np.arange(len(labels), dtype=np.float32), labels)
    return only(PanopticResults(CLASSES), entities, truth_of(*zip(*truth), **options), SIZE_HW)


def test_equals_the_official_numbers():
    ground_truth, predictions = FILES["panoptic"]
    metrics = feed(PanopticResults(classes_of(ground_truth)), panoptic_pairs()).compute()
    official = json.loads((ADE20K / "expected.json").read_text())["panoptic"]
    expected = {
        f"{name}{suffix}": official[group][name.lower()]
        for suffix, group in {"": "All", "_th": "Things", "_st": "Stuff"}.items()
        for name in ("PQ", "SQ", "RQ")
    }
    assert metrics == pytest.approx(expected, rel=0, abs=1e-12)
    assert metrics == score("panoptic", ground_truth=ground_truth, predictions=predictions)


def test_numbers_by_hand():
    """A person of IoU 8/10, one that nobody sees, sky of IoU 1; pixels of nobody are taken out of the union."""
    truth = [(columns(0, 10), 0), (columns(10, 12), 0), (columns(12, 16), 1)]
    metrics = measured([(columns(0, 8), 0), (columns(12, 18), 1)], truth)
    assert metrics == pytest.approx(
        {"PQ_th": 0.8 / 1.5, "SQ_th": 0.8, "RQ_th": 1 / 1.5, "PQ_st": 1.0, "SQ_st": 1.0, "RQ_st": 1.0}
        | {"PQ": (0.8 / 1.5 + 1) / 2, "SQ": 0.9, "RQ": (1 / 1.5 + 1) / 2}
    )


def test_the_annotated_area_is_in_the_union():
    """Half of the sky lies under the person, and a hidden person is missed."""
    truth = [(columns(0, 5), 0), (columns(5, 10), 1), (columns(0, 0), 0)]
    metrics = measured([(columns(0, 5), 0), (columns(5, 10), 1)], truth, areas=[20, 35, 9])
    assert metrics["SQ_st"] == pytest.approx(20 / 35)
    assert metrics["RQ_th"] == pytest.approx(1 / 1.5)


def test_what_lies_on_a_crowd_of_its_class_is_not_wrong():
    truth = [(columns(0, 5), 0), (columns(5, 20), 0)]
    found = [(columns(0, 5), 0), (columns(6, 9), 0)]
    assert measured(found, truth, crowds=[1])["PQ_th"] == 1.0
    assert measured(found, truth)["PQ_th"] == pytest.approx(1 / 2)


def test_of_predictions_that_overlap_the_best_keeps_the_pixels():
    """The second has nothing left, and is no false positive; the third keeps 2 of 5 columns."""
    found = [(columns(0, 8), 0), (columns(2, 8), 0), (columns(5, 10), 1)]
    metrics = measured(found, [(columns(0, 8), 0), (columns(8, 10), 1)])
    assert metrics["PQ"] == 1.0


def test_an_area_smaller_than_what_is_visible_is_refused():
    with pytest.raises(InputError, match="^The ground truth of image 1 has 20 pixels of segment 1, more than its area"):
        measured([(columns(0, 5), 0)], [(columns(0, 5), 0)], areas=[19])
