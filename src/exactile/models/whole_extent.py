"""What is known of a network that looks at the whole extent, which has no locality.

Such a network is not tiled, but it can be run by exchange (`exactile.partition`). The reference is
the same as for others: the image is padded at the end of each axis to a multiple of F. Here F is
the least common multiple of the network's strides: of how much shorter than the image, along an
axis, its feature maps are. It must return as many positions as it is given, for where they lie is
not known otherwise.
"""

from __future__ import annotations

from fractions import Fraction
from math import lcm

from torch import nn

from exactile.errors import ModelError
from exactile.geometry import AxisLocality, Halo, Locality
from exactile.locality import Analysis, NotLocal
from exactile.locality.modulepath import evaluation
from exactile.locality.run import Run
from exactile.locality.scriptpath import named
from exactile.locality.search import TRIAL_EXTENTS, attempt

EVERYTHING = 2**62
"""A halo longer than any image: whoever would tile such a network takes one window of all of it."""


def without_locality(
    network: nn.Module, channels: int, dimensions: int, refused: NotLocal
) -> Analysis:
    """Return what stands for the analysis of `network`, which was `refused`; nothing is computed.

    Its halo on every axis is longer than any image.

    Raises:
        NotLocal: the same, if the network does not return one position for each that it is given.
    """
    pairs = _runs(network, channels, dimensions)
    run = pairs[0][0] if pairs else None
    if run is None or run.shape is None or run.shape[2:] != run.extent:
        raise refused
    locality = Locality(
        tuple(
            AxisLocality(
                alignment=(step := _stride(small, large, axis)),
                halo=Halo(EVERYTHING // step * step, EVERYTHING // step * step),
                least=small.extent[axis],
            )
            for axis, (small, large) in enumerate(pairs)
        )
    )
    return Analysis(
        locality=locality,
        needed=locality.halo,
        scale=(Fraction(1),) * dimensions,
        crop=(Halo(0, 0),) * dimensions,
        unplaced=None,
        extent=run.extent,
        operators=run.operators,
        contributions=(),
        crop_total=(0,) * dimensions,
        outputs=run.shape[1],
        last=run.last,
        batchable=False,
        patterns=(),
    )


def by_exchange(refused: NotLocal) -> ModelError:
    """Return the error that says that a refused network runs by exchange."""
    return ModelError(f"{refused}; it runs by exchange: use --strategy auto or exchange")


def _runs(network: nn.Module, channels: int, dimensions: int) -> list[tuple[Run, Run]]:
    """Return for each axis a run, and one on twice as many positions along it; [] if none do."""
    with evaluation(network), named(network):
        for side in TRIAL_EXTENTS:
            extent = (side,) * dimensions
            try:
                small = attempt(network, channels, extent, 0)
                longer = [
                    attempt(network, channels, (*extent[:axis], 2 * side, *extent[axis + 1 :]), 0)
                    for axis in range(dimensions)
                ]
            except ModelError:
                return []
            if isinstance(small, Run):
                pairs = [(small, large) for large in longer if isinstance(large, Run)]
                if len(pairs) == dimensions:
                    return pairs
    return []


def _stride(small: Run, large: Run, axis: int) -> int:
    """Return the least common multiple of the strides along `axis`, by which the runs differ."""
    more = large.extent[axis] - small.extent[axis]
    found = 1
    for before, after in zip(small.records, large.records, strict=False):
        for a, b in zip(before.outputs, after.outputs, strict=False):
            grown = [n - m for m, n in zip(a, b, strict=False) if m != n]
            # A reshape that joins axes has a side that grows by more than the image.
            if len(a) == len(b) and len(grown) == 1 and grown[0] <= more:
                found = lcm(found, Fraction(grown[0], more).denominator)
    return found
