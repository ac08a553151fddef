"""SemanticResults against the official numbers, and by hand."""

import json

import numpy as np
import pytest

from cropformer import Entities, InputError
from entitytransfer.classes import Classes
from entitytransfer.evaluators.semantic_results import SemanticResults
from entitytransfer.score_task import score

from .evaluator_cases import ADE20K, FILES, feed, only, semantic_pairs, truth_of

SIZE_HW = (4, 10)
CLASSES = Classes(("a", "b", "c"), (1, 2, 3), (False, False, True))


def columns(first, last):
    mask = np.zeros(SIZE_HW, dtype=bool)
    mask[:, first:last] = True
    return mask


def measured(predictions, truth, **options):
    masks, labels = zip(*predictions) if predictions else (np.zeros((0, *SIZE_HW), dtype=bool), [])
    scores = -np.arange(len(labels), dtype=np.float32)
    entities = Entities.from_masks(np.asarray(masks), scores, labels)
    return only(SemanticResults(CLASSES), entities, truth_of(*zip(*truth), **options), SIZE_HW)


def test_equals_the_official_numbers():
    ade20k = Classes(tuple(map(str, range(150))), tuple(range(150)), (False,) * 150)
    metrics = feed(SemanticResults(ade20k), semantic_pairs()).compute()
    official = json.loads((ADE20K / "expected.json").read_text())["sem_seg_percent"]
    assert metrics == pytest.approx({name: value / 100 for name, value in official.items()}, rel=0, abs=1e-9)
    ground_truth, predictions = FILES["semantic"]
    assert metrics == score("semantic", ground_truth=ground_truth, predictions=predictions)


def test_numbers_by_hand():
    """Of class a 5 of 6 columns are right, of class b 2 of 2 with 1 too many; the last two are annotated by nobody."""
    metrics = measured([(columns(0, 5), 0), (columns(5, 10), 1)], [(columns(0, 6), 0), (columns(6, 8), 1)])
    assert metrics == pytest.approx(
        {"mIoU": (5 / 6 + 2 / 3) / 2, "fwIoU": (6 * 5 / 6 + 2 * 2 / 3) / 8, "mACC": (5 / 6 + 1) / 2, "pACC": 7 / 8}
    )


def test_pixels_without_a_prediction_are_wrong():
    metrics = measured([(columns(0, 3), 0)], [(columns(0, 4), 0)])
    assert set(metrics.values()) == {0.75}


def test_of_regions_that_overlap_the_best_keeps_the_pixels():
    """Nothing is left of class c, and it is no class of the ground truth, so that its absence costs nothing."""
    metrics = measured([(columns(0, 6), 0), (columns(2, 6), 2)], [(columns(0, 6), 0)])
    assert set(metrics.values()) == {1.0}


def test_several_regions_of_a_class_and_crowds_are_of_that_class():
    truth = [(columns(0, 2), 0), (columns(5, 7), 0), (columns(2, 5), 1)]
    metrics = measured([(columns(0, 2) | columns(5, 7), 0), (columns(2, 5), 1)], truth, crowds=[2])
    assert set(metrics.values()) == {1.0}


def test_a_label_that_is_no_class_is_refused():
    with pytest.raises(InputError, match="the prediction has label 7"):
        measured([(columns(0, 6), 7)], [(columns(0, 6), 0)])
