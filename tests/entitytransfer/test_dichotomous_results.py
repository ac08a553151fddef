"""DichotomousResults against the official numbers, and what counts as the mask."""

import json
import math

import numpy as np
import pytest

from entitytransfer.evaluators.dichotomous import DichotomousMeasures
from entitytransfer.evaluators.dichotomous_results import DichotomousResults
from entitytransfer.score_task import score

from .evaluator_cases import DATA, FILES, dis5k_pairs, feed, only, truth_of

SIZE_HW = (30, 40)


def block(rows, columns):
    mask = np.zeros(SIZE_HW, dtype=bool)
    mask[rows, columns] = True
    return mask


@pytest.mark.parametrize("hce", [False, True])
def test_equals_the_official_numbers(hce):
    metrics = feed(DichotomousResults(hce=hce), dis5k_pairs()).compute()
    ground_truth, predictions = FILES["dis5k"]
    assert metrics == score("dis5k", ground_truth=ground_truth, predictions=predictions, hce=hce)
    official = json.loads((DATA / "dis5k" / "expected.json").read_text())
    toolbox = official["values"]["soctoolbox"]
    for ours, theirs in {"maxF": "maxFm", "meanF": "meanFm", "wF": "wFm", "MAE": "MAE", "S": "Sm"}.items():
        assert metrics[ours] == pytest.approx(toolbox[theirs], rel=0, abs=1e-9)
    assert ("HCE" in metrics) is hce


def test_everything_annotated_is_one_mask():
    parts = [block(slice(2, 12), slice(3, 20)), block(slice(10, 25), slice(15, 35))]
    grey = np.random.default_rng(0).integers(0, 256, SIZE_HW, dtype=np.uint8)
    together = DichotomousMeasures(hce=False)
    together.update(grey, parts[0] | parts[1])
    assert only(DichotomousResults(), grey, truth_of(parts), SIZE_HW) == together.compute()


def test_nothing_annotated_is_an_empty_mask():
    black = only(DichotomousResults(), np.zeros(SIZE_HW, dtype=np.uint8), truth_of([]), SIZE_HW)
    assert (black["MAE"], black["S"], black["maxF"]) == (0, 1, 0)
    assert not any(map(math.isnan, black.values()))


def test_a_map_of_another_size_or_type_is_a_programming_error():
    truth = truth_of([block(slice(2, 12), slice(3, 20))])
    for wrong in (np.zeros((30, 41), dtype=np.uint8), np.zeros(SIZE_HW)):
        with pytest.raises(ValueError, match="map"):
            only(DichotomousResults(), wrong, truth, SIZE_HW)
