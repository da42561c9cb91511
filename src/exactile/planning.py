"""The plan of one image: that of --tileSize, that of an earlier run, or the best for the memory.

An earlier run that stored zones noted its windows, and they are taken again. Where there is less
memory now, their zones are cut as they are where memory runs out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import prod
from typing import Any

from exactile.choice import Choice, choose_plan, weigh
from exactile.engine import Engine
from exactile.errors import PlanError
from exactile.finishing import label_dtype
from exactile.geometry import Box
from exactile.images import Source
from exactile.job import Job
from exactile.memory.buffers import Buffers
from exactile.memory.cost import PassCost
from exactile.memory.size import format_size
from exactile.shortage import smaller
from exactile.tiling import WRITER_TILE, AxisPlan, Plan, plan, writer_tiles

logger = logging.getLogger(__name__)

SMALL_PIXELS = 2**22
"""An image of so many pixels that fits the memory by the cautious estimate is run as one window,
before anything is measured."""


def plan_image(
    job: Job,
    engine: Engine,
    source: Source,
    channels: int,
    noted: Mapping[str, Any],
    part: Box | None,
) -> Plan:
    """Return the plan for `source` on `engine`; `noted` is what an earlier run noted, or {}.

    Where only a `part` of the output is made, it is the best for that part.

    Raises:
        PlanError: if the image is too small for the network, or no plan fits the memory.
    """
    try:
        if "window" in noted:
            return _as_noted(job, engine, source, channels, noted)
        if job.settings.tile_size != "auto":
            shape = source.shape_of(job.model.dimensions)
            return plan(shape, job.model.locality, job.settings.tile_size)
        choice = _choose(job, engine, source, channels, part)
    except PlanError as error:
        raise PlanError(f"{source.path}: {error}") from error
    logger.info("%s: %s, of %s", source.path.name, choice.sentence(), job.budget.sentence())
    return choice.tiling


def _as_noted(
    job: Job, engine: Engine, source: Source, channels: int, noted: Mapping[str, Any]
) -> Plan:
    """Return the plan that was noted, with smaller zones where the memory asks for them."""
    shape = source.shape_of(job.model.dimensions)
    axes, units = job.model.locality.axes, writer_tiles(len(shape))
    sides = zip(shape, axes, noted["window"], noted["zone"], units, strict=True)
    tiling = Plan(
        shape,
        tuple(
            AxisPlan(axis.pad(side), window, zone, axis.kept_length(side), axis, unit)
            for side, axis, window, zone, unit in sides
        ),
    )
    if job.settings.tile_size == "auto":
        tiling = _within_budget(job, engine, source, channels, tiling)
    logger.info(
        "%s: %d windows of %s px, %s an earlier run had",
        source.path.name,
        tiling.count,
        " x ".join(map(str, tiling.window)),
        "as" if tiling.window == tuple(noted["window"]) else "smaller than",
    )
    return tiling


def _within_budget(job: Job, engine: Engine, source: Source, channels: int, tiling: Plan) -> Plan:
    buffers, verified = _buffers(job, engine, source, channels), job.settings.verify > 0

    def needed(tiling: Plan, cost: PassCost) -> int:
        return weigh(tiling, cost, buffers, verified=verified).memory_bytes

    # What the cautious estimate does not fit, the measured cost may.
    if needed(tiling, job.estimate(engine)) <= job.budget.bytes:
        return tiling
    less: Plan | None = tiling
    while less is not None and needed(less, job.cost(engine)) > job.budget.bytes:
        tiling, less = less, smaller(less)
    if less is None:
        raise PlanError(
            f"{format_size(job.budget.bytes)} of memory are too little for this network: the rest "
            f"of the image needs {format_size(needed(tiling, job.cost(engine)))} at least; give "
            "more by --memory"
        )
    return less


def _choose(job: Job, engine: Engine, source: Source, channels: int, part: Box | None) -> Choice:
    settings, model = job.settings, job.model
    shape = source.shape_of(model.dimensions)
    buffers, verified = _buffers(job, engine, source, channels), settings.verify > 0
    if prod(shape) <= SMALL_PIXELS:
        # What the cautious estimate does not fit, the measured cost may.
        with suppress(PlanError):
            choice = choose_plan(
                shape,
                model.locality,
                job.estimate(engine),
                job.budget.bytes,
                buffers,
                verified=verified,
            )
            if choice.tiling.count == 1:
                return choice
    cost = job.cost(engine)
    return choose_plan(
        shape,
        model.locality,
        cost,
        job.budget.bytes,
        buffers,
        verified=verified,
        part=part,
    )


def _buffers(job: Job, engine: Engine, source: Source, channels: int) -> Callable[..., int]:
    """Return what a run on `source` holds in the memory that the budget is of."""
    if engine.device.type == "cuda":
        return _nothing  # that is the device's memory; what is held is on the host
    classes = len(job.model.classes)
    labels = job.settings.output_type == "labels"
    return Buffers(
        channels=channels,
        outputs=classes,
        written=1 if labels else classes,
        itemsize=label_dtype(classes).itemsize if labels else 4,
        decoded=source.decoded_bytes,
        across=-(-source.shape[1] // WRITER_TILE),
        plane=source.shape,
    )


def _nothing(*_: object) -> int:
    return 0
