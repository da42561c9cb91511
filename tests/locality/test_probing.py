"""The traced halo of random networks, against what NaN really reaches in every zone."""

from __future__ import annotations

import pytest
import torch
from locality_brute import single_thread  # noqa: F401
from probed_networks import Ladder
from test_networks_in_use import image, positive
from torch import nn

from exactile.geometry import Halo
from exactile.locality import Analysis, analyze


def probe(module: nn.Module, found: Analysis, axis: int) -> Halo:
    """Return how far beyond any aligned zone NaN reaches it: at the edges and between them."""
    axes = found.locality.axes
    extent = tuple(
        3 * a.alignment + a.halo.total if other == axis else max(a.least, 2 * a.alignment)
        for other, a in enumerate(axes)
    )
    period, clean = axes[axis].alignment, image(extent)

    def reached(first: int, kept: slice) -> bool:
        """Whether NaN outside `kept` shows in the zone that starts at pixel `first`."""
        at = (slice(None),) * (2 + axis) + (kept,)
        poisoned = torch.full_like(clean, torch.nan)
        poisoned[at] = clean[at]
        with torch.no_grad():
            return bool(module(poisoned).narrow(2 + axis, first, period).isnan().any())

    low = high = 0
    for first in range(0, extent[axis], period):
        last = first + period
        while low < first and reached(first, slice(first - low, None)):
            low += 1
        while high < extent[axis] - last and reached(first, slice(None, last + high)):
            high += 1
    return Halo(low, high)


@pytest.mark.parametrize("seed", range(60))
def test_nan_reaches_as_far_as_the_traced_halo(seed: int) -> None:
    """Not further, and no less, except where linear resampling by thirds adds a neighbour.

    The kernels compute positions in thirds in floating point, which rounds, so the rule counts one
    neighbour that some positions do not read: at most a period of F pixels for each resampling.
    """
    torch.manual_seed(seed)
    network = Ladder(seed)
    found = analyze(positive(network), 1)
    for axis, located in enumerate(found.locality.axes):
        real, claimed = probe(network, found, axis), found.needed[axis]
        more = (claimed.low - real.low, claimed.high - real.high)
        assert min(more) >= 0, (claimed, real)
        assert sum(more) <= network.rounds * located.alignment, (claimed, real)
