"""Which images a training step sees: drawn from the seed and the numbers of the step and the group alone.

A step is a list of groups, each what one GPU of the published training has at once. As no group depends on who
computes it, any number of processes sees the same step, and so does a run that resumes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Protocol

import numpy as np
from torch.utils.data import Sampler

from cropformer import InputError

ORIENTATIONS = (False, True)  # landscape, which square images count as, and portrait


@dataclass(frozen=True)
class Group:
    """Images of one orientation that are computed together.

    Attributes:
        draws: (sample index, seed of its random choices) of each image.
        seed: of all other random numbers that the step draws for this group.
    """

    draws: tuple[tuple[int, int], ...]
    seed: int


@dataclass(frozen=True)
class BatchSize:
    """How many images a step has, and how many of them are computed at once.

    Attributes:
        total: images in an optimiser step, whatever the number of processes.
        at_once: images in a group; what varies between groups is accumulated.

    Raises:
        InputError: if a step is no whole number of groups.
    """

    total: int = 16
    at_once: int = 2

    def __post_init__(self) -> None:
        """Refuse steps without a whole group."""
        if min(self.total, self.at_once) < 1:
            raise InputError(
                f"there is no step of batch.total={self.total} images, batch.at_once={self.at_once} at once"
            )
        if self.total < self.at_once:
            raise InputError(
                f"batch.total={self.total} is less than batch.at_once={self.at_once}; "
                f"set batch.at_once to {self.total} or less"
            )
        self.groups_each(processes=1)

    @property
    def groups(self) -> int:
        """Groups in a step, over all processes."""
        return self.total // self.at_once

    def groups_each(self, *, processes: int) -> int:
        """Groups of a step that each process computes.

        Raises:
            InputError: if the processes cannot share the step evenly.
        """
        if self.total % (self.at_once * processes):
            raise InputError(
                f"batch.total={self.total} does not divide into groups of batch.at_once={self.at_once} on {processes} "
                f"{'process' if processes == 1 else 'processes'}; make it a multiple of {self.at_once * processes}"
            )
        return self.groups // processes


class Order(Protocol):
    """An endless sequence of groups of sample indices, any of which can be asked for by its number."""

    def __getitem__(self, number: int) -> tuple[int, ...]:
        """Sample indices of group ``number``."""


class EpochOrder:
    """Every image once in each epoch, in a new order each time; all images of a group have one orientation.

    Landscape and portrait images are two endless streams of shuffled passes, cut into groups. An epoch takes from
    each stream the groups that complete the pass, and shuffles them. The last group of a pass is filled up with the
    first images of the next one, which then starts after them: nothing is dropped, and nothing is drawn twice.

    Args:
        portrait: of every sample, whether it is higher than wide: bool [samples].
        indices: the samples to draw from; None draws from all.
        at_once: images in a group.
        seed: start of the random numbers.

    Raises:
        InputError: if there is nothing to draw from.
    """

    def __init__(self, portrait: np.ndarray, *, indices: Sequence[int] | None = None, at_once: int, seed: int) -> None:
        self.at_once, self.seed = at_once, seed
        chosen = np.arange(len(portrait)) if indices is None else np.asarray(indices, dtype=np.int64)
        _check_any(chosen)
        self.members = [chosen[portrait[chosen] == side].tolist() for side in ORIENTATIONS]
        self._shuffled = lru_cache(maxsize=4)(self._shuffle_members)
        self._groups = lru_cache(maxsize=2)(self._shuffle_groups)

    def __getitem__(self, number: int) -> tuple[int, ...]:
        """Sample indices of group ``number``."""
        epoch = number * self.at_once // sum(map(len, self.members))  # or a later one, as no epoch is shorter
        while number < self._groups_before(epoch):
            epoch -= 1
        side, place = self._groups(epoch)[number - self._groups_before(epoch)]
        return tuple(self._member(side, i) for i in range(place * self.at_once, (place + 1) * self.at_once))

    def _passes_end(self, side: int, epoch: int) -> int:
        """Groups of one orientation that ``epoch`` whole passes take."""
        return -(-epoch * len(self.members[side]) // self.at_once)

    def _groups_before(self, epoch: int) -> int:
        return sum(self._passes_end(side, epoch) for side in ORIENTATIONS)

    def _shuffle_groups(self, epoch: int) -> list[tuple[int, int]]:
        """The groups of an epoch as (orientation, place in its stream)."""
        groups = [
            (side, place)
            for side in ORIENTATIONS
            for place in range(self._passes_end(side, epoch), self._passes_end(side, epoch + 1))
        ]
        random.Random(f"{self.seed} epoch {epoch}").shuffle(groups)
        return groups

    def _shuffle_members(self, side: int, turn: int) -> list[int]:
        members = list(self.members[side])
        random.Random(f"{self.seed} orientation {int(side)} pass {turn}").shuffle(members)
        return members

    def _member(self, side: int, position: int) -> int:
        turn, place = divmod(position, len(self.members[side]))
        return self._shuffled(side, turn)[place]


class WeightedOrder:
    """Groups drawn with replacement: sets by their weight, images inside a set alike, one orientation in a group.

    Args:
        portrait: of every sample, set after set, whether it is higher than wide: bool [samples].
        sets: the samples of each set to draw from.
        weights: share of each set in what is drawn.
        at_once: images in a group.
        seed: start of the random numbers.

    Raises:
        InputError: if there is nothing to draw from, or no set has a positive weight.
    """

    def __init__(
        self,
        portrait: np.ndarray,
        *,
        sets: Sequence[Sequence[int]],
        weights: Sequence[float],
        at_once: int,
        seed: int,
    ) -> None:
        self.at_once, self.seed = at_once, seed
        shares = [(int(i), weight / len(members)) for members, weight in zip(sets, weights) for i in members]
        _check_any(shares)
        if min(weights) < 0 or not any(share for _, share in shares):
            raise InputError(f"the weights of data.sets are {list(weights)}; give shares that are not all 0")
        self.pools = []
        for side in ORIENTATIONS:
            pool = [(i, share) for i, share in shares if portrait[i] == side]
            self.pools.append(([i for i, _ in pool], list(accumulate(share for _, share in pool))))

    def __getitem__(self, number: int) -> tuple[int, ...]:
        """Sample indices of group ``number``."""
        generator = random.Random(f"{self.seed} weighted {number}")
        indices, cumulative = generator.choices(self.pools, [ends[-1] if ends else 0 for _, ends in self.pools])[0]
        return tuple(generator.choices(indices, cum_weights=cumulative, k=self.at_once))


class Steps(Sampler[list[Group]]):
    """For each step, the groups that one process computes: group r and every W-th after it, of W processes.

    Args:
        order: the groups of the run, step after step.
        batch: size of a step and of a group.
        steps: steps of the whole run.
        first_step: number of the step to start with.
        seed: start of the random numbers.
        rank: number r of the process.
        world_size: number W of processes.

    Raises:
        InputError: if the processes cannot share a step evenly.
    """

    def __init__(
        self,
        order: Order,
        *,
        batch: BatchSize,
        steps: int,
        first_step: int = 0,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        batch.groups_each(processes=world_size)
        self.order, self.groups, self.seed = order, batch.groups, seed
        self.steps, self.first_step = steps, first_step
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        """Steps of the whole run; a resumed run counts those before ``first_step`` as given out."""
        return self.steps

    def __iter__(self) -> Iterator[list[Group]]:
        """Give out the steps from ``first_step`` on."""
        for step in range(self.first_step, self.steps):
            first = step * self.groups
            yield [self._group(number) for number in range(first + self.rank, first + self.groups, self.world_size)]

    def _group(self, number: int) -> Group:
        generator = random.Random(f"{self.seed} group {number}")
        draws = tuple((index, generator.getrandbits(32)) for index in self.order[number])
        return Group(draws, generator.getrandbits(32))


def _check_any(samples: Sequence[object] | np.ndarray) -> None:
    if not len(samples):
        raise InputError("no training image has an entity; check the annotation files of data.root and data.sets")
