"""Confidence intervals by resampling the images or videos of a set with replacement (Efron's percentile bootstrap)."""

from collections.abc import Callable, Mapping

import numpy as np

from cropformer import InputError
from entitytransfer.console import followed
from entitytransfer.scorecard import Interval

CONFIDENCE = 0.95
Measure = Callable[[np.ndarray], Mapping[str, float]]


def percentile_intervals(
    measure: Measure, units: np.ndarray, *, draws: int, seed: int
) -> dict[str, Interval | None] | None:
    """The 95 % percentile interval of every metric.

    Args:
        measure: from the indices of drawn images or videos, int64 in ascending order, an index once for every time
            it was drawn, to the metrics; nan where one is undefined. It should reuse what was computed for each.
        units: the indices to draw from, int64; as many are drawn as there are.
        draws: number of resamplings; 0 = no intervals.
        seed: equal seeds draw equal units.

    Returns:
        Metric name → bounds over the draws in which it is defined, None if it is in none; None without draws.

    Raises:
        InputError: a negative number of draws, or a negative seed.
    """
    if draws < 0 or seed < 0:
        raise InputError("The bootstrap needs a number of draws and a seed of at least 0; change the options.")
    if draws == 0 or not units.size:
        return None
    generator = np.random.default_rng(seed)
    numbers = followed(range(draws), name="resamplings", total=draws)
    samples = [dict(measure(np.sort(generator.choice(units, size=units.size)))) for _ in numbers]
    return {name: _interval(np.array([sample[name] for sample in samples], dtype=np.float64)) for name in samples[0]}


def _interval(values: np.ndarray) -> Interval | None:
    defined = values[~np.isnan(values)]
    if not defined.size:
        return None
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
