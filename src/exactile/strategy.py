"""Tiles or exchange: how an image is run, and why.

Tiles recompute their halos; parts exchange theirs, and in return their feature maps go to the shelf
and come back. Both give the image's whole pass. What each costs is counted in bytes that operators
read and make, which is what takes the time of most layers:

    tiles       steps x computed pixels for each pixel of the image
    exchange    steps x COPIES, and where there are several parts, steps x SHELVED x DISK more,
                for each pixel of the image padded to F

where `steps` are those of one pass over the image. No clock decides: the same image, network and
memory have the same strategy.
"""

from __future__ import annotations

import logging
from math import prod

from exactile.errors import ModelError, PlanError
from exactile.exchangeable import objection
from exactile.geometry import PLANES, ceil_to
from exactile.job import Job
from exactile.partition.outofcore import Parts, choose_parts
from exactile.tiling import AxisPlan, Plan

logger = logging.getLogger(__name__)

COPIES = 1.25
"""What exchange copies into parts with halos, beside what the operators do."""

SHELVED = 0.5
"""Share of what operators read and make that goes to the shelf or comes back from it. Measured with
3-D U-Nets: 0.2 to 0.4 (docs/results/out_of_core.md)."""

DISK = 4.0
"""A byte to or from the shelf costs as much as so many that an operator reads."""


def whole_plan(job: Job, shape: tuple[int, ...]) -> Plan:
    """Return the plan of one window, which is the whole padded image."""
    axes = []
    for side, axis in zip(shape, job.model.locality.axes, strict=True):
        extent, kept = axis.pad(side), axis.kept_length(side)
        axes.append(AxisPlan(extent, extent, ceil_to(kept, axis.step), kept, axis))
    return Plan(shape, tuple(axes))


def parts_of(job: Job, extent: tuple[int, ...], budget: int) -> Parts:
    """Return the parts in which an image of the padded `extent` is run in `budget` bytes.

    Raises:
        PlanError: if no parts are small enough.
    """
    step, _ = job.steps(extent)
    return choose_parts(extent, job.model.locality.alignment, step, budget)


def required(job: Job) -> str:
    """Return why all images are run by exchange; empty where that is to be chosen."""
    if job.model.refused is not None:
        return "the network has no locality"
    return "--strategy exchange" if job.settings.strategy == "exchange" else ""


def preferred(job: Job, shape: tuple[int, ...], tiling: Plan | None, budget: int) -> str:
    """Return why an image of `shape` is better run by exchange than by `tiling`; empty if not.

    There may be no plan for tiles in the memory. Where the user asks for tiles, a tile size or an
    engine, tiles are not left.
    """
    settings = job.settings
    if settings.strategy != "auto" or settings.tile_size != "auto" or job.eager is None:
        return ""
    # One window is the whole pass. Planes stay in tiles, as in shards, which give the same bytes.
    if tiling is not None and (tiling.count == 1 or job.model.dimensions == PLANES):
        return ""
    try:
        parts = parts_of(job, job.model.locality.pad(shape), budget)
    except (PlanError, ModelError) as error:
        logger.debug("no exchange: %s", error)
        return ""
    cost = COPIES + (SHELVED * DISK if parts.count > 1 else 0.0)
    cost *= prod(job.model.locality.pad(shape)) / prod(shape)
    if (tiling is not None and tiling.computed_ratio <= cost) or not _can_exchange(job):
        return ""
    if tiling is None:
        return "tiles with their halos do not fit the memory"
    return (
        f"tiles would compute {tiling.computed_ratio:.2f} pixels for each pixel, and "
        f"exchange in {parts.describe()} costs as much as {cost:.2f}"
    )


def _can_exchange(job: Job) -> bool:
    if job.cannot_exchange is None:
        job.cannot_exchange = objection(job.model)
    return not job.cannot_exchange
