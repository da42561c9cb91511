"""Few open files out of many: each is lent to one thread at a time.

A mosaic may have more files than a process may open. Those used last stay open, up to a number;
beyond them, at most one for each thread that has one on loan.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition

from exactile.images.source import Source

MOST_OPEN = 32
"""Files that stay open while nobody reads them."""


class OpenFiles:
    """The sources of numbered files, opened when they are wanted."""

    def __init__(self, open_file: Callable[[int], Source], most: int = MOST_OPEN) -> None:
        """Take what opens the file of a number; nothing is opened yet."""
        self._open_file = open_file
        self._most = most
        self._idle: OrderedDict[int, Source] = OrderedDict()
        self._lent: set[int] = set()
        self._changed = Condition()

    @contextmanager
    def lend(self, number: int) -> Iterator[Source]:
        """Lend the source of a file to the calling thread, when no other has it.

        Raises:
            ImageError: if it cannot be opened.
        """
        with self._changed:
            self._changed.wait_for(lambda: number not in self._lent)
            self._lent.add(number)
            source = self._idle.pop(number, None)
        try:
            if source is None:
                source = self._open_file(number)
            yield source
        finally:
            with self._changed:
                self._lent.remove(number)
                if source is not None:
                    self._idle[number] = source
                while len(self._idle) > self._most:
                    _, oldest = self._idle.popitem(last=False)
                    oldest.close()
                self._changed.notify_all()

    def close(self) -> None:
        """Close all files that are not lent."""
        with self._changed:
            while self._idle:
                self._idle.popitem()[1].close()
