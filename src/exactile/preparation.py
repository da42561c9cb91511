"""How an image is run: on which engine, in which windows, and what the check found for them.

The plan is that of `exactile.planning`. Where the engine is left to choose and the first one is not
bit-stable in its windows, the next one is tried. Where memory runs out, in the check or later, the
windows shrink.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from exactile.bit_stability import BitStability
from exactile.engine import Engine
from exactile.errors import ModelError, PlanError
from exactile.geometry import Box
from exactile.images import Source
from exactile.job import Job
from exactile.memory.cost import Releasing
from exactile.models.extent import check_extent
from exactile.partition.outofcore import Parts
from exactile.pipeline import network_failed
from exactile.planning import plan_image
from exactile.shortage import is_shortage, smaller
from exactile.strategy import parts_of, preferred, required, whole_plan
from exactile.tiling import Plan, require_output

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preparation:
    """How an image is run."""

    engine: Engine
    tiling: Plan
    stability: BitStability
    """What the check found for these windows on this engine."""
    parts: Parts | None = None
    """How it is cut where it is run by exchange; the one window is the whole then."""
    why: str = ""
    """Why it is run by exchange."""

    def note(self) -> dict[str, Any]:
        """Return what a later run needs to know to go on in the same way."""
        tiling = self.tiling
        strategy = "tile" if self.parts is None else "exchange"
        return {
            "engine": self.engine.name,
            "window": tiling.window,
            "zone": tiling.zone,
            "strategy": strategy,
        }


def prepare(
    job: Job,
    source: Source,
    channels: int,
    noted: Mapping[str, Any],
    part: Box | None = None,
) -> Preparation:
    """Return how the image of `source` is run; `noted` is what an earlier run of it noted, or {}.

    Windows for a `part` of the output may be others than for the whole: the bits are the same where
    both are bit-stable. Where they are not, the part is run in the windows of the whole.

    Raises:
        PlanError: if the image is too small for the network, or no plan fits the memory.
        ModelError: if the network treats an image of this size otherwise than a window.
        NetworkError: if the network cannot be run in any windows.
    """
    budget = exchange_budget(job, source)
    why = required(job)
    if not why and noted.get("strategy") == "exchange":
        why = "an earlier run did"
    if why:
        return by_exchange(job, source, why, budget)
    shape = source.shape_of(job.model.dimensions)
    prepared: list[Preparation] = []
    for engine in job.engines:
        if engine.name != noted.get("engine", engine.name):
            continue
        tiling, free = None, not noted and part is None
        try:
            tiling = plan_image(job, engine, source, channels, noted, part)
        except PlanError:
            if not (free and preferred(job, shape, None, budget)):
                raise
        if free and (why := preferred(job, shape, tiling, budget)):
            return by_exchange(job, source, why, budget)
        assert tiling is not None
        prepared.append(checked(job, engine, tiling, source.path))
        if prepared[-1].stability.agrees:
            break
        logger.warning("%s: %s", engine.describe(), prepared[-1].stability.sentence())
    best = prepared[-1] if prepared[-1].stability.agrees else prepared[0]
    if part is not None and not noted and not best.stability.equal:
        return prepare(job, source, channels, noted)
    if best.stability.agrees:
        logger.info("%s: %s", best.engine.describe(), best.stability.sentence())
    return best


def exchange_budget(job: Job, source: Source) -> int:
    """Return how many bytes feature maps may take; decoded chunks of `source` are on the host."""
    device = job.engines[0].device
    held = source.decoded_bytes if device.type == "cpu" else 0
    return max(job.budget.bytes - held, job.budget.bytes // 2)


def by_exchange(job: Job, source: Source, why: str, budget: int) -> Preparation:
    """Return how the image is run by exchange.

    Raises:
        PlanError: if the image is too small for the network, or the memory for any parts.
        ModelError: if the network cannot be run on an image of this size.
    """
    try:
        shape = source.shape_of(job.model.dimensions)
        require_output(shape, job.model.locality)
        tiling = whole_plan(job, shape)
        if job.model.refused is not None:
            check_extent(job.model, tiling.extent)
        parts = parts_of(job, tiling.extent, budget)
    except (PlanError, ModelError) as error:
        raise type(error)(f"{source.path}: {error}") from error
    logger.info(
        "%s: by exchange, for %s: %s, of %s",
        source.path.name,
        why,
        parts.describe(),
        job.budget.sentence(),
    )
    engine = job.engines[-1]
    whole = BitStability(True, 0, 0, 0.0, 0, tiling.window, tiling.window)
    return Preparation(engine, tiling, whole, parts, why)


def checked(job: Job, engine: Engine, tiling: Plan, path: Path) -> Preparation:
    """Return the preparation for `tiling`, checked, or for smaller windows if memory is short.

    Raises:
        ModelError: if the network treats an image of this size otherwise than a window.
        NetworkError: if the network cannot be run in any windows.
    """
    while True:
        try:
            return Preparation(engine, tiling, job.bit_stability(engine, tiling, path))
        except (RuntimeError, MemoryError) as error:
            if not is_shortage(error):
                raise network_failed(path, "the check of bit-stability", tiling, error) from error
            reason = str(error)
        tiling = _smaller(engine, tiling, path, reason)


def shrunk(job: Job, before: Preparation, path: Path, reason: str) -> Preparation:
    """Return how to go on after memory ran out, which `reason` says in the library's words.

    Raises:
        NetworkError: if there are no smaller windows.
    """
    return checked(job, before.engine, _smaller(before.engine, before.tiling, path, reason), path)


def _smaller(engine: Engine, tiling: Plan, path: Path, reason: str) -> Plan:
    less = smaller(tiling)
    if less is None:
        raise network_failed(path, "every zone", tiling, MemoryError(reason))
    # OpenVINO says where first, and what last.
    said = (reason.strip().splitlines() or ["no reason given"])[-1]
    logger.warning(
        "%s: memory ran out with windows of %s (%s); going on with %s",
        path.name,
        " x ".join(map(str, tiling.window)),
        said,
        " x ".join(map(str, less.window)),
    )
    # What the failed pass had made may hang on a cycle.
    gc.collect()
    if isinstance(engine, Releasing):
        engine.release()
    if engine.device.type == "cuda":
        torch.cuda.empty_cache()
    return less
