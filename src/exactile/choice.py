"""The choice of the plan: the fewest computed pixels that the memory allows.

Windows are rectangles or cuboids, all of one shape. On each axis a zone is a number of writer
tiles, a part of one, or the whole axis, which needs no halo: a strip over the full width has halos
above and below only, and one window over the whole image has none. Of all combinations the fastest
is taken that fits the budget, with what the run holds beside it.

The ranking is arithmetic on whole numbers, never a clock: the same image, network and budget have
the same windows. It counts what the check of bit-stability computes before the first zone, and what
the first pass takes longer for its memory. Measured seconds only tell how long the run will take.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from math import prod

from exactile.bit_stability import other_shape
from exactile.errors import PlanError
from exactile.geometry import Box, Locality
from exactile.memory.cost import PassCost
from exactile.memory.size import format_size
from exactile.tiling import STABLE_COARSEST_SIDE, Plan, axis_plans, require_output, writer_tiles
from exactile.verification import MARGIN

Buffers = Callable[[tuple[int, ...], tuple[int, ...]], int]
"""Bytes that are held beside a pass over a window, the first, for a zone, the second."""

PASS_PIXELS = 2**16
"""What a pass costs beside its pixels, in pixels. Eager PyTorch on a CPU: 20 ms were measured, or
20,000 pixels of a U-Net of width 16; where 2 ms pass before a GPU is busy, that is 100,000 of the
published one. It decides little between windows of 1216 and 2240 px; it keeps slivers away."""

FRESH_PASSES = 1
"""So many passes over a window the first one takes longer than the others, whose memory is there
already. Measured: 1 (eager) to 2 (OpenVINO, bfloat16). So large images have dozens of zones however
much memory there is, and a run that dies loses little."""

TIE = 1.02
"""Of plans that are this close to the fastest, the one that takes the least memory is chosen."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A plan, and what it takes."""

    tiling: Plan
    memory_bytes: int
    """At most, beyond what the process had before: passes, and what is held beside them."""
    seconds: float | None
    """All passes over one plane or volume together; None where nothing was measured."""
    stable: bool
    """The window is one whose bits are expected not to depend on its size."""
    checked_pixels: int
    """Pixels of the two windows that the check of bit-stability runs beforehand."""
    passes: int
    """Forward passes over a plane or a volume, or over the part of one that is made."""

    def sentence(self) -> str:
        """Return the choice in words."""
        tiling = self.tiling
        windows = "1 window" if self.passes == 1 else f"{self.passes:,} windows"
        text = (
            f"{windows} of {_sides(tiling.window)} px for zones of {_sides(tiling.zone)}: "
            f"{tiling.computed_ratio:.2f} computed pixels for each pixel, at most "
            f"{format_size(self.memory_bytes)}"
        )
        return text if self.seconds is None else f"{text}, about {format_seconds(self.seconds)}"


def choose_plan(
    shape: tuple[int, ...],
    locality: Locality,
    cost: PassCost,
    budget_bytes: int,
    buffers: Buffers,
    *,
    verified: bool = False,
    part: Box | None = None,
) -> Choice:
    """Return the best plan for an image of `shape` that takes at most `budget_bytes`.

    Where only a `part` of the output is made, the best is the one with which that takes least.

    Bytes include what the check of bit-stability needs for its second window and, where zones are
    `verified`, what their larger windows need.

    Raises:
        PlanError: if no plan fits, with the least that would do; or if the network leaves nothing
            of such an image.
    """
    require_output(shape, locality)
    plans = [
        Plan(shape, axes)
        for axes in product(
            *(
                axis_plans(side, axis, unit)
                for side, axis, unit in zip(
                    shape, locality.axes, writer_tiles(len(shape)), strict=True
                )
            )
        )
    ]
    # A pass alone is quickly judged, and most plans for large images are too large by far.
    small = [tiling for tiling in plans if cost.bytes(tiling.window) <= budget_bytes]
    choices = [weigh(tiling, cost, buffers, verified=verified, part=part) for tiling in small]
    fitting = [choice for choice in choices if choice.memory_bytes <= budget_bytes]
    if not fitting:
        least = min(
            weigh(tiling, cost, buffers, verified=verified).memory_bytes for tiling in plans
        )
        raise PlanError(
            f"{format_size(budget_bytes)} of memory are too little for this network: an image of "
            f"{_sides(shape)} px needs {format_size(least)} at least; give more by --memory"
        )
    stable = [choice for choice in fitting if choice.stable] or fitting
    return _best(stable)


def weigh(
    tiling: Plan,
    cost: PassCost,
    buffers: Buffers,
    *,
    verified: bool = False,
    part: Box | None = None,
) -> Choice:
    """Return what `tiling` takes, for the whole output or a `part` of it."""
    count = tiling.count if part is None else tiling.count_over(part)
    checked = [] if tiling.count == 1 else [other_shape(tiling)]
    others = [*checked, *([_verified_shape(tiling)] if verified else [])]
    # One after the other: an engine gives back what a window took before one of another shape.
    passes = max(map(cost.bytes, [tiling.window, *others]))
    seconds = cost.seconds(tiling.window)
    return Choice(
        tiling,
        passes + buffers(tiling.window, tiling.zone),
        None if seconds is None else count * seconds,
        tiling.count == 1 or tiling.coarsest >= STABLE_COARSEST_SIDE**2,
        sum(prod(tiling.window) + prod(other) for other in checked),
        count,
    )


def format_seconds(seconds: float) -> str:
    """Return a duration for people: 40 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _rank(choice: Choice) -> int:
    tiling = choice.tiling
    passes = choice.passes * (prod(tiling.window) + PASS_PIXELS)
    return passes + choice.checked_pixels + FRESH_PASSES * prod(tiling.window)


def _best(choices: list[Choice]) -> Choice:
    fastest = min(map(_rank, choices))
    close = [choice for choice in choices if _rank(choice) <= TIE * fastest]
    return min(close, key=lambda c: (c.memory_bytes, _rank(c), c.tiling.window))


def _verified_shape(tiling: Plan) -> tuple[int, ...]:
    """Return the largest window that a zone of `tiling` is verified in."""
    return tuple(
        min(axis.extent, axis.window + 2 * MARGIN * axis.locality.alignment) for axis in tiling.axes
    )


def _sides(sides: tuple[int, ...]) -> str:
    return " x ".join(map(str, sides))
