"""What a running command shows: on a terminal a bar with the time left, elsewhere plain lines."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

_SPEED_PERIOD_S = 3600.0  # the time left is told from the speed over so long, a slow job being minutes per step
_PLAIN_INTERVAL_S = 10.0

T = TypeVar("T")


def followed(items: Iterable[T], *, name: str, total: int) -> Iterator[T]:
    """Give the items on, and show how many of ``total`` have come; ``name`` is what they are, such as images."""
    with _bars() as bars:
        advance = _advance(bars, bars.add_task(name, total=total), unit=name)
        for item in items:
            yield item
            advance()


class JobProgress:
    """Context manager that follows a list of jobs, and the frames of the clips among them.

    Args:
        total: number of jobs.
    """

    def __init__(self, total: int) -> None:
        self._bars = _bars()
        self._jobs = self._bars.add_task("inputs", total=total)

    def __enter__(self) -> "JobProgress":
        """Show the bar."""
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Take the bar away; the lines stay."""
        self._bars.stop()

    def finish(self, line: str) -> None:
        """One job is done, for better or worse: say how it went."""
        self._bars.advance(self._jobs)
        task = _task(self._bars, self._jobs)
        self._bars.console.print(f"[{task.completed:.0f}/{task.total:.0f}] {line}{_time_left(task)}")

    def warn(self, sentence: str) -> None:
        """Say something on the standard error stream, above the bar."""
        print(sentence, file=sys.stderr)

    @contextmanager
    def frames(self, name: str, total: int | None) -> Iterator[Callable[[], None]]:
        """Follow the frames of a clip; call what this gives after each of them.

        Args:
            name: of the clip.
            total: frames that are expected, None if unknown.
        """
        clip = self._bars.add_task(name, total=total)
        try:
            yield _advance(self._bars, clip, unit="frames")
        finally:
            self._bars.remove_task(clip)


def _bars() -> Progress:
    console = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        speed_estimate_period=_SPEED_PERIOD_S,
        transient=True,
    )


def _advance(bars: Progress, task_id: TaskID, *, unit: str) -> Callable[[], None]:
    """What to call after each step of a task: it moves the bar, or prints a line now and then."""
    last_line_s = time.monotonic()

    def advance() -> None:
        nonlocal last_line_s
        bars.advance(task_id)
        if bars.disable and time.monotonic() - last_line_s >= _PLAIN_INTERVAL_S:
            last_line_s = time.monotonic()
            bars.console.print(_line(_task(bars, task_id), unit=unit))

    return advance


def _task(bars: Progress, task_id: TaskID) -> Task:
    return next(task for task in bars.tasks if task.id == task_id)


def _line(task: Task, *, unit: str) -> str:
    name = "" if task.description == unit else f"{task.description}: "
    of_total = "" if task.total is None else f" of {task.total:.0f}"
    return f"{name}{task.completed:.0f}{of_total} {unit}{_time_left(task)}"


def _time_left(task: Task) -> str:
    seconds = task.time_remaining
    return f", about {seconds:.0f} s left" if seconds else ""
