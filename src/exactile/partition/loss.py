"""Which ranks are lost: found by the others after a communication failed.

When a rank dies, its neighbours see a closed connection or a timeout; ranks farther away wait on.
So that all name the one that died first, the one that fails asks through the store of the process
group. Every rank that waits in a communication leaves a word there, by a thread that looks for the
question; those that are silent are lost: ended, or broken off by an error of their own.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch.distributed as dist
from torch._C._distributed_c10d import Store
from torch.distributed.distributed_c10d import _get_default_store

from exactile.partition.refusal import LostRank

GRACE_SECONDS = 4.0
"""How long to wait for words; a rank that computes for longer is taken for lost."""
LOOK_SECONDS = 0.25
"""How often a waiting rank looks for the question."""

_ASKED = "exactile/partition/asked"
_WORD = "exactile/partition/here/{}"


class Witness:
    """Leaves a word for this rank when others ask, while it waits for them."""

    def __init__(self, ranks: Sequence[int], rank: int) -> None:
        self.ranks = tuple(ranks)
        self.name = ranks[rank]
        self.store = _get_default_store()
        self.present = 0
        """How many `waiting` this rank is inside of."""
        # The thread must not keep the witness, whose end is its own.
        thread = threading.Thread(target=_watch, args=(weakref.ref(self),), daemon=True)
        thread.start()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Answer while inside."""
        self.present += 1
        try:
            yield
        finally:
            self.present -= 1

    def look(self) -> bool:
        """Leave a word if it is asked for; return whether it was."""
        if not self.present or not self.store.check([_ASKED]):
            return False
        self.store.set(_WORD.format(self.name), "here")
        return True

    def silent(self, seconds: float) -> list[int]:
        """Ask who is there, and return the ranks that leave no word for so long.

        Raises RuntimeError or DistError if the store is gone.
        """
        self.store.set(_ASKED, "who is here?")
        self.store.set(_WORD.format(self.name), "here")
        deadline = time.monotonic() + seconds
        return [name for name in self.ranks if not _heard(self.store, name, deadline)]

    def error(self, where: str, error: RuntimeError) -> LostRank:
        """Return what to raise after `error`: it names the ranks that leave no word."""
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        try:
            silent = self.silent(GRACE_SECONDS)
        except (RuntimeError, dist.DistError):
            return LostRank(
                f"{where} failed on rank {self.name}, and the store of the process group is gone; "
                f"the rank that kept it (0 under torchrun) is lost ({said})"
            )
        if not silent:
            return LostRank(
                f"{where} failed on rank {self.name} though every rank answers; look at the "
                f"network between them, and start all ranks again ({said})"
            )
        names = ", ".join(map(str, silent))
        return LostRank(
            f"{where} failed on rank {self.name}: rank{'s' * (len(silent) > 1)} {names} lost, "
            f"silent for {GRACE_SECONDS:g} s; look at what ended there, and start all ranks again "
            f"({said})"
        )


def _watch(reference: weakref.ref[Witness]) -> None:
    """Look for the question again and again, as long as there is a witness and a store."""
    while (witness := reference()) is not None:
        try:
            if witness.look():
                return
        except (RuntimeError, dist.DistError):
            return
        del witness
        time.sleep(LOOK_SECONDS)


def _heard(store: Store, name: int, deadline: float) -> bool:
    """Wait until `deadline` for the word of a rank."""
    while not store.check([_WORD.format(name)]):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
