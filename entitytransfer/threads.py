"""Work beside the network: the next inputs are read and the last results written while it runs, within bounds."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from threading import Condition
from typing import Generic, TypeVar

from cropformer import InputError

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def thread_pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """A pool whose calls have all ended when the block does; those that have not begun by then are dropped."""
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def workers_pool(workers: int | None) -> AbstractContextManager[ThreadPoolExecutor]:
    """A `thread_pool` of as many threads as a user asks for; None = one for each processor.

    Raises:
        InputError: fewer than one.
    """
    if workers is not None and workers < 1:
        raise InputError(f"The number of workers must be at least 1, not {workers}.")
    return thread_pool(workers or os.cpu_count() or 1)


def started_ahead(items: Iterable[T], start: Callable[[T], R], *, ahead: int = 1) -> Iterator[R]:
    """``start(item)`` for each item in order, called for the next ``ahead`` before that of this one is given out."""
    ready: deque[R] = deque()
    for item in items:
        ready.append(start(item))
        if len(ready) > ahead:
            yield ready.popleft()
    yield from ready


class Behind(Generic[T]):
    """Context manager: calls run in threads while the caller goes on, and are settled in the order of their start.

    When the block ends well, every call has been settled. When it fails, those that run are waited for, so that they
    leave no half of a file, and the others are dropped.

    Args:
        threads: calls that run at once.
        bound: sizes of the unsettled calls, added up; a call that would exceed it waits, unless it is alone.
    """

    def __init__(self, *, threads: int, bound: int) -> None:
        self._threads = threads
        self._bound = bound
        self._changed = Condition()
        self._unsettled: deque[tuple[Future[T], Callable[[Future[T]], None], int]] = deque()
        self._error: BaseException | None = None

    def __enter__(self) -> "Behind[T]":
        """Start the threads."""
        self._context = thread_pool(self._threads)
        self._pool = self._context.__enter__()
        return self

    def __exit__(self, exception_type: type[BaseException] | None, *_: object) -> None:
        """Settle what is left, or drop it after an error."""
        try:
            if exception_type is None:
                self.drain()
        finally:
            with self._changed:
                self._unsettled.clear()
            self._context.__exit__(None, None, None)

    def start(self, call: Callable[[], T], settle: Callable[[Future[T]], None], *, size: int = 1) -> None:
        """Run ``call`` soon, and ``settle`` with its future once it and all earlier calls have ended.

        Args:
            call: what to do.
            settle: runs in one of the threads, never two at once; what it raises ends the work.
            size: counts against the bound.

        Raises:
            Exception: what an earlier ``settle`` raised.
        """
        with self._changed:
            self._wait_for(lambda: not self._unsettled or self._size() + size <= self._bound)
            future = self._pool.submit(call)
            self._unsettled.append((future, settle, size))
        future.add_done_callback(self._settle)

    def drain(self) -> None:
        """Wait until every call is settled; raises what a ``settle`` raised."""
        with self._changed:
            self._wait_for(lambda: not self._unsettled)

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        self._changed.wait_for(lambda: self._error is not None or condition())
        if self._error is not None:
            raise self._error

    def _size(self) -> int:
        return sum(size for _, _, size in self._unsettled)

    def _settle(self, _: Future[T]) -> None:
        """Settle the calls at the head of the line that have ended."""
        with self._changed:
            while self._unsettled and self._unsettled[0][0].done() and self._error is None:
                future, settle, _ = self._unsettled.popleft()
                try:
                    settle(future)
                except BaseException as error:  # also an interruption has to reach the thread that waits
                    self._error = error
            self._changed.notify_all()
