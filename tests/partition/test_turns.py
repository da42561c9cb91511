from __future__ import annotations

import _thread
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from exactile.partition import PartitionError
from exactile.partition.turns import Turns


def in_line(turns: Turns, order: list[int], steps: int) -> list[int]:
    """Let each rank wait in each step for its neighbours to have come to it."""
    reached = [0] * turns.count

    def act(rank: int) -> int:
        for step in range(1, steps + 1):
            order.append(rank)
            reached[rank] = step
            near = [r for r in (rank - 1, rank + 1) if 0 <= r < turns.count]
            turns.wait(rank, lambda near=near, step=step: all(reached[r] >= step for r in near))
        return rank

    return turns.run(act)


def left() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("part ")]


def test_ranks_run_one_at_a_time_and_in_the_same_order_every_time() -> None:
    first: list[int] = []
    second: list[int] = []
    assert in_line(Turns(5), first, 4) == [0, 1, 2, 3, 4]
    in_line(Turns(5), second, 4)
    assert first == second
    assert sorted(first) == sorted([*range(5)] * 4)
    assert not left()


def test_an_error_of_one_rank_is_raised_with_its_number_and_ends_the_others() -> None:
    turns = Turns(4)

    def act(rank: int) -> None:
        if rank == 2:
            raise ZeroDivisionError("no")
        turns.wait(rank, lambda: False)

    with pytest.raises(ZeroDivisionError) as caught:
        turns.run(act)
    assert caught.value.__notes__ == ["in part 2 of 4"]
    assert not left()


def test_ranks_that_wait_for_each_other_for_ever_are_named() -> None:
    turns = Turns(3)

    def act(rank: int) -> None:
        if rank:
            turns.wait(rank, lambda: False)

    with pytest.raises(PartitionError, match=r"parts \[1, 2\] wait for planes that no part sends"):
        turns.run(act)
    assert not left()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """See that an interrupt is one: shells start what is in the background with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_of_the_caller_ends_all_ranks() -> None:
    turns = Turns(3)

    def act(rank: int) -> None:
        _thread.interrupt_main()
        while True:
            time.sleep(0.01)
            turns.check()

    with pytest.raises(KeyboardInterrupt):
        turns.run(act)
    assert not left()
