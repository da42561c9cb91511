"""Chunks decoded ahead, by threads, in the order in which they are asked for.

Decoding releases the interpreter's lock, so that threads share the work. With one thread nothing
runs ahead, and nothing runs beside the caller.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from numpy.typing import NDArray

K = TypeVar("K", bound=tuple[Any, ...])
Load = Callable[[], NDArray[Any]]

AHEAD = 2
"""Chunks waiting for each thread; more would only fill memory."""


class DecodingPool:
    """So many threads, of which the first is the caller's own if it is the only one."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, "decode") if threads > 1 else None

    @property
    def most_held(self) -> int:
        """Chunks that are being decoded or wait to be taken, at most."""
        return 1 if self._pool is None else AHEAD * self.threads + 1

    def loads(
        self, keys: Iterable[K], read: Callable[..., NDArray[Any]], held: Callable[[K], bool]
    ) -> Iterator[tuple[K, Load]]:
        """Yield each of `keys` with what gives its chunk: `read(*key)`, begun ahead unless `held`.

        An exception of `read` is raised by what gives the chunk, whose key is known then.
        """
        if self._pool is None:
            for key in keys:
                yield key, partial(read, *key)
            return
        begun: deque[tuple[K, Future[NDArray[Any]] | None]] = deque()
        try:
            for key in keys:
                begun.append((key, None if held(key) else self._pool.submit(read, *key)))
                if len(begun) > AHEAD * self.threads:
                    yield _settled(*begun.popleft(), read)
            while begun:
                yield _settled(*begun.popleft(), read)
        finally:
            for _, future in begun:
                if future is not None:
                    future.cancel()

    def close(self) -> None:
        """End the threads, after what they are decoding."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _settled(
    key: K, future: Future[NDArray[Any]] | None, read: Callable[..., NDArray[Any]]
) -> tuple[K, Load]:
    return key, partial(read, *key) if future is None else future.result
