"""What a journal has noted of an image's run, and whether a later run can go on with it.

    plan        engine, window, zone and strategy of the windows at hand
    before      larger windows that were used until then, and the weakest finding of the check
    t=0 z=0     the fitted steps of the normalisation of that plane, and so on

A note is taken for what it is only where it has the very kinds that were written, and where the
plan is one that the image and the network can have: what no run has noted, none goes on with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter

from exactile.bit_stability import BitStability
from exactile.certificate import StepRecord
from exactile.geometry import AxisLocality
from exactile.images.journal import Journal
from exactile.job import Job
from exactile.stored_json import MalformedError, checked

UNKNOWN = "it notes a plan that this image and this network cannot have"


@dataclass(frozen=True)
class _Plan:
    engine: str
    window: tuple[int, ...]
    zone: tuple[int, ...]
    strategy: Literal["tile", "exchange"]


@dataclass(frozen=True)
class Before:
    """What is noted of the windows until then."""

    windows: tuple[tuple[int, ...], ...]
    stability: BitStability


_PLAN, _BEFORE = TypeAdapter(_Plan), TypeAdapter(Before)
_STEPS = TypeAdapter(tuple[StepRecord, ...])


def noted_plan(
    journal: Journal, job: Job, shape: Sequence[int]
) -> tuple[Mapping[str, Any], Before | None]:
    """Return the plan that an earlier run noted for an image of `shape`, and what was before.

    They are empty where it stored nothing that was made by them. Where they are not what a run has
    noted, the journal begins anew.

    Raises:
        ResumeError: if that must not be.
    """
    if not journal.holds_tiles:
        return {}, None
    try:
        plan = checked(_PLAN, journal.recorded.get("plan"))
        before = checked(_BEFORE, journal.recorded.get("before"))
    except MalformedError:
        journal.begin_anew(UNKNOWN)
        return {}, None
    if not _is_possible(plan, job, shape):
        journal.begin_anew(UNKNOWN)
        return {}, None
    return journal.recorded["plan"], before


def noted_steps(journal: Journal, name: str) -> tuple[StepRecord, ...] | None:
    """Return the steps that are noted for a plane or a volume; None where there are none."""
    try:
        return checked(_STEPS, journal.recorded.get(name))
    except MalformedError:
        return None


def _is_possible(plan: _Plan, job: Job, shape: Sequence[int]) -> bool:
    axes = job.model.locality.axes
    sides = (shape, axes, plan.window, plan.zone)
    if len({len(each) for each in sides}) > 1 or plan.engine not in {e.name for e in job.engines}:
        return False
    if plan.strategy == "exchange":
        return True
    return all(_fits(*each) for each in zip(*sides, strict=True))


def _fits(side: int, axis: AxisLocality, window: int, zone: int) -> bool:
    extent = axis.pad(side)
    if zone < 1 or zone % axis.step or window % axis.alignment or not 0 < window <= extent:
        return False
    needed = zone // axis.step * axis.alignment + axis.halo.total
    return window == extent or window >= max(needed, axis.least)
