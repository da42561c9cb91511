"""The locality of a network: its period F and its halo on every axis, or why it has none.

The halo and the zone of responsibility are those of Majurski and Bajcsy (2021); here they are
traced from the operators that the network runs, not computed from a formula.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

from torch import nn

from exactile.geometry import AxisLocality, Halo, Locality
from exactile.locality.modulepath import evaluation
from exactile.locality.pattern import Pattern
from exactile.locality.run import Run
from exactile.locality.scriptlists import settle_lists
from exactile.locality.scriptpath import named
from exactile.locality.search import along_axis, is_batchable, working_extent
from exactile.locality.state import refuse_state


@dataclass(frozen=True, slots=True)
class Analysis:
    """What the tracing of a network showed. Axes are in array order, (Y, X) or (Z, Y, X).

    Output position p of an axis lies at input pixel `crop.low + p / scale`. The halo is that of a
    zone of output positions p, counted from the output's own origin: the zone of F input pixels
    from F * i on depends on the pixels F * i - halo.low up to F * (i + 1) + halo.high.
    """

    locality: Locality
    """F, and the halo rounded up to F, on every axis."""
    needed: tuple[Halo, ...]
    """The halo before rounding, in input pixels."""
    scale: tuple[Fraction, ...]
    """Output pixels for each input pixel."""
    crop: tuple[Halo | None, ...]
    """Input pixels without output at both ends; None where the output cannot be placed."""
    unplaced: str | None
    """Why the output cannot be placed on the image, or None where it can."""
    extent: tuple[int, ...]
    """Smallest extent at which the network was seen to behave as described, on every axis."""
    operators: dict[str, int]
    """How often each ATen operator was called, in the order of the first call."""
    contributions: tuple[tuple[str, str, float], ...]
    """Operator, module and input pixels that the reach grew by there, the largest first."""
    crop_total: tuple[int, ...]
    """Input pixels without output at both ends of each axis together."""
    outputs: int
    """Channels of the output."""
    last: str
    """The ATen operator that made the output's values; those that only move them do not count."""
    batchable: bool
    """Whether images of a batch are independent of each other."""
    patterns: tuple[Pattern, ...]
    """What the locality was read from, on every axis: to confirm it at other extents."""


def analyze(module: nn.Module, channels: int, spatial_dims: int = 2) -> Analysis:
    """Return the locality of `module`, which takes (1, channels, *extent) and returns one tensor.

    Nothing is computed: the module runs in evaluation mode on tensors without data, a few times
    for each axis. Its weights and its training flags are left as they were.

    Raises `NotLocal` where the output depends on more than a bounded neighbourhood or may do so,
    `KeepsState` where a pass may depend on those before it, and `ModelError` where the network
    cannot run, or does not return one tensor.
    """
    refuse_state(module)
    settle_lists(module)
    with evaluation(module), named(module):
        base = working_extent(module, channels, spatial_dims)
        axes = [
            along_axis(module, channels, spatial_dims, axis, base) for axis in range(spatial_dims)
        ]
        batchable = is_batchable(module, channels, (base,) * spatial_dims)
    crops = tuple(placed(found.pattern) for found in axes)
    run = axes[0].run
    return Analysis(
        locality=Locality(
            tuple(
                AxisLocality(
                    alignment=found.pattern.alignment,
                    halo=halo_of(found.pattern),
                    scale=Fraction(found.pattern.positions, found.pattern.alignment),
                    crop=crop or Halo(0, 0),
                    least=found.extent,
                )
                for found, crop in zip(axes, crops, strict=True)
            )
        ),
        needed=tuple(found.pattern.needed for found in axes),
        scale=tuple(Fraction(found.pattern.positions, found.pattern.alignment) for found in axes),
        crop=crops,
        unplaced=next(
            (
                unplaced(found.pattern)
                for found, crop in zip(axes, crops, strict=True)
                if crop is None
            ),
            None,
        ),
        extent=tuple(found.extent for found in axes),
        operators=run.operators,
        contributions=contributions(run),
        crop_total=tuple(floor(found.pattern.crop) for found in axes),
        outputs=run.shape[1] if run.shape is not None else 0,
        last=run.last,
        batchable=batchable,
        patterns=tuple(found.pattern for found in axes),
    )


def halo_of(pattern: Pattern) -> Halo:
    """Return the halo of zones, rounded up to F.

    A window gives fewer positions than it has pixels where the output is cropped, so that its zone
    ends at least so far from the window's end.
    """
    high = max(pattern.needed.high, ceil(pattern.crop))
    return Halo(pattern.needed.low, high).round_up(pattern.alignment)


def placed(pattern: Pattern) -> Halo | None:
    """Return the input pixels without output at both ends, or None where that cannot be told.

    An output as long as the image lies on it. A shorter one lies in the middle, as valid
    convolutions leave it, if what its positions depend on says so to within a pixel: a crop of one
    side only would show. With F = 1 it lies where its positions look.
    """
    crop, shift = pattern.crop, pattern.shift
    if crop < 0 or crop.denominator != 1:
        return None
    if crop == 0:
        return Halo(0, 0)
    half = crop / 2
    if half.denominator == 1 and abs(shift - half) < 1:
        return Halo(int(half), int(half))
    if pattern.alignment == 1 and shift.denominator == 1 and 0 <= shift <= crop:
        return Halo(int(shift), int(crop - shift))
    return None


def unplaced(pattern: Pattern) -> str:
    """Say why the output of `pattern` cannot be placed on the image."""
    crop = pattern.crop
    if crop < 0:
        return f"the output reaches {-crop} px beyond the image"
    return (
        f"the output is {crop} px shorter than the image, and what it depends on lies "
        f"{float(pattern.shift):.2f} px from its start, so the two ends cannot be told apart"
    )


def contributions(run: Run) -> tuple[tuple[str, str, float], ...]:
    """Return the calls at which the reach of the tensors grew most."""
    seen = 0.0
    found = []
    for record in run.records:
        if record.drift > seen:
            found.append((record.operator, record.module, record.drift - seen))
            seen = record.drift
    return tuple(sorted(found, key=lambda item: -item[2]))
