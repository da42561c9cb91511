"""Running a stage of a pipeline ahead of this thread, or behind it, over a bounded queue.

The stage between the two stays in the thread that calls: PyTorch's own threads serve the main
thread best (measured: a forward pass from another thread took 5 to 15 % longer).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from queue import Full, Queue
from threading import Event, Thread
from typing import Generic, TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.2
"""How long a stage waits before it looks whether the other side has gone."""


class _End:
    """The producer has finished, or failed with `error`."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class ahead(Generic[T]):  # noqa: N801 - used as a function: `for x in ahead(stage, 2)`
    """Iterate over `items`, made in a thread of its own, at most `depth` of them in advance.

    An exception in the thread is raised here, in the place of the item that it prevented. Closing
    (or leaving the `with`) stops the thread and waits for it.
    """

    def __init__(self, items: Iterable[T], depth: int) -> None:
        self._queue: Queue[T | _End] = Queue(depth)
        self._closed = Event()
        self._thread = Thread(target=self._produce, args=(items,), daemon=True)
        self._thread.start()

    def __enter__(self) -> ahead[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        while True:
            item = self._queue.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item

    def _produce(self, items: Iterable[T]) -> None:
        error: BaseException | None = None
        try:
            for item in items:
                if not self._put(item):
                    return
        except BaseException as raised:  # noqa: BLE001 - handed over whole, raised by __iter__
            error = raised
        self._put(_End(error))

    def _put(self, item: T | _End) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=POLL_SECONDS)
            except Full:
                continue
            return True
        return False


class behind(Generic[T]):  # noqa: N801 - the counterpart of `ahead`
    """Call `consume` with each item that is `put`, in a thread of its own, in their order.

    At most `depth` items wait. An exception in the thread is raised here, by the next `put` or on
    leaving the `with`, which waits for all items; leaving it by an exception drops what waits.
    """

    def __init__(self, consume: Callable[[T], None], depth: int) -> None:
        self._consume = consume
        self._queue: Queue[T | _End] = Queue(depth)
        self._error: BaseException | None = None
        self._dropped = Event()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> behind[T]:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._dropped.set()
        self._hand_over(_End(None))
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def put(self, item: T) -> None:
        """Hand `item` over; waits while `depth` others are waiting."""
        self._hand_over(item)
        if self._error is not None:
            raise self._error

    def _hand_over(self, item: T | _End) -> None:
        while self._thread.is_alive():
            try:
                self._queue.put(item, timeout=POLL_SECONDS)
            except Full:
                continue
            return

    def _run(self) -> None:
        while not isinstance(item := self._queue.get(), _End):
            if self._dropped.is_set():
                continue
            try:
                self._consume(item)
            except BaseException as raised:  # noqa: BLE001 - handed over whole, raised by put
                self._error = raised
                return
