"""Stages that run ahead: bounded, ordered, and never silent about an exception."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from exactile.overlap import ahead, behind


def test_items_come_in_order() -> None:
    with ahead(range(100), 2) as items:
        assert list(items) == list(range(100))


def test_an_exception_in_the_stage_is_raised_in_the_consumer_after_what_came_before() -> None:
    def stage() -> Iterator[int]:
        yield 1
        raise ValueError("the disk is gone")

    with ahead(stage(), 2) as items:
        stream = iter(items)
        assert next(stream) == 1
        with pytest.raises(ValueError, match="the disk is gone"):
            next(stream)


def test_a_stage_is_never_more_than_its_depth_ahead() -> None:
    made = []

    def stage() -> Iterator[int]:
        for i in range(50):
            made.append(i)
            yield i

    with ahead(stage(), 2) as items:
        for seen, _ in enumerate(items):
            time.sleep(0.002)
            # Two in the queue and one that waits for room, besides those taken.
            assert len(made) <= seen + 1 + 3


def test_leaving_early_stops_the_stages_and_their_threads() -> None:
    before = threading.active_count()

    def endless() -> Iterator[int]:
        i = 0
        while True:
            yield (i := i + 1)

    with ahead(endless(), 2) as first, ahead((2 * i for i in first), 2) as second:
        for item in second:
            if item > 10:
                break
    assert threading.active_count() == before


def test_a_failing_consumer_stops_the_stage() -> None:
    before = threading.active_count()

    def consume() -> None:
        with ahead(iter(int, 1), 2) as items:
            for _ in items:
                raise OSError("full")

    with pytest.raises(OSError, match="full"):
        consume()
    assert threading.active_count() == before


def test_items_put_behind_are_consumed_in_order_before_the_end() -> None:
    seen: list[int] = []
    with behind(seen.append, 2) as writer:
        for i in range(100):
            writer.put(i)
    assert seen == list(range(100))


def test_an_exception_behind_is_raised_by_a_later_put_or_at_the_end() -> None:
    def fail(item: int) -> None:
        if item == 3:
            raise OSError("the disk is full")

    def put(count: int) -> None:
        with behind(fail, 2) as writer:
            for i in range(count):
                writer.put(i)

    before = threading.active_count()
    for count in (4, 5, 1000):
        with pytest.raises(OSError, match="the disk is full"):
            put(count)
    assert threading.active_count() == before


def test_an_exception_in_front_drops_what_waits_and_ends_the_thread() -> None:
    before = threading.active_count()
    seen = []

    def slow(item: int) -> None:
        time.sleep(0.05)
        seen.append(item)

    def put() -> None:
        with behind(slow, 5) as writer:
            for i in range(5):
                writer.put(i)
            raise ValueError("the network failed")

    with pytest.raises(ValueError, match="the network failed"):
        put()
    assert len(seen) < 5
    assert threading.active_count() == before
