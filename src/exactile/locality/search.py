"""The search for extents at which a network shows its period and its halo.

For each axis the network is traced at growing extents until the middle of the output shows a
period that the borders do not disturb. A second, larger extent must then show the same borders
around a longer middle, and the smallest window that a plan may use is traced as well where the
network takes it. What keeps growing with the extent has no halo: the operator whose reach grew
first is named.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import lcm

import numpy as np
from torch import nn

from exactile.errors import ModelError
from exactile.geometry import ceil_to
from exactile.locality.pattern import Pattern, Profile, consistent, find, measure_period
from exactile.locality.reach import fold
from exactile.locality.refusal import NotLocal, Refusal
from exactile.locality.run import BATCH, BATCH_AXIS, Failed, Outputs, Run
from exactile.locality.tracer import trace
from exactile.locality.verdict import check_output, refuse, unbounded

TRIAL_EXTENTS = (64, 96, 144, 160, 224, 128, 48, 80, 112, 120, 192, 240, 256, 320, 384, 512, 32)
"""Extents on which a network is tried first: multiples of the alignments that are in use."""

RETRIED = (64, 96, 144, 160)
"""Extents after which the next is tried if sizes there have ratios that the strides leave uneven:
the next ones divide by 3, 9, 5 and 7."""

ODD_MULTIPLES = (1, 9, 35)
"""Multiples of the first extent from which the search along an axis starts."""

GROWTH = 4
"""Factor from one extent to the next."""

LARGEST_EXTENT = 1 << 15
"""A halo that is not bounded at this extent counts as unbounded."""

MAX_ROUNDS = 24
"""Runs for one axis before the search ends, however the extents behave."""


RunAt = Callable[[int, "Run | None"], "Run | Refusal"]
"""Traces at an extent of one axis, after an earlier run; a refusal is the network's own error."""


@dataclass(frozen=True, slots=True)
class AxisFindings:
    """What was found along one axis."""

    pattern: Pattern
    extent: int
    run: Run


def attempt(
    module: nn.Module, channels: int, extent: tuple[int, ...], axis: int, earlier: Run | None = None
) -> Run | Refusal:
    """Trace once; return what the network says, and where, if it cannot run at this extent."""
    try:
        return trace(module, channels, extent, axis, earlier)
    except Failed as failed:
        return failed.refusal
    except Outputs as outputs:
        raise ModelError(
            f"the network returns {outputs.count} tensors, but exactly one is segmented; wrap it "
            "so that it returns the one you want"
        ) from None


def working_extent(module: nn.Module, channels: int, spatial_dims: int) -> int:
    """Return the first trial extent at which the network runs and that its double does, too.

    Raises `NotLocal` for what is refused there, `ModelError` where no extent works.
    """
    said: dict[int, Refusal] = {}
    alone: list[Refusal] = []
    refused: Run | None = None
    for extent in TRIAL_EXTENTS:
        run = attempt(module, channels, (extent,) * spatial_dims, 0)
        if isinstance(run, Refusal):
            said[extent] = run
            continue
        twice = tuple(2 * extent if axis == 0 else extent for axis in range(spatial_dims))
        grown = attempt(module, channels, twice, 0, run)
        if isinstance(grown, Run):
            if grown.refusals and grown.uneven and extent in RETRIED:
                refused = refused or grown
                continue
            refuse(grown)
            refuse(run)
            check_output(run, spatial_dims)
            return extent
        only = only_at(extent, grown)
        if run.refusals:
            same = any((r.operator, r.module) == (only.operator, only.module) for r in run.refusals)
            raise NotLocal(run.refusals if same else (only, *run.refusals))
        alone.append(only)
    if refused is not None:
        refuse(refused)
    if alone:
        raise NotLocal((alone[0],))
    first, failure = next(iter(said.items()))
    raise ModelError(
        f"the network does not run on {channels} channel(s) in {spatial_dims} dimensions at any "
        f"extent tried ({', '.join(map(str, sorted(said)))}); at {first} it says: {failure}"
    )


def only_at(extent: int, failure: Refusal) -> Refusal:
    """Refuse a network that runs at `extent` and fails at twice that."""
    reason = (
        f"the network runs at extent {extent} but not at {2 * extent} ({failure.reason}); "
        "give it layers that take any size"
    )
    return Refusal(failure.operator, failure.module, reason)


def profile_of(run: Run) -> Profile | None:
    """Return the output's reach along the run's axis, all other dimensions joined."""
    if run.reach is None:
        return None
    dim = 2 + run.axis
    folded = fold(run.reach, [d for d in range(run.reach.low.ndim) if d != dim])
    if not folded.tracked(dim):
        return None
    return Profile(
        run.extent[run.axis], folded.low.ravel(), folded.high.ravel(), folded.mark.ravel()
    )


def along_axis(
    module: nn.Module, channels: int, spatial_dims: int, axis: int, base: int
) -> AxisFindings:
    """Find period and halo along one axis, the other axes at the extent `base`.

    Where sizes along the way have uneven ratios, the search starts again at a multiple of `base`
    that divides by other odd numbers. Raises `NotLocal` where none shows a pattern.
    """

    def run_at(side: int, earlier: Run | None) -> Run | Refusal:
        extent = tuple(side if other == axis else base for other in range(spatial_dims))
        return attempt(module, channels, extent, axis, earlier)

    refusals: list[Refusal] = []
    for multiple in ODD_MULTIPLES:
        found = grow(run_at, base * multiple)
        if isinstance(found, AxisFindings):
            return found
        refusals.append(found)
    raise NotLocal((refusals[0],))


def grow(run_at: RunAt, base: int) -> AxisFindings | Refusal:
    """Trace at growing multiples of `base` until the pattern is found, or return what prevents it.

    Raises `NotLocal` for what no other extent can mend.
    """
    unit, side = base, base
    previous: Run | None = None
    runs: list[Run] = []
    diverged: Refusal | None = None
    for _ in range(MAX_ROUNDS):
        if side > LARGEST_EXTENT:
            break
        run = run_at(side, previous)
        if isinstance(run, Refusal):
            side += unit
            continue
        if run.diverged is not None:
            # Smaller extents took another path; what counts is that larger ones agree.
            previous, diverged = None, run.diverged
            continue
        if run.refusals and run.uneven:
            if previous is None:
                return run.refusals[0]
            # The smaller extent may be at fault: compare with it no more.
            previous, diverged = None, run.refusals[0]
            continue
        refuse(run)
        runs.append(run)
        previous = run
        profile = profile_of(run)
        pattern = find(profile) if profile is not None else None
        if profile is None or pattern is None:
            side *= GROWTH
            continue
        unit = lcm(unit, pattern.alignment)
        if side % unit:
            side = ceil_to(side, unit)
            continue
        confirmed = confirm(profile, pattern, unit, run_at)
        if confirmed is not None:
            least = smallest_window(profile, confirmed, unit, run_at)
            return AxisFindings(confirmed, least, run)
        side *= GROWTH
    if diverged is not None:
        return diverged
    raise NotLocal((unbounded(runs),))


def confirm(profile: Profile, pattern: Pattern, unit: int, run_at: RunAt) -> Pattern | None:
    """Return the pattern that a larger extent shows as well, or None.

    The larger extent is one period longer, so the two need not share more than F as a divisor. A
    network that pads to multiples of 64 by itself shows different borders then, until the period
    is taken to be 64: multiples of the period are tried up to `unit`.
    """
    for factor in range(1, unit // pattern.alignment + 1):
        longer = pattern.alignment * factor
        # A period that the middle does not hold shows at a larger extent only.
        if unit % longer or pattern.positions * factor > len(profile.low) // 3:
            continue
        larger = run_at(profile.extent + longer, None)
        if isinstance(larger, Refusal) or (larger.refusals and larger.uneven):
            continue
        refuse(larger)
        second = profile_of(larger)
        wider = measure_period(profile, pattern, factor)
        if (
            second is not None
            and measure_period(second, pattern, factor) == wider
            and consistent(wider, profile, second)
        ):
            return wider
    return None


def smallest_window(profile: Profile, pattern: Pattern, unit: int, run_at: RunAt) -> int:
    """Return the smallest extent at which the network was seen to follow the pattern.

    That is the smallest window with a zone inside, unless the network cannot run at it or does
    something else there.
    """
    halo = pattern.needed.round_up(pattern.alignment)
    window = pattern.alignment + halo.total
    for side in (window, window + pattern.alignment, ceil_to(window, unit)):
        if side >= profile.extent:
            break
        run = run_at(side, None)
        small = None if isinstance(run, Refusal) or run.refusals else profile_of(run)
        if small is not None and consistent(pattern, small, profile):
            return side
    return profile.extent


def is_batchable(module: nn.Module, channels: int, extent: tuple[int, ...]) -> bool:
    """Whether every image of a batch gives its own output and no other, as seen at `extent`.

    The batch is one more axis, along which each position must depend on itself.
    """
    run = attempt(module, channels, extent, BATCH_AXIS)
    if isinstance(run, Refusal) or run.refusals or run.reach is None:
        return False
    images = np.arange(BATCH, dtype=np.int64)
    folded = fold(run.reach, range(1, run.reach.low.ndim))
    marks = folded.mark.ravel()
    return bool(
        len(folded.low) == BATCH
        and (folded.low.ravel() == images).all()
        and (folded.high.ravel() == images).all()
        and (marks == marks[0]).all()
    )
