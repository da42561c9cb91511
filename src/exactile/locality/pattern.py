"""Finding the period and the halo in a traced reach.

Away from the image's borders a network treats all zones alike: some m output positions further on,
the same function reads the input F pixels further on. Near the borders it does not:

    positions   0      border_low                      border_high    n
                +----------+------------------------------+-----------+
                | padding  |  period m: mark repeats,     |  padding  |
                |          |  low and high advance by F   |           |
                +----------+------------------------------+-----------+

A zone of m positions starts at pixel F * i. Its halo must cover every input that its positions
depend on, and a window around it must keep it out of the two borders.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from exactile.geometry import Halo
from exactile.locality.reach import NOTHING, Marks, Positions


@dataclass(frozen=True, slots=True)
class Profile:
    """Low, high and mark of the network's output along one axis, at one extent."""

    extent: int
    """Input positions."""
    low: Positions
    high: Positions
    mark: Marks


@dataclass(frozen=True, slots=True)
class Pattern:
    """Period and halo along one axis."""

    alignment: int
    """F: input pixels in a period."""
    positions: int
    """m: output positions in a period."""
    needed: Halo
    """What a zone needs beyond itself, in input pixels, not rounded."""
    border_low: int
    """First output position of the periodic part."""
    border_high: int
    """Output positions after the periodic part."""
    crop: Fraction
    """Input pixels that the output is short of at both ends together."""
    shift: Fraction
    """How far the middle of what a position depends on lies from p / scale, in input pixels: the
    mean over a period."""


def repeats(profile: Profile, start: int, stop: int, step: int, alignment: int) -> bool:
    """Whether positions start..stop repeat after `step` positions and `alignment` pixels."""
    return bool(agrees(profile, start, stop, step, alignment).all())


def agrees(
    profile: Profile, start: int, stop: int, step: int, alignment: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Return, for each p in start..stop-step, whether position p + step repeats position p."""
    here, there = slice(start, stop - step), slice(start + step, stop)
    nothing = profile.low[here] == NOTHING
    same: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = (
        (profile.mark[here] == profile.mark[there])
        & ((profile.low[there] == NOTHING) == nothing)
        & (nothing | (profile.low[there] - profile.low[here] == alignment))
        & (nothing | (profile.high[there] - profile.high[here] == alignment))
    )
    return same


def find(profile: Profile) -> Pattern | None:
    """Return the pattern of a profile, or None where its middle third shows no period."""
    count = len(profile.low)
    start, stop = count // 3, count - count // 3
    known = np.flatnonzero(profile.low[start:stop] != NOTHING)
    if len(known) == 0:
        return None
    anchor = start + int(known[0])
    for step in range(1, (stop - start) // 3 + 1):
        if profile.mark[anchor + step] != profile.mark[anchor]:
            continue
        alignment = int(profile.low[anchor + step] - profile.low[anchor])
        if alignment > 0 and repeats(profile, start, stop, step, alignment):
            mean = shift(profile, start, step, alignment)
            return measure(profile, start, stop, step, alignment, mean)
    return None


def measure(
    profile: Profile, start: int, stop: int, step: int, alignment: int, mean: Fraction
) -> Pattern:
    """Extend the periodic part from start..stop as far as it goes and measure the halo."""
    same = agrees(profile, 0, len(profile.low), step, alignment)
    broken = np.flatnonzero(~same)
    below, above = broken[broken < start], broken[broken >= start]
    first = int(below[-1]) + 1 if len(below) else 0
    last = int(above[0]) + step if len(above) else len(profile.low)
    zone = np.arange(len(profile.low), dtype=np.int64) // step * alignment
    known = profile.low != NOTHING
    low = max(0, int((zone - profile.low)[known].max()))
    high = max(0, int((profile.high + 1 - zone - alignment)[known].max()))
    if first > 0:
        # A window's zone must not be one of those that its low border changes.
        low = max(low, (first - 1) // step * alignment + 1)
    if last < len(profile.low):
        high = max(high, profile.extent - (last // step + 1) * alignment + 1)
    crop = profile.extent - Fraction(len(profile.low) * alignment, step)
    return Pattern(
        alignment,
        step,
        Halo(low, high),
        first,
        len(profile.low) - last,
        crop,
        mean,
    )


def shift(profile: Profile, start: int, step: int, alignment: int) -> Fraction:
    """Return how far a period from `start` on looks away from its own place, in input pixels.

    Pixel i covers i to i + 1, and position p covers p / scale to (p + 1) / scale. The sums are of
    whole numbers, so that two extents give the same.
    """
    places = np.arange(start, start + step, dtype=np.int64)
    places = places[profile.low[places] != NOTHING]
    seen = int((profile.low[places] + profile.high[places] + 1).sum())
    own = int((2 * places + 1).sum()) * Fraction(alignment, step)
    return (seen - own) / (2 * len(places)) if len(places) else Fraction(0)


def measure_period(profile: Profile, pattern: Pattern, factor: int) -> Pattern:
    """Return the pattern of `profile` when `factor` periods count as one."""
    third = len(profile.low) // 3
    return measure(
        profile,
        third,
        len(profile.low) - third,
        pattern.positions * factor,
        pattern.alignment * factor,
        pattern.shift,
    )


def consistent(pattern: Pattern, small: Profile, large: Profile) -> bool:
    """Whether two extents show one network: equal borders, and a longer middle between them.

    Everything before the high border must be equal counted from the low end, everything after the
    low border must be equal counted from the high end.
    """
    shift = large.extent - small.extent
    longer = len(large.low) - len(small.low)
    if longer * pattern.alignment != shift * pattern.positions:
        return False
    from_low = slice(0, max(0, len(small.low) - pattern.border_high))
    from_high = slice(pattern.border_low, len(small.low))
    moved = slice(pattern.border_low + longer, len(large.low))
    nothing = small.low[from_high] == NOTHING
    return bool(
        (small.mark[from_low] == large.mark[from_low]).all()
        and (small.low[from_low] == large.low[from_low]).all()
        and (small.high[from_low] == large.high[from_low]).all()
        and (small.mark[from_high] == large.mark[moved]).all()
        and ((large.low[moved] == NOTHING) == nothing).all()
        and (nothing | (large.low[moved] - small.low[from_high] == shift)).all()
        and (nothing | (large.high[moved] - small.high[from_high] == shift)).all()
    )
