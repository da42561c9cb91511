"""Computed voxels of a volume's U-Net: windows with halos, against halos that are exchanged.

    python benchmarks/partition_plans.py

The 3-D U-Net of Hou et al. (base width 32, three poolings) and the same with the published four
(halo 96), in float32, labels out. Arithmetic and the static estimate of memory only: no pass is
run. The estimate is raised as in `plans.py`.

windows   of all plans of the planner that with the fewest computed voxels of which one pass fits
chosen    what `exactile.choice` takes, which also needs room for the second, larger window of the
          check of bit-stability
ranks     exchange: every voxel of every map is computed once, by one rank, so the ratio is that of
          the padding to F. It takes as many ranks as the whole pass takes budgets, and bytes
          between them, which `partition_bytes.py` counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, product
from math import ceil, prod

from bench import table

from exactile.choice import Choice, choose_plan
from exactile.errors import PlanError
from exactile.geometry import Halo, Locality
from exactile.images.source import DEFAULT_CACHE_BYTES
from exactile.locality.unet import unet_radius
from exactile.memory.buffers import Buffers
from exactile.memory.cost import FACTOR_STEP, PassCost, probe_windows
from exactile.memory.liveness import live_bytes
from exactile.memory.size import format_size
from exactile.models.unet3d import UNet3d
from exactile.tiling import Plan, axis_plans

BASE_WIDTH = 32
DEPTHS = (3, 4)
SIDES = (256, 512)
BUDGETS = tuple(gigabytes * 10**9 for gigabytes in (2, 8, 24, 80))
FIXED_BYTES = 2**27
SHARE = 1.2
"""A rank takes at most this times its share of the whole pass, and halos."""
BUFFERS = Buffers(
    channels=1, outputs=2, written=1, itemsize=1, decoded=DEFAULT_CACHE_BYTES, across=1
)


@dataclass(frozen=True)
class Network:
    """A U-Net of volumes, as the planner knows it."""

    depth: int
    locality: Locality
    cost: PassCost

    @classmethod
    def of_depth(cls, depth: int) -> Network:
        """Return that of `depth` poolings, with the static estimate of what a pass takes."""
        radius = unet_radius(depth, convolutions=2)
        locality = Locality.isotropic(1 << depth, Halo(radius, radius), dimensions=3)
        network = UNet3d(base_width=BASE_WIDTH, depth=depth).eval()
        small, large = probe_windows(locality)
        more = live_bytes(network, 1, large) - live_bytes(network, 1, small)
        slope = more / (prod(large) - prod(small))
        return cls(depth, locality, PassCost(FIXED_BYTES, (1 + FACTOR_STEP) * slope))


def windows_alone(shape: tuple[int, ...], network: Network, budget: int) -> Choice | None:
    """Return the plan with the fewest computed voxels of which a pass, and its buffers, fit."""
    axes = [axis_plans(side, a) for side, a in zip(shape, network.locality.axes, strict=True)]
    fitting = [
        Choice(tiling, taken, None, stable=False, checked_pixels=0, passes=tiling.count)
        for tiling in (Plan(shape, sides) for sides in product(*axes))
        if (taken := network.cost.bytes(tiling.window) + BUFFERS(tiling.window, tiling.zone))
        <= budget
    ]
    return min(
        fitting,
        key=lambda c: (c.tiling.computed_ratio, c.memory_bytes, c.tiling.window),
        default=None,
    )


def chosen(shape: tuple[int, ...], network: Network, budget: int) -> Choice | None:
    """Return the plan that `exactile.choice` takes; None where none fits."""
    try:
        return choose_plan(shape, network.locality, network.cost, budget, BUFFERS)
    except PlanError:
        return None


def cells(choice: Choice | None) -> tuple[str, str]:
    """Return the cells of a plan: its windows, and computed voxels for each of the output."""
    if choice is None:
        return "none fits", ""
    tiling = choice.tiling
    sides = " x ".join(map(str, tiling.window))
    return f"{tiling.count:,} of {sides}", f"{tiling.computed_ratio:.2f}"


def exchanged(shape: tuple[int, ...], network: Network, budget: int) -> tuple[str, str]:
    """Return the cells of exchange: ranks with their memory, and computed voxels."""
    extent = network.locality.pad(shape)
    whole = network.cost.bytes(extent)
    ranks = ceil(SHARE * whole / budget) if whole > budget else 1
    share = format_size(round(whole * (SHARE / ranks if ranks > 1 else 1)))
    ratio = f"{prod(extent) / prod(shape):.2f}"
    return (f"{ranks}, of {share}" if ranks > 1 else f"1, whole, {share}"), ratio


def main() -> None:
    header = ("volume", "depth", "halo", "budget", "windows", "ratio", "chosen", "ratio")
    rows: list[tuple[object, ...]] = []
    for side in SIDES:
        shape = (side, side, side)
        for network in map(Network.of_depth, DEPTHS):
            halo = network.locality.halo[0].low
            for budget in BUDGETS:
                start = (f"{side}^3", network.depth, halo, format_size(budget))
                plans = (windows_alone, chosen)
                tiled = (cells(find(shape, network, budget)) for find in plans)
                rows.append((*start, *chain(*tiled, exchanged(shape, network, budget))))
    print(table((*header, "ranks", "ratio"), rows))


if __name__ == "__main__":
    main()
