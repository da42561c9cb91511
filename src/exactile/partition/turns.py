"""Threads that take turns: one runs at a time, and hands on when it must wait for another.

Each of a number of ranks lives in a thread. Who is next follows from the ranks and from what they
wait for, never from the clock: of those that can go on, the nearest to the one that hands on, whose
data are more likely still at hand. So a run does the same in the same order every time.

Where one rank fails, all others end at their next wait, and the error is raised by `run`, in the
thread that called it. The same where that thread is interrupted. When `run` returns or raises, no
thread is left.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from exactile.partition.refusal import PartitionError

Result = TypeVar("Result")

LOOK_SECONDS = 0.2
"""How often the caller looks whether it is interrupted."""


class Abandoned(BaseException):
    """Another rank failed, or the run was interrupted; ends the thread that it is raised in."""


class Turns:
    """The ranks 0 .. count - 1, of which one runs at a time."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._go = [threading.Semaphore(0) for _ in range(count)]
        self._until: dict[int, Callable[[], bool]] = dict.fromkeys(range(count), _at_once)
        self._ended = threading.Semaphore(0)
        self._stopped = False
        self._errors: list[BaseException] = []

    def run(self, act: Callable[[int], Result]) -> list[Result]:
        """Return what `act` returns for each rank.

        Raises:
            PartitionError: if all ranks that are left wait for each other.
            Exception: the first that `act` raised for any rank, with a note that says which.
        """
        results: dict[int, Result] = {}
        threads = [
            threading.Thread(target=self._live, args=(rank, act, results), name=f"part {rank}")
            for rank in range(self.count)
        ]
        try:
            for thread in threads:
                thread.start()
            self._hand_on(0)
            for _ in threads:
                # Not `join`: where that is interrupted, Python takes the thread for ended.
                while not self._ended.acquire(timeout=LOOK_SECONDS):
                    continue  # a signal that came to another thread is seen between two looks
        finally:
            # Does nothing where all have ended; an interrupt comes here while they run.
            self._stop()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
        if self._errors:
            raise self._errors[0]
        return [results[rank] for rank in range(self.count)]

    def wait(self, rank: int, ready: Callable[[], bool]) -> None:
        """Let others run until `ready` holds; to be called by the rank that runs.

        Raises:
            PartitionError: if nobody can go on.
        """
        self.check()
        if ready():
            return
        self._until[rank] = ready
        self._hand_on(rank)
        self._take(rank)

    def check(self) -> None:
        """End the thread that calls this where the run was given up."""
        if self._stopped:
            raise Abandoned

    def _take(self, rank: int) -> None:
        """Wait for the turn of `rank`."""
        self._go[rank].acquire()
        self.check()

    def _hand_on(self, rank: int) -> None:
        """Give the turn to the next rank, from where `rank` is."""
        if self._stopped:
            return
        able = [each for each, ready in self._until.items() if ready()]
        if able:
            following = min(able, key=lambda each: (abs(each - rank), each))
            self._until[following] = _never
            self._go[following].release()
        elif self._until:
            raise PartitionError(
                f"parts {sorted(self._until)} wait for planes that no part sends: they did not "
                "call the same operators; a network must not decide by values of its part"
            )

    def _live(self, rank: int, act: Callable[[int], Result], results: dict[int, Result]) -> None:
        try:
            self._take(rank)
            results[rank] = act(rank)
            del self._until[rank]
            self._hand_on(rank)
        except Abandoned:
            return
        except BaseException as error:  # noqa: BLE001 - raised by `run`
            error.add_note(f"in part {rank} of {self.count}")
            self._errors.append(error)
            self._stop()
        finally:
            self._ended.release()

    def _stop(self) -> None:
        self._stopped = True
        for each in self._go:
            each.release()


def _at_once() -> bool:
    return True


def _never() -> bool:
    return False
