"""The locality of a network: its period F and its halo on every axis, or why it has none.

The halo and the zone of responsibility are those of Majurski and Bajcsy (2021); here they are
traced from the operators that the network runs, not computed from a formula.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from torch import nn

from exactile.geometry import AxisLocality, Halo, Locality
from exactile.locality.modulepath import evaluation
from exactile.locality.run import Run
from exactile.locality.search import along_axis, is_batchable, working_extent


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
    """Input pixels without output at both ends; None where they cannot be split evenly."""
    extent: tuple[int, ...]
    """Smallest extent at which the network was seen to behave as described, on every axis."""
    operators: dict[str, int]
    """How often each ATen operator was called, in the order of the first call."""
    contributions: tuple[tuple[str, str, float], ...]
    """Operator, module and input pixels that the reach grew by there, the largest first."""
    crop_total: tuple[int, ...]
    """Input pixels without output at both ends of each axis together."""
    batchable: bool
    """Whether images of a batch are independent of each other."""


def analyze(module: nn.Module, channels: int, spatial_dims: int = 2) -> Analysis:
    """Return the locality of `module`, which takes (1, channels, *extent) and returns one tensor.

    Nothing is computed: the module runs in evaluation mode on tensors without data, a few times
    for each axis. Its weights and its training flags are left as they were.

    Raises `NotLocal` where the output depends on more than a bounded neighbourhood or may do so,
    and `ModelError` where the network cannot run, or does not return one tensor.
    """
    with evaluation(module):
        base = working_extent(module, channels, spatial_dims)
        axes = [
            along_axis(module, channels, spatial_dims, axis, base) for axis in range(spatial_dims)
        ]
        batchable = is_batchable(module, channels, (base,) * spatial_dims)
    return Analysis(
        locality=Locality(
            tuple(
                AxisLocality(
                    found.pattern.alignment, found.pattern.needed.round_up(found.pattern.alignment)
                )
                for found in axes
            )
        ),
        needed=tuple(found.pattern.needed for found in axes),
        scale=tuple(Fraction(found.pattern.positions, found.pattern.alignment) for found in axes),
        crop=tuple(halved(found.pattern.crop) for found in axes),
        extent=tuple(found.extent for found in axes),
        operators=axes[0].run.operators,
        contributions=contributions(axes[0].run),
        crop_total=tuple(found.pattern.crop for found in axes),
        batchable=batchable,
    )


def halved(crop: int) -> Halo | None:
    """Return the same crop on both sides, where it is even and not negative."""
    return Halo(crop // 2, crop // 2) if crop >= 0 and crop % 2 == 0 else None


def contributions(run: Run) -> tuple[tuple[str, str, float], ...]:
    """Return the calls at which the reach of the tensors grew most."""
    seen = 0.0
    found = []
    for record in run.records:
        if record.drift > seen:
            found.append((record.operator, record.module, record.drift - seen))
            seen = record.drift
    return tuple(sorted(found, key=lambda item: -item[2]))
