"""The processes that torchrun started, and how they do things together.

What is promised:

- An action that fails on one rank fails on all of them, with the message and the rank's name; none
  waits for another that will not come.
- However long an action takes, no timeout strikes: while some are busy, all tell each other so.
- A rank that ends without a word is named by the others, also where torchrun ends these for it.

Not launched by torchrun, there is one rank.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

from exactile.errors import ExactileError, SettingsError
from exactile.partition import Mesh, PartitionError

Result = TypeVar("Result")

WORDS_SECONDS = 2.0
"""How long ranks that are being ended wait for the others' words; they have 4 s in all."""

LONGEST_PAUSE = 1.0
"""Seconds until all tell each other again that they are busy."""

_SAID = "exactile/distributed/lost"
"""Under this name the group's store has what was found of lost ranks, for those that ask later."""


class RankError(ExactileError):
    """An action failed on some rank, so that none can go on with it; all ranks raise the same."""

    def __init__(self, message: str, code: int) -> None:
        self.code = code
        """The exit code that it asks for: 2 for wrong options, else 1."""
        super().__init__(message)


class Team:
    """All ranks of the process group."""

    def __init__(self) -> None:
        self.line = Mesh((dist.get_world_size(),))
        self._meshes = {self.line.shape: self.line}

    @property
    def rank(self) -> int:
        """Number of this process among all, from 0."""
        return self.line.rank

    @property
    def size(self) -> int:
        """Number of ranks."""
        return len(self.line.ranks)

    def mesh(self, shape: tuple[int, ...]) -> Mesh:
        """Return all ranks as a grid of `shape`; all have to ask for the same ones in turn."""
        if shape not in self._meshes:
            self._meshes[shape] = Mesh(shape)
        return self._meshes[shape]

    def share(self, value: object) -> list[object]:
        """Return what each rank gives, in the order of ranks: values of kinds that JSON has."""
        data = json.dumps(value).encode()
        lengths = [length for (length,) in self.line.all_gather([len(data)])]
        own = torch.zeros(max(lengths), dtype=torch.uint8)
        own[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        made = [torch.empty_like(own) for _ in lengths]
        self.line.waited("a message", lambda: dist.all_gather(made, own, group=self.line.group))
        texts = (m[:length].numpy().tobytes() for m, length in zip(made, lengths, strict=True))
        return [json.loads(text) for text in texts]

    def together(self, action: Callable[[], Result]) -> Result:
        """Do `action` on every rank, until all are done, and return what it returns here.

        It runs in a thread, and must not communicate.

        Raises:
            RankError: if it raised ExactileError, OSError or MemoryError on any rank.
            LostRank: if another rank has ended.
        """
        pool = ThreadPoolExecutor(1, thread_name_prefix="action")
        future = pool.submit(action)
        pool.shutdown(wait=False)
        pause = 0.01
        while True:
            wait([future], pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            error = future.exception() if future.done() else None
            told: list[Any] = self.share([future.done(), None if error is None else _said(error)])
            if all(done for done, _ in told):
                break
        if error is not None and not isinstance(error, (ExactileError, OSError, MemoryError)):
            raise error
        self._raise_what_is([said for _, said in told])
        return future.result()

    def agree(self, error: ExactileError | None) -> None:
        """Go on if no rank has an `error`.

        Raises:
            RankError: if any has.
            LostRank: if another rank has ended.
        """
        told: list[Any] = self.share(None if error is None else _said(error))
        self._raise_what_is(told)

    def _raise_what_is(self, said: list[Any]) -> None:
        failed = {rank: each for rank, each in enumerate(said) if each is not None}
        if not failed:
            return
        texts = {text for text, _ in failed.values()}
        if len(failed) == self.size and len(texts) == 1:
            message = texts.pop()
        else:
            message = "; ".join(f"rank {rank}: {text}" for rank, (text, _) in failed.items())
        raise RankError(message, max(code for _, code in failed.values()))

    def give_up(self, error: ExactileError) -> None:
        """Leave a word for the others, who wait for this rank in the middle of an exchange."""
        with suppress(RuntimeError, dist.DistError):
            self.line.store.set(_SAID, f"rank {self.rank} gave up ({error})")

    def who_is_lost(self) -> str:
        """Say which ranks have ended, in words; empty if none has.

        For a rank that is being ended by a signal: torchrun sends it to all when one has failed.
        """
        store = self.line.store
        try:
            if store.check([_SAID]):
                return str(store.get(_SAID).decode())
            silent = self.line.silent(WORDS_SECONDS)
            if not silent:
                return ""
            names = ", ".join(map(str, silent))
            said = f"rank{'s' * (len(silent) > 1)} {names} lost: look at what ended there"
            store.set(_SAID, said)
        except (RuntimeError, dist.DistError):
            return "the rank that kept the store of the process group is lost"
        return said


def _said(error: BaseException) -> tuple[str, int]:
    """Return the message of an error, and its exit code."""
    if isinstance(error, MemoryError):
        return f"memory ran out ({error}); use more ranks", 1
    notes = getattr(error, "__notes__", ())
    text = "; ".join([str(error) or type(error).__name__, *notes])
    return text, 2 if isinstance(error, SettingsError) else 1


@contextmanager
def assembled(seconds: int) -> Iterator[Team]:
    """Meet the other ranks, and leave them at the end; `seconds` is how long to wait for one.

    CPUs exchange by gloo, GPUs by NCCL; what is said in words goes by gloo.

    Raises:
        SettingsError: if the environment is not that of torchrun.
        PartitionError: if the others are not met.
    """
    has_gpu = torch.cuda.is_available() and dist.is_nccl_available()
    backend = "cpu:gloo,cuda:nccl" if has_gpu else "gloo"
    timeout = timedelta(seconds=seconds)
    try:
        if launched_rank() is None:
            store = HashStore()
            dist.init_process_group(backend, store=store, rank=0, world_size=1, timeout=timeout)
        else:
            dist.init_process_group(backend, timeout=timeout)
        team = Team()
    except (RuntimeError, ValueError, dist.DistError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise PartitionError(
            f"the ranks did not meet at {os.environ.get('MASTER_ADDR', 'no address')}: {said}; "
            "start all of them with torchrun, with the same rendezvous and number of nodes"
        ) from error
    with team.line.present():
        yield team
    dist.destroy_process_group()


def launched_rank() -> int | None:
    """Return the rank that torchrun gave this process; None if it started none.

    Raises:
        SettingsError: if the environment says it by halves.
    """
    names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    given = {name: os.environ.get(name, "").strip() for name in names}
    if not given["RANK"]:
        return None
    missing = [name for name, value in given.items() if not value]
    if missing or not given["RANK"].isdecimal() or not given["WORLD_SIZE"].isdecimal():
        raise SettingsError(
            f"RANK={given['RANK']} WORLD_SIZE={given['WORLD_SIZE']}: is not the environment that "
            f"torchrun gives{': ' + ', '.join(missing) + ' is missing' if missing else ''}; start "
            "with torchrun, or unset them for a single process"
        )
    return int(given["RANK"])


def threads_of_rank() -> str:
    """Return how many threads a rank takes: its part of the cores of this machine."""
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "").strip()
    cores = len(os.sched_getaffinity(0))
    return str(max(1, cores // max(1, int(ranks)) if ranks.isdecimal() else cores))
