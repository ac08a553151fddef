"""Which samples a training step sees: drawn from the seed and the number of the step alone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler

from entitytransfer.adapter import Sample


class OrientationBatches(Sampler):
    """Endless batches of (sample index, seed), each all landscape or all portrait, so that little is padding.

    Sets are mixed by weight, samples inside a set are drawn uniformly. Batch i depends on the seed and i alone,
    so a run that resumes at step i sees what an uninterrupted one would have seen.

    Args:
        samples: all samples, set after set.
        set_sizes: number of samples in each set.
        set_weights: share of each set in what is drawn.
        batch_size: samples in a batch.
        steps: batches to give out.
        first_step: number of the first batch.
        seed: start of the random numbers.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        set_sizes: Sequence[int],
        set_weights: Sequence[float],
        batch_size: int,
        steps: int,
        first_step: int = 0,
        seed: int = 0,
    ) -> None:
        self.batch_size, self.seed = batch_size, seed
        self.steps, self.first_step = steps, first_step
        shares = [w / n for w, n in zip(set_weights, set_sizes) for _ in range(n)]
        portrait = [sample.size_hw[0] > sample.size_hw[1] for sample in samples]
        self.groups = [
            (
                [i for i, p in enumerate(portrait) if p == side],
                [s for s, p in zip(shares, portrait) if p == side],
            )
            for side in (False, True)
        ]

    def __len__(self) -> int:
        """Batches of the whole run; a resumed run counts those before ``first_step`` as given out."""
        return self.steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Give out the batches from ``first_step`` on."""
        for step in range(self.first_step, self.steps):
            generator = random.Random(f"{self.seed}-{step}")
            indices, shares = generator.choices(self.groups, [sum(group[1]) for group in self.groups])[0]
            chosen = generator.choices(indices, shares, k=self.batch_size)
            yield [(index, generator.getrandbits(32)) for index in chosen]
