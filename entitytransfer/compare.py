"""The ``compare`` command: what one run gains over another on the same samples, as in Table 4, with intervals."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cropformer import InputError
from entitytransfer.adapter import Adapter, Evaluator, SampleSet
from entitytransfer.console import followed
from entitytransfer.datasets import open_adapter
from entitytransfer.evaluation.bootstrap import percentile_intervals
from entitytransfer.evaluation.saved_results import SavedRun, open_run, saved_results
from entitytransfer.predictions import write_json
from entitytransfer.reports.metric_format import headlines, lower_is_better, show_metric
from entitytransfer.scorecard import Interval
from entitytransfer.set_source import open_set

_DRAWS = 1000
_SLOW_DRAWS = 200  # of AP and AR, which sort all predictions again for every draw
_SLOW_HEADS = ("entity", "instance")
_SHOWN_DIGITS = 12  # of a checksum


@dataclass(frozen=True)
class Gain:
    """One metric of two runs; the interval is that of the difference."""

    name: str
    before: float
    after: float
    interval: Interval | None

    def row(self) -> str:
        """The line to print, such as ``PQ  49.0 (+0.9)  [+0.4, +1.4]``."""
        gain = show_metric(self.name, self.after - self.before, sign=True)
        line = f"{self.name:<12}{show_metric(self.name, self.after):>6} ({gain})"
        if self.interval is not None:
            line += f"  [{', '.join(show_metric(self.name, bound, sign=True) for bound in self.interval)}]"
        return line + ("  lower is better" if lower_is_better(self.name) else "")

    def content(self) -> dict[str, Any]:
        """As JSON; None where a number is undefined."""
        numbers = {"before": self.before, "after": self.after, "gain": self.after - self.before}
        defined = {name: None if np.isnan(value) else value for name, value in numbers.items()}
        return defined | {"interval": None if self.interval is None else list(self.interval)}


@dataclass(frozen=True)
class Comparison:
    """What ``after`` gains over ``before``, by metric; intervals are from ``draws`` resamplings of the set."""

    before: SavedRun
    after: SavedRun
    gains: list[Gain]
    draws: int
    seed: int

    def table(self) -> str:
        """The lines to print."""
        kind = self.after.kind
        described = " ".join(f"{name}={value}" for name, value in self.after.source.options.items())
        intervals = f"95 % intervals from {self.draws} resamplings of the {kind}, seed {self.seed}"
        return "\n".join(
            [
                f"{'set':<8}{self.after.source.dataset} {described} ({self.after.protocol[f'num_{kind}']} {kind})",
                f"{'before':<8}{_whose(self.before, self.after)}",
                f"{'after':<8}{_whose(self.after, self.before)}",
                "",
                *(gain.row() for gain in self.gains),
                "",
                f"after (gain over before){'; ' + intervals if self.draws else ''}",
            ]
        )

    def save(self, path: Path) -> None:
        """Write metrics and how they came about as JSON."""
        runs = {"before": self.before, "after": self.after}
        protocol = {name: {"out": str(run.out), **run.protocol} for name, run in runs.items()}
        protocol |= {"draws": self.draws, "seed": self.seed}
        write_json(path, {"metrics": {gain.name: gain.content() for gain in self.gains}, "protocol": protocol})


def compare(
    before: Path, after: Path, *, metric: str | None = None, bootstrap: int | None = None, seed: int = 0
) -> Comparison:
    """Score the saved predictions of two runs again, and say what the second gains over the first.

    Args:
        before: a folder that ``evaluate`` wrote, such as that of the control.
        after: another one, of the same set and task.
        metric: the one to compare; None = those that papers print.
        bootstrap: resamplings of the set, the same for both runs (a paired bootstrap); None = 1000, or 200 where
            every one of them takes long; 0 = no intervals.
        seed: of the resampling.

    Raises:
        InputError: one is no finished run, they are not of one set and task, or there is no such metric.
    """
    runs = open_run(before), open_run(after)
    _refuse_others(*runs)
    source = runs[0].source
    adapter, samples = open_adapter(source.dataset, source.options), open_set(source)
    first, second = (_measured(run, adapter, samples) for run in runs)
    values = first.compute(), second.compute()
    names = _chosen(values[0], metric)
    draws = _draws(runs[0]) if bootstrap is None else bootstrap
    intervals = percentile_intervals(_difference(first, second, names), np.arange(len(samples)), draws=draws, seed=seed)
    gains = [Gain(name, values[0][name], values[1][name], (intervals or {}).get(name)) for name in names]
    return Comparison(*runs, gains, draws, seed)


def _refuse_others(before: SavedRun, after: SavedRun) -> None:
    """Both runs must have been judged by the same ground truth."""
    first, second = (
        {"dataset": run.source.dataset, **run.source.options}
        | {name: run.protocol[name] for name in ("head", f"num_{run.kind}", f"{run.kind}_sha256")}
        for run in (before, after)
    )
    for name in {**first, **second}:
        if first.get(name) != second.get(name):
            raise InputError(
                f"{before.out} was evaluated with {name}={first.get(name)}, {after.out} with {second.get(name)}; "
                "compare runs of one set and task."
            )


def _measured(run: SavedRun, adapter: Adapter, samples: SampleSet) -> Evaluator:
    evaluator = adapter.build_evaluator(samples.classes)
    for sample, result in followed(saved_results(run.out, samples), name="results", total=len(samples)):
        evaluator.update(result, sample)
    return evaluator


def _chosen(metrics: Mapping[str, float], metric: str | None) -> list[str]:
    if metric is None:
        return headlines(metrics)
    if metric not in metrics:
        raise InputError(f"The runs have no metric {metric!r}; choose one of {', '.join(metrics)}.")
    return [metric]


def _draws(run: SavedRun) -> int:
    return _SLOW_DRAWS if run.protocol["head"] in _SLOW_HEADS else _DRAWS


def _difference(first: Evaluator, second: Evaluator, names: list[str]) -> Callable[[np.ndarray], dict[str, float]]:
    """From images or clips to the gains on them."""

    def measure(units: np.ndarray) -> dict[str, float]:
        before, after = first.compute(units), second.compute(units)
        return {name: after[name] - before[name] for name in names}

    return measure


def _whose(run: SavedRun, other: SavedRun) -> str:
    """Where a run is, whose weights it has, and in what else it differs from the other one."""
    weights = f"weights {run.protocol['weights']} ({run.protocol['weights_sha256'][:_SHOWN_DIGITS]})"
    own = [(name, value) for name, value in run.protocol.items() if not name.startswith("weights")]
    differences = [f"{name}={value}" for name, value in own if other.protocol.get(name) != value]
    return f"{run.out}: {' '.join([weights, *differences])}"
