"""Whether what a run with another number of threads has stored is what this run would store.

A library may split its sums over threads, so that bits may depend on their number. Where an earlier
run of an image differs from this one in nothing else, it is tried: noise goes through each of the
windows that were used, once with as many threads as then and once with those of now. If all bits of
what would be written are equal, the image goes on as that run began it; if not, it is made anew.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter

from exactile.devices import MOST_THREADS
from exactile.engine import Engine
from exactile.forward import ForwardPass
from exactile.geometry import Box
from exactile.identity import THREADS
from exactile.job import Job
from exactile.memory.cost import Releasing
from exactile.stored_json import MalformedError, checked

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Plan:
    engine: str
    window: tuple[int, ...]
    strategy: str = "tile"


_PLAN = TypeAdapter(_Plan)
_WINDOWS = TypeAdapter(tuple[tuple[int, ...], ...])


@dataclass(frozen=True)
class ThreadCheck:
    """Compares numbers of threads for one run; what was found is kept for its images."""

    job: Job
    identity: Mapping[str, Any]
    """What the bits of the image's result depend on, in this run."""

    def __call__(self, earlier: Mapping[str, Any], plan: Any, before: Any) -> bool:
        """Return whether a run of the facts `earlier` made the bits that this one would make.

        `plan` and `before` are what it put down of its plan, and of the windows until then.
        """
        threads = str(earlier.get(THREADS, ""))
        if {**self.identity, THREADS: threads} != earlier or not threads.isdecimal():
            return False
        if not 1 <= int(threads) <= MOST_THREADS:
            return False
        try:
            noted, windows = checked(_PLAN, plan), checked(_WINDOWS, before)
        except MalformedError:
            return False
        engine = next((each for each in self.job.engines if each.name == noted.engine), None)
        if engine is None or noted.strategy != "tile":
            return False
        return all(
            self._is_equal(engine, window, int(threads)) for window in (noted.window, *windows)
        )

    def _is_equal(self, engine: Engine, window: tuple[int, ...], threads: int) -> bool:
        known = self.job.threads_checked
        key = (engine.name, window, threads)
        if key not in known:
            try:
                known[key] = self._compare(engine, window, threads)
            except (RuntimeError, ValueError, MemoryError) as error:
                logger.debug("%s in a window of %s: %s", engine.name, window, error)
                known[key] = False
            logger.info(
                "%d and %d threads give %s bits in windows of %s px: what is stored is %s",
                threads,
                torch.get_num_threads(),
                "the same" if known[key] else "other",
                " x ".join(map(str, window)),
                "gone on with" if known[key] else "made again",
            )
        return known[key]

    def _compare(self, engine: Engine, window: tuple[int, ...], threads: int) -> bool:
        model = self.job.model
        run = ForwardPass(engine, self.job.settings.output_type, model.finishing)
        noise = np.random.default_rng(0).standard_normal((model.channels, *window), np.float32)
        kept = Box.of_shape(
            tuple(
                axis.output_length(side)
                for axis, side in zip(model.locality.axes, window, strict=True)
            )
        )

        def result() -> NDArray[Any]:
            return np.array(run(noise.copy(), kept))

        with _threads(engine, threads):
            then = result()
        return np.array_equal(then, result())


@contextmanager
def _threads(engine: Engine, threads: int) -> Iterator[None]:
    """Run with another number of threads inside; what an engine holds ready is made for one."""
    now = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        _release(engine)
        yield
    finally:
        torch.set_num_threads(now)
        _release(engine)


def _release(engine: Engine) -> None:
    if isinstance(engine, Releasing):
        engine.release()
