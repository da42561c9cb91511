"""How an image is run: on which engine, in which windows, and what the check found for them.

The plan is chosen for the memory that there is (`exactile.choice`), unless --tileSize gives the
windows, or an earlier run of this image noted its own. Where the engine is left to choose and the
first one is not bit-stable in its windows, the next one is tried. Where memory runs out, in the
check or later, the windows shrink.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from exactile.bit_stability import BitStability
from exactile.choice import Choice, choose_plan
from exactile.engine import Engine
from exactile.errors import PlanError
from exactile.finishing import label_dtype
from exactile.images import Source
from exactile.job import Job
from exactile.memory.buffers import Buffers
from exactile.memory.cost import Releasing, estimate_cost
from exactile.pipeline import network_failed
from exactile.shortage import is_shortage, smaller
from exactile.tiling import AxisPlan, Plan, plan

logger = logging.getLogger(__name__)

SMALL_PIXELS = 2**22
"""An image of so many pixels that fits the memory by the cautious estimate is run as one window,
before anything is measured."""


@dataclass(frozen=True)
class Preparation:
    """How an image is run."""

    engine: Engine
    tiling: Plan
    stability: BitStability
    """What the check found for these windows on this engine."""

    def note(self) -> dict[str, Any]:
        """Return what a later run needs to know to go on in the same way."""
        tiling = self.tiling
        return {"engine": self.engine.name, "window": tiling.window, "zone": tiling.zone}


def prepare(job: Job, source: Source, channels: int, noted: Mapping[str, Any]) -> Preparation:
    """Return how the image of `source` is run; `noted` is what an earlier run of it noted, or {}.

    Raises:
        PlanError: if the image is too small for the network, or no plan fits the memory.
        ModelError: if the network treats an image of this size otherwise than a window.
        NetworkError: if the network cannot be run in any windows.
    """
    prepared: list[Preparation] = []
    for engine in job.engines:
        if engine.name != noted.get("engine", engine.name):
            continue
        tiling = _plan(job, engine, source, channels, noted)
        prepared.append(checked(job, engine, tiling, source.path))
        if prepared[-1].stability.equal:
            break
        logger.warning("%s: %s", engine.describe(), prepared[-1].stability.sentence())
    best = prepared[-1] if prepared[-1].stability.equal else prepared[0]
    if best.stability.equal:
        logger.info("%s: %s", best.engine.describe(), best.stability.sentence())
    return best


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
    if isinstance(engine, Releasing):
        engine.release()
    if engine.device.type == "cuda":
        torch.cuda.empty_cache()
    return less


def _plan(
    job: Job, engine: Engine, source: Source, channels: int, noted: Mapping[str, Any]
) -> Plan:
    """Return the plan: the one noted, that of --tileSize, or the best for the memory there is."""
    locality, tile = job.model.locality, job.settings.tile_size
    if "window" in noted:
        sides = zip(source.shape, locality.axes, noted["window"], noted["zone"], strict=True)
        return Plan(
            source.shape,
            tuple(
                AxisPlan(axis.pad(side), window, zone, axis.kept_length(side), axis)
                for side, axis, window, zone in sides
            ),
        )
    if tile != "auto":
        return plan(source.shape, locality, tile)
    choice = _choose(job, engine, source, channels)
    logger.info("%s: %s, of %s", source.path.name, choice.sentence(), job.budget.sentence())
    return choice.tiling


def _choose(job: Job, engine: Engine, source: Source, channels: int) -> Choice:
    settings, model = job.settings, job.model
    classes = len(model.classes)
    labels = settings.output_type == "labels"
    buffers: Callable[..., int] = Buffers(
        channels=channels,
        outputs=classes,
        written=1 if labels else classes,
        itemsize=label_dtype(classes).itemsize if labels else 4,
        cache_bytes=source.decoded_bytes,
    )
    if engine.device.type == "cuda":
        # The budget is the device's there, and the buffers are on the host.
        buffers = _nothing
    verified = settings.verify > 0
    estimate = estimate_cost(engine.network, model.locality, channels)
    if source.shape[0] * source.shape[1] <= SMALL_PIXELS:
        # What the cautious estimate does not fit, the measured cost may.
        with suppress(PlanError):
            choice = choose_plan(
                source.shape, model.locality, estimate, job.budget.bytes, buffers, verified=verified
            )
            if choice.tiling.count == 1:
                return choice
    cost = job.cost(engine)
    return choose_plan(
        source.shape, model.locality, cost, job.budget.bytes, buffers, verified=verified
    )


def _nothing(*_: object) -> int:
    return 0
