"""Work on many files by several processes, and what went wrong in it."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_SHOWN = 3


def in_processes(
    work: Callable[[Item], Result], items: Sequence[Item], *, workers: int, at_once: int = 1
) -> Iterator[Result]:
    """``work`` of every item, in order.

    Args:
        work: picklable, unless one process does it all.
        items: likewise.
        workers: processes; 1 works in this one.
        at_once: items that a process gets at a time.
    """
    if workers == 1:
        yield from map(work, items)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(work, items, chunksize=at_once)


def first_problems(sentences: Sequence[str]) -> str:
    """The first few of what went wrong, and how many more there are; no full stop ends it."""
    more = f"; and {len(sentences) - _SHOWN} more" if len(sentences) > _SHOWN else ""
    return "; ".join(sentence.rstrip(".") for sentence in sentences[:_SHOWN]) + more
