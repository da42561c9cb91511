"""The locality at the sizes that count: a window's, and the whole image's.

A network may look at the size of its input and do something else above some size, at odd sizes or
where one side is longer than the other. No number of trials excludes that, but the two sizes that
count can be tried. From the window to the whole image the axes grow one after the other:

    window        first axis grown       whole image
    +----+        +----+                 +----------+
    |    |   ->   |    |           ->    |          |
    +----+        |    |                 |          |
                  +----+                 +----------+

In each step the operators and all numbers that they are given must be the same. Along the axis that
grows, the borders must be alike, and the middle between them longer; along every other axis each
position must stay the same function of the same pixels.
"""

from __future__ import annotations

from itertools import pairwise, zip_longest

import numpy as np
from torch import nn

from exactile.locality.analysis import Analysis
from exactile.locality.maker import MOVING
from exactile.locality.modulepath import evaluation
from exactile.locality.pattern import Pattern, consistent
from exactile.locality.reach import Reach, fold, take
from exactile.locality.refusal import NotLocal, Refusal
from exactile.locality.run import Run, words
from exactile.locality.scriptpath import named
from exactile.locality.search import attempt, profile_of
from exactile.locality.sizes import FROM_SIZES
from exactile.locality.verdict import parted, refuse


def confirm(
    module: nn.Module,
    channels: int,
    analysis: Analysis,
    window: tuple[int, ...],
    extent: tuple[int, ...],
    image: tuple[int, ...] | None = None,
) -> None:
    """Trace `module` at the very sizes of a plan, and see that it does there what was analysed.

    `extent` is the size of the padded image, and `image` that of the image itself: multiples of F
    are not to be treated otherwise than what lies between them.

    Raises `NotLocal` if a window's size and the image's differ in more than the length of their
    middles, or if other operators are run on the image than on the padded one.
    """
    sizes = [extent[:axis] + window[axis:] for axis in range(len(extent) + 1)]
    with evaluation(module), named(module):
        for axis in range(len(extent)):
            previous = follow(module, channels, sizes[0], axis, None)
            for grown, (small, large) in enumerate(pairwise(sizes)):
                if small == large:
                    continue
                run = follow(module, channels, large, axis, previous)
                same = (
                    alike_along(analysis.patterns[axis], previous, run)
                    if grown == axis
                    else alike_across(analysis.patterns, previous, run)
                )
                if not same:
                    raise NotLocal((otherwise(run, previous),))
                previous = run
        if image is not None and image != extent:
            compare_calls(
                follow(module, channels, extent, 0, None), attempt(module, channels, image, 0)
            )


def compare_calls(padded: Run, plain: Run | Refusal) -> None:
    """Refuse a network that computes something else on the image than on the padded image.

    What moves, cuts, pads and resizes may differ. A network that does not run on the image as it
    is needs the padding.
    """
    if isinstance(plain, Refusal) or plain.reach is None:
        return
    ours, others = (
        [r for r in run.records if r.operator not in MOVING and r.operator not in FROM_SIZES]
        for run in (padded, plain)
    )
    for record, there in zip_longest(ours, others):
        if record is None or there is None:
            known = there or record
            raise NotLocal(
                (parted(known.operator, known.module, plain.extent, padded.extent, None),)
            )
        if (record.operator, record.numbers) != (there.operator, there.numbers):
            extents = plain.extent, padded.extent
            raise NotLocal((parted(there.operator, there.module, *extents, record),))


def follow(
    module: nn.Module, channels: int, extent: tuple[int, ...], axis: int, earlier: Run | None
) -> Run:
    """Trace along `axis`; raise `NotLocal` unless the network runs as in the `earlier` run."""
    run = attempt(module, channels, extent, axis, earlier)
    if isinstance(run, Refusal):
        reason = f"the network does not run on {words(extent)} px ({run.reason})"
        raise NotLocal((Refusal(run.operator, run.module, reason),))
    if run.diverged is not None:
        raise NotLocal((run.diverged,))
    refuse(run)
    return run


def alike_along(pattern: Pattern, small: Run, large: Run) -> bool:
    """Whether two runs, which differ in the size of their own axis, show one pattern there."""
    first, second = profile_of(small), profile_of(large)
    return (
        first is not None
        and second is not None
        and pattern.border_low + pattern.border_high <= len(first.low)
        and consistent(pattern, first, second)
    )


def alike_across(patterns: tuple[Pattern, ...], small: Run, large: Run) -> bool:
    """Whether two runs, which differ in the sizes of other axes, show the same along their own.

    Where positions of those other axes are told apart, too, the ones that both have are compared.
    """
    if small.reach is None or large.reach is None:
        return False
    first, second = small.reach, large.reach
    if first.low.ndim != second.low.ndim:
        return False
    for axis, pattern in enumerate(patterns):
        dim = 2 + axis
        if axis == small.axis or not (first.tracked(dim) or second.tracked(dim)):
            continue
        common = first.shape[dim] - pattern.border_high
        if common < 1 or not second.tracked(dim):
            return False
        first, second = (take(reach, dim, np.arange(common)) for reach in (first, second))
    kept = 2 + small.axis
    one, other = (_folded(reach, kept) for reach in (first, second))
    return one.shape == other.shape and all(
        bool((a == b).all())
        for a, b in zip(
            (one.low, one.high, one.mark), (other.low, other.high, other.mark), strict=True
        )
    )


def _folded(reach: Reach, kept: int) -> Reach:
    """Join all positions but those along the dimension `kept`."""
    return fold(reach, [dim for dim in range(reach.low.ndim) if dim != kept])


def otherwise(large: Run, small: Run) -> Refusal:
    """Refuse a network that treats two sizes differently."""
    return Refusal(
        "model",
        "model",
        f"the network does something else with {words(large.extent)} px than with "
        f"{words(small.extent)} px: it looks at the size of its input; give it layers that do not",
    )
