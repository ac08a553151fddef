"""What a step sees depends on the seed and the step alone: not on who computes it, nor on where a run started."""

from collections import Counter

import numpy as np
import pytest

from cropformer import InputError
from entitytransfer.training.sampling import BatchSize, EpochOrder, Group, Steps, WeightedOrder

PORTRAIT = np.array([False, True, False] * 4 + [True] * 3)  # 8 landscape images and 7 portrait ones


def epochs(*, at_once: int = 2, seed: int = 3, indices: list[int] | None = None) -> EpochOrder:
    return EpochOrder(PORTRAIT, indices=indices, at_once=at_once, seed=seed)


def steps(order, *, total: int = 8, at_once: int = 2, count: int = 9, **numbers) -> list[list[Group]]:
    return list(Steps(order, batch=BatchSize(total, at_once), steps=count, seed=3, **numbers))


def weighted(weights: tuple[float, ...] = (1.0, 3.0), **options) -> WeightedOrder:
    return WeightedOrder(
        PORTRAIT, sets=(range(6), range(6, 15)), weights=weights, **{"at_once": 2, "seed": 3, **options}
    )


@pytest.mark.parametrize("order", [epochs(), weighted()], ids=["epochs", "weighted"])
@pytest.mark.parametrize("processes", [2, 4])
def test_any_number_of_processes_sees_the_same_groups(order, processes):
    alone = steps(order)
    shares = [steps(order, rank=rank, world_size=processes) for rank in range(processes)]
    for step, groups in enumerate(alone):
        assert [shares[number % processes][step][number // processes] for number in range(4)] == groups
        assert all(len(share[step]) == 4 // processes for share in shares)


@pytest.mark.parametrize("order", [epochs(), weighted()], ids=["epochs", "weighted"])
def test_a_run_that_resumes_sees_what_an_uninterrupted_one_sees(order):
    assert steps(order, first_step=5) == steps(order)[5:]
    assert len(Steps(order, batch=BatchSize(), steps=9, first_step=5)) == 9


def test_another_process_that_resumes_draws_the_same():
    assert steps(epochs(), first_step=7) == steps(epochs())[7:]


@pytest.mark.parametrize("make", [epochs, weighted], ids=["epochs", "weighted"])
def test_another_seed_is_another_order(make):
    first, second = ([make(seed=seed)[number] for number in range(20)] for seed in (1, 2))
    assert first != second


@pytest.mark.parametrize("order", [epochs(at_once=3), weighted(at_once=3)], ids=["epochs", "weighted"])
def test_a_group_has_one_orientation(order):
    sides = [{PORTRAIT[i] for i in order[number]} for number in range(60)]
    assert all(len(side) == 1 for side in sides)
    assert {True} in sides
    assert {False} in sides


def test_every_seed_of_a_run_is_another_one():
    groups = [group for step in steps(epochs()) for group in step]
    seeds = [group.seed for group in groups] + [seed for group in groups for _, seed in group.draws]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize(("at_once", "lead"), [(1, 1), (2, 2), (3, 2), (4, 2)])
def test_no_image_gets_far_ahead_of_another(at_once, lead):
    """One image at once: none is seen twice before all are. Groups may hold the first ones of the next pass."""
    order, counts = epochs(at_once=at_once), Counter(range(len(PORTRAIT)))
    for number in range(200):
        counts.update(order[number])
        for side in (False, True):
            seen = [counts[i] for i in np.flatnonzero(side == PORTRAIT)]
            assert max(seen) - min(seen) <= lead


def test_an_epoch_shows_every_image_once():
    """Eight landscape and seven portrait images in pairs: the eighth portrait image opens the next pass."""
    first = [i for number in range(8) for i in epochs()[number]]
    assert sorted(set(first)) == list(range(15))
    assert len(first) == 16
    both = first + [i for number in range(8, 15) for i in epochs()[number]]
    assert Counter(both) == dict.fromkeys(range(15), 2)


def test_epochs_differ_and_mix_orientations():
    order = epochs(at_once=1)
    first, second = ([order[number + 15 * epoch][0] for number in range(15)] for epoch in (0, 1))
    assert first != second
    sides = [PORTRAIT[i] for i in first]
    assert sides not in (sorted(sides), sorted(sides, reverse=True))


def test_a_set_that_is_smaller_than_a_group_repeats():
    order = epochs(at_once=5, indices=[1, 0])
    assert {order[number] for number in range(6)} == {(0,) * 5, (1,) * 5}


def test_only_the_chosen_images_are_shown():
    order = epochs(indices=[2, 3, 7])
    assert {i for number in range(9) for i in order[number]} == {2, 3, 7}


def test_sets_are_drawn_by_their_weight():
    drawn = [i for number in range(4000) for i in weighted((1.0, 3.0))[number]]
    assert sum(i >= 6 for i in drawn) / len(drawn) == pytest.approx(0.75, abs=0.02)
    assert all(i >= 6 for number in range(100) for i in weighted((0.0, 1.0))[number])


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: BatchSize(1, 2), "batch.total=1 is less than batch.at_once=2; set batch.at_once to 1 or less"),
        (lambda: BatchSize(16, 3), "batch.total=16 does not divide .* batch.at_once=3 on 1 process; .* multiple of 3"),
        (lambda: BatchSize(0, 0), "no step of batch.total=0 images"),
        (
            lambda: Steps(epochs(), batch=BatchSize(16, 2), steps=1, world_size=3),
            "batch.total=16 does not divide .* batch.at_once=2 on 3 processes; make it a multiple of 6",
        ),
        (
            lambda: EpochOrder(PORTRAIT[:0], at_once=1, seed=0),
            "no training image has an entity; check the annotation files",
        ),
        (lambda: epochs(indices=[]), "no training image has an entity"),
        (lambda: weighted((0.0, 0.0)), r"the weights of data.sets are \[0.0, 0.0\]; give shares that are not all 0"),
        (lambda: weighted((-1.0, 2.0)), "give shares that are not all 0"),
        (
            lambda: WeightedOrder(PORTRAIT, sets=([], range(6)), weights=(1.0, 0.0), at_once=1, seed=0),
            "give shares that are not all 0",
        ),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(act, message):
    with pytest.raises(InputError, match=message):
        act()
