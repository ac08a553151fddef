"""Work beside the network: order, bounds, and what is left when something fails."""

import threading
from concurrent.futures import Future
from functools import partial

import pytest

from entitytransfer.threads import Behind, started_ahead, thread_pool

TIMEOUT_S = 20.0  # far more than anything here takes; a test that waits for so long has failed


def test_the_next_item_is_started_before_this_one_is_used():
    told = []
    for started in started_ahead("abc", lambda item: told.append(f"start {item}") or item):
        told.append(f"use {started}")
    assert told == ["start a", "start b", "use a", "start c", "use b", "use c"]


def test_no_item_and_one_item_ahead():
    assert list(started_ahead([], str)) == []
    assert list(started_ahead([1], str)) == ["1"]


def test_calls_settle_in_the_order_of_their_start():
    settled, first_may_end = [], threading.Event()
    with Behind[int](threads=2, bound=9) as behind:
        behind.start(lambda: first_may_end.wait(TIMEOUT_S) and 1, lambda future: settled.append(future.result()))
        behind.start(lambda: 2, lambda future: settled.append(future.result()))
        last_runs = threading.Event()
        behind.start(lambda: last_runs.set() or 3, lambda future: settled.append(future.result()))
        assert last_runs.wait(TIMEOUT_S)
        assert settled == []
        first_may_end.set()
        behind.drain()
        assert settled == [1, 2, 3]


def test_the_caller_waits_at_the_bound():
    may_end, started = threading.Event(), []

    def start_three() -> None:
        with Behind[bool](threads=3, bound=5) as behind:
            for size in (2, 3, 1):
                behind.start(partial(may_end.wait, TIMEOUT_S), Future.result, size=size)
                started.append(size)
                reached.release()

    reached = threading.Semaphore(0)
    caller = threading.Thread(target=start_three)
    caller.start()
    assert reached.acquire(timeout=TIMEOUT_S) and reached.acquire(timeout=TIMEOUT_S)
    assert not reached.acquire(timeout=0.1)
    assert started == [2, 3]
    may_end.set()
    caller.join(TIMEOUT_S)
    assert started == [2, 3, 1]


def test_a_call_above_the_bound_goes_alone():
    settled = []
    with Behind[int](threads=1, bound=5) as behind:
        for size in (7, 8):
            behind.start(lambda size=size: size, lambda future: settled.append(future.result()), size=size)
    assert settled == [7, 8]


@pytest.mark.parametrize("error", [ValueError("full"), KeyboardInterrupt("stop")])
def test_what_settling_raises_reaches_the_caller_and_ends_the_work(error):
    def fail() -> None:
        raise error

    settled = []
    with pytest.raises(type(error), match=str(error)), Behind[None](threads=1, bound=9) as behind:
        behind.start(fail, Future.result)
        behind.start(lambda: None, settled.append)
    assert settled == []


def test_a_failed_block_waits_for_what_runs_and_drops_the_rest():
    ended, runs, may_end = [], threading.Event(), threading.Event()

    def run() -> None:
        runs.set()
        may_end.wait(TIMEOUT_S)
        ended.append("first")

    with pytest.raises(RuntimeError, match="stop"), Behind[None](threads=1, bound=9) as behind:
        behind.start(run, lambda future: ended.append("settled"))
        behind.start(lambda: ended.append("second"), lambda future: ended.append("settled"))
        assert runs.wait(TIMEOUT_S)
        threading.Timer(0.05, may_end.set).start()
        raise RuntimeError("stop")
    assert ended == ["first"]


def test_a_pool_leaves_no_call_behind():
    may_end = threading.Event()
    with thread_pool(1) as pool:
        running = pool.submit(may_end.wait, TIMEOUT_S)
        waiting = [pool.submit(int) for _ in range(3)]
        threading.Timer(0.05, may_end.set).start()
    assert running.result() is True
    assert all(future.cancelled() for future in waiting)
