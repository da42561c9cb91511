"""The locality at the sizes that count: a window's, and the whole image's."""

from __future__ import annotations

from torch import nn

from exactile.locality.analysis import Analysis
from exactile.locality.modulepath import evaluation
from exactile.locality.pattern import Pattern, consistent
from exactile.locality.refusal import NotLocal, Refusal
from exactile.locality.scriptpath import named
from exactile.locality.search import attempt, profile_of
from exactile.locality.verdict import refuse


def confirm(
    module: nn.Module,
    channels: int,
    analysis: Analysis,
    window: tuple[int, ...],
    extent: tuple[int, ...],
) -> None:
    """Trace `module` at the very sizes of a plan, and see that it does there what was analysed.

    A network may look at the size of its input and do something else above some size. No number of
    trials excludes that, but the two sizes that count can be tried: from a window to the whole
    image, one axis after the other.

    Raises `NotLocal` if the two differ in more than the length of their middles.
    """
    with evaluation(module), named(module):
        for axis, pattern in enumerate(analysis.patterns):
            small = extent[:axis] + window[axis:]
            large = extent[: axis + 1] + window[axis + 1 :]
            if small != large:
                confirm_at(module, channels, pattern, small, large, axis)


def confirm_at(
    module: nn.Module,
    channels: int,
    pattern: Pattern,
    small: tuple[int, ...],
    large: tuple[int, ...],
    axis: int,
) -> None:
    """Raise `NotLocal` unless two sizes, which differ along `axis` only, show one pattern there."""
    profiles = []
    for sides in (small, large):
        run = attempt(module, channels, sides, axis)
        if isinstance(run, Refusal):
            raise NotLocal((only_at_other_sizes(run, sides),))
        refuse(run)
        profiles.append(profile_of(run))
    first, second = profiles
    if first is None or second is None or not consistent(pattern, first, second):
        reason = (
            f"the network does something else with {_size(large)} px than with {_size(small)} px: "
            "it looks at the size of its input; give it layers that do not"
        )
        raise NotLocal((Refusal("model", "model", reason),))


def only_at_other_sizes(failure: Refusal, sides: tuple[int, ...]) -> Refusal:
    """Refuse a network that fails at sizes that the plan needs."""
    reason = f"the network does not run on {_size(sides)} px ({failure.reason})"
    return Refusal(failure.operator, failure.module, reason)


def _size(sides: tuple[int, ...]) -> str:
    return " x ".join(map(str, sides))
