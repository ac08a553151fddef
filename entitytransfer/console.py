"""What a running command shows: on a terminal a bar with the time left, elsewhere plain lines."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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


class JobProgress:
    """Context manager that follows a list of jobs, and the frames of the clips among them.

    Args:
        total: number of jobs.
    """

    def __init__(self, total: int) -> None:
        console = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            speed_estimate_period=_SPEED_PERIOD_S,
            transient=True,
        )
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
        task = self._task(self._jobs)
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
        last_line_s = time.monotonic()

        def advance() -> None:
            nonlocal last_line_s
            self._bars.advance(clip)
            if self._bars.disable and time.monotonic() - last_line_s >= _PLAIN_INTERVAL_S:
                last_line_s = time.monotonic()
                self._bars.console.print(_frame_line(self._task(clip)))

        try:
            yield advance
        finally:
            self._bars.remove_task(clip)

    def _task(self, task_id: TaskID) -> Task:
        return next(task for task in self._bars.tasks if task.id == task_id)


def _frame_line(task: Task) -> str:
    of_total = "" if task.total is None else f" of {task.total:.0f}"
    return f"{task.description}: {task.completed:.0f}{of_total} frames{_time_left(task)}"


def _time_left(task: Task) -> str:
    seconds = task.time_remaining
    return f", about {seconds:.0f} s left" if seconds else ""
