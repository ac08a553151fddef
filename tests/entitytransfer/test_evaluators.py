"""What is true of every evaluator: shares, order, resampling, starting anew, nothing annotated, nothing predicted."""

import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from cropformer import Entities, InputError
from entitytransfer.adapter import Evaluator
from entitytransfer.classes import Classes
from entitytransfer.evaluation.bootstrap import percentile_intervals
from entitytransfer.evaluators import gathering
from entitytransfer.evaluators.average_precision import AveragePrecision
from entitytransfer.evaluators.dichotomous_results import DichotomousResults
from entitytransfer.evaluators.panoptic_results import PanopticResults
from entitytransfer.evaluators.recall_results import RecallResults
from entitytransfer.evaluators.semantic_results import SemanticResults

from .evaluator_cases import (
    FILES,
    Pairs,
    classes_of,
    dis5k_pairs,
    feed,
    instance_pairs,
    only,
    panoptic_pairs,
    semantic_pairs,
    truth_of,
)

INSTANCES, SEGMENTS = (classes_of(FILES[task][0]) for task in ("instance", "panoptic"))
CLASS_NUMBERS = Classes(tuple(map(str, range(150))), tuple(range(150)), (False,) * 150)
SIZE_HW = (30, 40)


@dataclass(frozen=True)
class Case:
    """An evaluator, the pairs that it is fed with, and those of its numbers that are 0 where nothing is found."""

    build: Callable[[], Evaluator]
    pairs: Callable[[], Pairs]
    zeros: tuple[str, ...]


CASES = {
    "entity": Case(AveragePrecision, lambda: instance_pairs("entity"), ("AP", "AP50", "AR100", "AR@100")),
    "instance": Case(
        lambda: AveragePrecision(INSTANCES, boundary=True),
        lambda: instance_pairs("instance", INSTANCES.labels()),
        ("AP", "AR1", "AR10", "boundary_AP"),
    ),
    "recall": Case(RecallResults, lambda: instance_pairs("entity"), ("AR@1", "AR@10", "AR@100", "AR@100_50:95")),
    "panoptic": Case(lambda: PanopticResults(SEGMENTS), panoptic_pairs, ("PQ", "SQ", "RQ")),
    "semantic": Case(lambda: SemanticResults(CLASS_NUMBERS), semantic_pairs, ("mIoU", "fwIoU", "mACC", "pACC")),
    "dichotomous": Case(lambda: DichotomousResults(hce=True), dis5k_pairs, ("maxF", "wF", "meanF", "adpF")),
}
OF_ENTITIES = sorted(set(CASES) - {"dichotomous"})


@pytest.fixture(params=CASES)
def case(request) -> Case:
    return CASES[request.param]


def equal(numbers):
    return pytest.approx(numbers, rel=0, abs=1e-12, nan_ok=True)


@pytest.fixture
def two_processes(monkeypatch):
    """Every second process that asks sees what the one before it has collected, as it comes out of a pipe."""
    sent: list[Any] = []

    def all_gather(parts, records, group):
        sent.append(pickle.loads(pickle.dumps(records)))
        parts[: len(sent)] = sent

    monkeypatch.setattr(gathering, "distributed", _Distributed(all_gather))


@dataclass(frozen=True)
class _Distributed:
    """Two processes, in the words of ``torch.distributed``."""

    all_gather_object: Callable[..., None]

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def new_group(self, backend: str) -> str:
        return backend

    def get_world_size(self, group: str) -> int:
        return 2

    def destroy_process_group(self, group: str) -> None:
        pass


def test_two_processes_find_the_numbers_of_one(case, request):
    pairs = case.pairs()
    whole = feed(case.build(), pairs).compute()
    request.getfixturevalue("two_processes")
    first, second = (feed(case.build(), pairs[rank::2]) for rank in range(2))
    share = first.compute()
    assert share != whole
    assert second.compute() == whole


def test_the_order_of_the_images_does_not_matter(case):
    pairs = case.pairs()
    assert feed(case.build(), pairs[::-1]).compute() == feed(case.build(), pairs).compute()


def test_every_image_once_is_the_whole_set(case):
    pairs = case.pairs()
    metric = feed(case.build(), pairs)
    whole = metric.compute()
    assert metric.compute(np.arange(len(pairs))) == whole
    assert metric.compute(np.arange(len(pairs))[::-1]) == equal(whole)
    assert any(0 < value < 1 for value in whole.values())


def test_an_image_drawn_twice_is_there_twice(case):
    pairs = [(result, replace(sample, image_id=2 * place)) for place, (result, sample) in enumerate(case.pairs())]
    twin = pairs[1][0], replace(pairs[1][1], image_id=3)
    drawn = [pairs[0], pairs[1], twin, *pairs[3:]]
    units = np.array([0, 1, 1, *range(3, len(pairs))])
    numbers = feed(case.build(), pairs).compute(units)
    assert numbers == equal(feed(case.build(), drawn).compute())
    assert numbers != feed(case.build(), pairs).compute()


def test_intervals_lie_around_the_numbers(case):
    pairs = case.pairs()
    metric = feed(case.build(), pairs)
    intervals = percentile_intervals(metric.compute, np.arange(len(pairs)), draws=20, seed=0)
    name = case.zeros[0]
    low, high = intervals[name]
    assert low <= metric.compute()[name] <= high
    assert low < high


def test_an_image_that_comes_later_counts(case):
    pairs = case.pairs()
    metric = feed(case.build(), pairs[:1])
    metric.compute()
    assert feed(metric, pairs[1:]).compute() == feed(case.build(), pairs).compute()


def test_reset_forgets(case):
    pairs = case.pairs()
    metric = feed(case.build(), pairs)
    metric.compute()
    metric.reset()
    assert feed(metric, pairs[:2]).compute() == equal(feed(case.build(), pairs[:2]).compute())


def test_no_image_has_no_numbers(case):
    assert all(math.isnan(value) for value in case.build().compute().values())


@pytest.mark.parametrize("name", OF_ENTITIES)
def test_where_nothing_is_annotated_nothing_is_defined(name):
    found = only(CASES[name].build(), Entities.empty(SIZE_HW), truth_of([]), SIZE_HW)
    assert found
    assert all(math.isnan(value) for value in found.values())


@pytest.mark.parametrize("name", OF_ENTITIES)
def test_where_nothing_is_predicted_all_is_zero(name):
    mask = np.zeros(SIZE_HW, dtype=bool)
    mask[5:20, 5:30] = True
    found = only(CASES[name].build(), Entities.empty(SIZE_HW), truth_of([mask]), SIZE_HW)
    assert {found[key] for key in CASES[name].zeros} == {0}


@pytest.mark.parametrize("name", OF_ENTITIES)
def test_a_result_of_another_size_is_refused(name):
    mask = np.ones(SIZE_HW, dtype=bool)
    wrong = Entities.from_masks(np.ones((1, 31, 40), dtype=bool), [1.0], [0])
    with pytest.raises(InputError, match=r"\(31, 40\)|\[31, 40\]"):
        only(CASES[name].build(), wrong, truth_of([mask]), SIZE_HW)
