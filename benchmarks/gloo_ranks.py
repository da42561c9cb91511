"""Ranks for the benchmarks: processes of their own in a gloo group."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


def on_ranks(
    count: int, act: Callable[..., T], *arguments: Any, threads: int | None = None
) -> list[T]:
    """Return what `act(*arguments)` gives on each of `count` ranks, in their order.

    All are new processes, copies of one that has imported the benchmark and done nothing else, with
    so many `threads`; else they share the cores, and have one at least.
    """
    threads = threads or max(1, len(os.sched_getaffinity(0)) // count)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__"])
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(count, mp_context=context) as pool,
    ):
        store = str(Path(folder) / "store")
        # Each waits for all others to begin, so no process takes two.
        waiting = [
            pool.submit(_rank, rank, count, threads, store, act, arguments) for rank in range(count)
        ]
        return [each.result() for each in waiting]


def _rank(
    rank: int,
    count: int,
    threads: int,
    store: str,
    act: Callable[..., T],
    arguments: tuple[Any, ...],
) -> T:
    # On one machine the ranks talk over the loopback, whatever its host's name stands for.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(threads)
    dist.init_process_group("gloo", store=dist.FileStore(store, count), rank=rank, world_size=count)
    try:
        return act(*arguments)
    finally:
        dist.destroy_process_group()
