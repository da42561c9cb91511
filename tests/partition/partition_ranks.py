"""Processes that wait for work as the ranks of a gloo group: started once, given many cases."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from exactile.partition import LostRank

TIMEOUT_SECONDS = 20


def serve(rank: int, world: int, store: str, seconds: float, pipe: Connection) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(store, world),
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=seconds),
    )
    groups = {world: dist.group.WORLD}
    for size in range(1, world):
        groups[size] = dist.new_group(range(size))
    pipe.send("ready")
    while (work := pipe.recv()) is not None:
        function, size, arguments = work
        try:
            pipe.send((None, function(groups[size], *arguments) if rank < size else None))
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - handed to the test
            error.add_note(traceback.format_exc())
            pipe.send((error, None))
    dist.destroy_process_group()


class Ranks:
    """A number of ranks; each `run` gives the results of all of them."""

    def __init__(self, world: int, folder: Path, seconds: float = TIMEOUT_SECONDS) -> None:
        self.world, self.folder, self.seconds = world, folder, seconds
        self.starts = 0
        self.start()

    def start(self) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["partition_ranks"])
        self.starts += 1
        store = str(self.folder / f"store{self.starts}")
        self.pipes = []
        self.processes = []
        for rank in range(self.world):
            ours, theirs = context.Pipe()
            arguments = (rank, self.world, store, self.seconds, theirs)
            process = context.Process(target=serve, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)
        for pipe in self.pipes:
            assert pipe.recv() == "ready"

    def errors(self, function: Callable[..., Any], size: int, *arguments: Any) -> list[Any]:
        """Run `function(group, ...)` on the first `size` ranks; return errors or results."""
        for pipe in self.pipes:
            pipe.send((function, size, arguments))
        made = []
        for pipe in self.pipes[:size]:
            try:
                error, result = pipe.recv()
            except (EOFError, ConnectionResetError):
                error, result = EOFError("the rank is gone"), None
            made.append(error or result)
        for pipe in self.pipes[size:]:
            pipe.recv()
        return made

    def run(self, function: Callable[..., Any], size: int, *arguments: Any) -> list[Any]:
        """Run `function(group, ...)` on the first `size` ranks and return what each returns."""
        made = self.errors(function, size, *arguments)
        failed = [result for result in made if isinstance(result, Exception)]
        if failed:
            # What the others still wait for would reach the next case.
            self.stop()
            self.start()
            # The rank that broke says more than those that miss it.
            raise min(failed, key=lambda error: isinstance(error, LostRank))
        return made

    def stop(self) -> None:
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            if process.is_alive():
                pipe.send(None)
        for process in self.processes:
            process.join(20)
            if process.is_alive():
                process.kill()


def parts_of(cuts: Sequence[Sequence[int]], place: Sequence[int]) -> tuple[slice, ...]:
    """Return the slices of the part at `place` on the mesh."""
    return tuple(slice(c[i], c[i + 1]) for c, i in zip(cuts, place, strict=True))
