"""Units named again count like units that are there again, whatever their scores, and one by one as alone."""

import numpy as np
import pytest

from entitytransfer.evaluators.kept_matches import KeptMatches
from entitytransfer.evaluators.matching import Matches

NUM_AREAS, NUM_THRESHOLDS = 2, 3


def draw_units(*, num_units: int, num_classes: int) -> list[dict[int, Matches]]:
    """Units with any of the classes, and few different scores, so that many are equal."""
    generator = np.random.default_rng(0)

    def draw() -> Matches:
        count = int(generator.integers(0, 6))
        flags = generator.random((2, NUM_AREAS, NUM_THRESHOLDS, count)) < 0.4
        scores = np.sort(generator.integers(0, 3, count) / 4)[::-1]
        return Matches(scores, *flags, generator.integers(0, 4, NUM_AREAS), np.zeros(0))

    return [
        {
            index: draw()
            for index in generator.permutation(num_classes)[: generator.integers(0, num_classes + 1)].tolist()
        }
        for _ in range(num_units)
    ]


def keep(units: list[dict[int, Matches]]) -> KeptMatches:
    kept = KeptMatches(3, num_areas=NUM_AREAS, num_thresholds=NUM_THRESHOLDS, max_dets=(1, 2, 10))
    for matches in units:
        kept.add(matches)
    return kept


def assert_equal(arrays: tuple[np.ndarray, ...], others: tuple[np.ndarray, ...]) -> None:
    for one, other in zip(arrays, others, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("chosen", [[], [4], [0, 0, 0], [1, 1, 3, 7, 7, 7, 11], list(range(12))])
def test_units_named_again_are_units_that_are_there_again(chosen):
    units = draw_units(num_units=12, num_classes=3)
    named = keep(units).accumulate(np.array(chosen, dtype=np.int64))
    assert_equal(named, keep([units[index] for index in chosen]).accumulate())


def test_units_of_others_come_after_ones_own():
    units = draw_units(num_units=12, num_classes=3)
    first, *others = keep(units[:5]), keep(units[5:6]), keep(units[6:])
    others[1].accumulate()
    first.extend(others)
    assert_equal(first.accumulate(), keep(units).accumulate())
    assert_equal(first.accumulate(np.array([2, 9])), keep([units[2], units[9]]).accumulate())


def test_recall_of_each_unit_is_that_of_the_unit_alone():
    units = draw_units(num_units=12, num_classes=3)
    alone = np.stack([keep([unit]).accumulate()[1] for unit in units])
    np.testing.assert_array_equal(keep(units).recall_of_each(), alone)
    assert keep([]).recall_of_each().shape == (0, *alone.shape[1:])


def test_precision_and_recall_by_hand():
    """Right, wrong, ignored, right of 4: precision 1/1 up to recall 1/4, then 2/3 up to 2/4."""
    is_matched = np.array([True, False, True, True]).reshape(1, 1, 4)
    is_ignored = np.array([False, False, True, False]).reshape(1, 1, 4)
    kept = KeptMatches(1, num_areas=1, num_thresholds=1, max_dets=(1, 4))
    kept.add({0: Matches(np.array([0.9, 0.8, 0.7, 0.6]), is_matched, is_ignored, np.array([4]), np.zeros(0))})
    precision, recall = kept.accumulate()
    np.testing.assert_allclose(precision[0, [0, 25, 26, 50, 51], 0, 0, 1], [1, 1, 2 / 3, 2 / 3, 0])
    assert recall[0, 0, 0].tolist() == [1 / 4, 2 / 4]
