"""Scoring by the name of a task: finds the task's file, refuses options that it does not have, and runs it."""

import importlib
import inspect
import pkgutil
from pathlib import Path

from cropformer import InputError
from entitytransfer import scoring
from entitytransfer.scorecard import Score


def score(
    task: str, *, ground_truth: str | Path, predictions: str | Path, **options: object
) -> dict[str, float | None]:
    """Score result files in the official formats, as the official tool of the task does.

    Args:
        task: entity, instance, recall, ytvis, uvo, ...: the name of a file in ``entitytransfer/scoring``.
        ground_truth: the annotation file or folder.
        predictions: the result file or folder.
        options: the protocol options of the task, see its ``score`` function.

    Returns:
        Metric name → value, fractions in [0,1] (a count is a count); None where the official tool has no value.

    Raises:
        InputError: unknown task or option, or files that cannot be scored; it names the file and the record.
    """
    return score_task(task, ground_truth=ground_truth, predictions=predictions, **options).values()


def score_task(task: str, *, ground_truth: str | Path, predictions: str | Path, **options: object) -> Score:
    """Score as `score` does, and return the protocol and the confidence intervals with the metrics."""
    if task not in task_names():
        raise InputError(f"There is no task {task!r}; choose one of {', '.join(task_names())}.")
    run = importlib.import_module(f"{scoring.__name__}.{task}").score
    accepted = inspect.signature(run).parameters
    unknown = [name for name in options if name not in accepted]
    if unknown:
        possible = ", ".join(sorted(set(accepted) - {"ground_truth", "predictions"}))
        raise InputError(f"The task {task} has no option {unknown[0]!r}; it has {possible}.")
    required = [name for name, one in accepted.items() if one.default is one.empty and name not in options]
    missing = sorted(set(required) - {"ground_truth", "predictions"})
    if missing:
        raise InputError(f"The task {task} needs the option {missing[0]!r}; give it.")
    return run(ground_truth=Path(ground_truth), predictions=Path(predictions), **options)


def task_names() -> list[str]:
    """The names of all tasks, in alphabetical order; nothing is imported to know them."""
    return sorted(module.name for module in pkgutil.iter_modules(scoring.__path__))
