"""SIGTERM and SIGINT: an end within seconds, by the clean way or without it.

Python handles a signal in the main thread, between two of its instructions, so not while a pass of
the network takes its time. What is stored of an image is on disk at any moment, and a later run
goes on from it; nothing is lost, therefore, if the process is ended from another thread where the
clean way takes too long.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import NoReturn

GRACE_SECONDS = 4.0
"""How long the clean way may take: well below the 10 s that container engines wait."""

LAST_WORD_SECONDS = 0.5
"""How long the last line of the log may take, which may go to a pipe that nobody reads."""

STOPPED = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}

logger = logging.getLogger("exactile")


class Stopped(BaseException):
    """A signal asks for an end; raised in the main thread, so that everything is left in order."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = signal.Signals(number)

    @property
    def exit_code(self) -> int:
        """As shells have it: 128 and the signal's number."""
        return 128 + self.number

    def sentence(self) -> str:
        """Return the last words of a run that was stopped."""
        parts = [STOPPED[self.number], "nothing unfinished was left under a final name"]
        return "; ".join([*parts, *getattr(self, "__notes__", ())])


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise Stopped in the body where a signal asks for an end; end the process if that is slow."""
    watching, waking = socket.socketpair()
    waking.setblocking(False)
    before = signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
    watchdog = Thread(target=_watch, args=(watching,), name="watchdog", daemon=True)
    watchdog.start()
    for number in STOPPED:
        # A shell starts what runs in its background with SIGINT ignored, and means it.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)
    try:
        yield
    finally:
        # The watchdog ends, unless it has seen a signal: leaving the process may take long too.
        signal.set_wakeup_fd(before)
        waking.close()


def _stop(number: int, _: object) -> NoReturn:
    """Leave as on an error; a second signal must not disturb the clearing up."""
    for each in STOPPED:
        signal.signal(each, signal.SIG_IGN)
    raise Stopped(number)


def _watch(watching: socket.socket) -> None:
    """Wait for a signal's number, which the system hands over at once, and then for the end."""
    with watching:
        while numbers := watching.recv(1):
            if numbers[0] in STOPPED:
                _end(Stopped(numbers[0]))


def _end(stop: Stopped) -> NoReturn:
    time.sleep(GRACE_SECONDS)
    stop.add_note("the same command goes on from what is stored")
    last_word = Thread(target=logger.error, args=("%s", stop.sentence()), daemon=True)
    last_word.start()
    last_word.join(LAST_WORD_SECONDS)
    os._exit(stop.exit_code)
