"""Which ranks are lost: found by the others after a communication failed.

When a rank dies, its neighbours see a closed connection or a timeout; they end, and their own
neighbours see theirs closed, and so on. So that all name the one that died first, each survivor
leaves a word in the store of the process group, waits a while for the words of the others, and
names those that are silent.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch.distributed as dist
from torch._C._distributed_c10d import Store
from torch.distributed.distributed_c10d import _get_default_store

from exactile.partition.refusal import LostRank

GRACE_SECONDS = 5.0
"""How long survivors wait for each other's word; a rank that computes on is taken for lost."""

_KEY = "exactile/partition/survivor/{}"


def lost(
    ranks: Sequence[int],
    rank: int,
    where: str,
    error: RuntimeError,
) -> LostRank:
    """Return the error to raise after `error`: it names the ranks that leave no word.

    `ranks` are the global names of the group's ranks, `rank` is this one's place among them.
    """
    try:
        store = _get_default_store()
        store.set(_KEY.format(ranks[rank]), "here")
        silent = [name for name in ranks if not _heard(store, name)]
    except (RuntimeError, dist.DistError):
        return LostRank(
            f"{where} failed on rank {ranks[rank]}, and the store of the process group is gone; "
            f"the rank that kept it (0 under torchrun) is lost: {_first_line(error)}"
        )
    names = ", ".join(map(str, silent)) or "none is known to be"
    word = "ranks" if len(silent) > 1 else "rank"
    return LostRank(
        f"{where} failed on rank {ranks[rank]}: {word} {names} lost, without a word for "
        f"{GRACE_SECONDS:g} s; look at what ended there, and start all ranks again "
        f"({_first_line(error)})"
    )


def _heard(store: Store, name: int) -> bool:
    """Wait for the word of a rank."""
    deadline = time.monotonic() + GRACE_SECONDS
    while not store.check([_KEY.format(name)]):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _first_line(error: RuntimeError) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
