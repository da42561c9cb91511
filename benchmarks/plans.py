"""Computed pixels before and after the choice of the plan, and what reuse of windows would save.

    python benchmarks/plans.py

The published U-Net (width 64, depth 4, halo 96) in float32, labels. Arithmetic and the static
estimate of memory only: no pass is run. The estimate is raised by a sixteenth, which is the factor
that is measured for eager PyTorch, and 128 MiB are added for what does not depend on the window.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from exactile.choice import Choice, choose_plan, weigh
from exactile.errors import PlanError
from exactile.images.source import DEFAULT_CACHE_BYTES
from exactile.locality.unet import unet_locality
from exactile.memory.buffers import Buffers
from exactile.memory.cost import FACTOR_STEP, PassCost, probe_windows
from exactile.memory.liveness import live_bytes
from exactile.memory.size import format_size
from exactile.models.unet import UNet
from exactile.tiling import least_tile, plan

SHAPES = ((20_000, 20_000), (50_000, 100_000))
BUDGETS = (2 * 10**9, 8 * 10**9, 24 * 10**9)
FIXED_TILE = 1216
"""The window side that was taken whatever the memory."""
FIXED_BYTES = 2**27

WIDTH, DEPTH = 64, 4
LOCALITY = unet_locality(depth=DEPTH, convolutions=2)
BUFFERS = Buffers(
    channels=1, outputs=2, written=1, itemsize=1, decoded=DEFAULT_CACHE_BYTES, across=100
)
REUSED_WINDOWS = (1216, 2240, 4288)


@dataclass(frozen=True)
class Layer:
    """A convolution of the published U-Net."""

    name: str
    level: int
    """How often the image was halved before it."""
    products: int
    """Multiply-adds for each position of its output."""
    reach: int
    """Positions of its output that a zone needs beyond itself, on each side."""
    kept: int
    """Columns of its input that the next window of a row needs again."""
    channels: int
    """Of its input."""


def static_cost() -> PassCost:
    """Return the cost of a pass by the static estimate."""
    network = UNet(base_width=WIDTH, depth=DEPTH).eval()
    small, large = probe_windows(LOCALITY)
    more = live_bytes(network, 1, large) - live_bytes(network, 1, small)
    slope = more / (prod(large) - prod(small))
    return PassCost(FIXED_BYTES, (1 + FACTOR_STEP) * slope)


def largest_square(shape: tuple[int, int], cost: PassCost, budget: int) -> Choice | None:
    """Return the plan with the fewest computed pixels of those with square windows that fit."""
    halo = LOCALITY.halo[0].total
    sides = [zone + halo for zone in (16, 32, 64, 128, 256, 512, *range(1024, 20_480, 1024))]
    squares = [
        weigh(plan(shape, LOCALITY, side), cost, BUFFERS)
        for side in sides
        if side >= least_tile(LOCALITY)
    ]
    fitting = [choice for choice in squares if choice.memory_bytes <= budget]
    return max(fitting, key=lambda choice: choice.tiling.window, default=None)


def describe(choice: Choice | None) -> str:
    """Return the cells of a row: windows, side, ratio, memory."""
    if choice is None:
        return "| none fits | | | "
    window = " x ".join(map(str, choice.tiling.window))
    return (
        f"| {choice.tiling.count:,} | {window} | {choice.tiling.computed_ratio:.3f} "
        f"| {format_size(choice.memory_bytes)} "
    )


def print_plans() -> None:
    """Print the plans before and after."""
    cost = static_cost()
    print(f"bytes per pixel {cost.bytes_per_pixel:.0f}\n")
    print("| image | budget | plan | windows | window | computed/output | memory |")
    print("|---|---|---|---|---|---|---|")
    for shape in SHAPES:
        fixed = weigh(plan(shape, LOCALITY, FIXED_TILE), cost, BUFFERS)
        for budget in BUDGETS:
            row = f"| {' x '.join(map(str, shape))} | {format_size(budget)} "
            print(f"{row}| fixed {describe(fixed)}|")
            print(f"{row}| largest square {describe(largest_square(shape, cost, budget))}|")
            try:
                chosen = choose_plan(shape, LOCALITY, cost, budget, BUFFERS)
            except PlanError:
                chosen = None
            print(f"{row}| chosen {describe(chosen)}|")


def layers() -> list[Layer]:
    """Return the convolutions in the order of the pass, with what a zone needs of each.

    The needs are counted from the output backwards: a 3 x 3 convolution adds one position, going
    down a level halves and rounds up, going up a level doubles.
    """
    widths = [WIDTH * 2**level for level in range(DEPTH + 1)]
    found: list[Layer] = []
    found.append(Layer("classify", 0, WIDTH * 2, 0, 0, WIDTH))
    reach = 0
    skips = []
    for level in range(DEPTH):
        width = widths[level]
        name = f"merge {level}"
        found.append(Layer(f"{name} second", level, 9 * width * width, reach, 2, width))
        found.append(Layer(f"{name} first", level, 9 * 2 * width * width, reach + 1, 2, 2 * width))
        reach += 2
        skips.append(reach)
        # Each position of a transposed 2 x 2 convolution of stride 2 comes from one of its input.
        found.append(Layer(f"up {level}", level, widths[level + 1] * width, reach, 0, 0))
        reach = -(-reach // 2)
    for level in reversed(range(DEPTH + 1)):
        width = widths[level]
        before = widths[level - 1] if level else 1
        reach = max(reach, skips[level]) if level < DEPTH else reach
        name = f"down {level}"
        found.append(Layer(f"{name} second", level, 9 * width * width, reach, 2, width))
        found.append(Layer(f"{name} first", level, 9 * before * width, reach + 1, 2, before))
        reach = 2 * (reach + 2)
    return found[::-1]


def print_reuse() -> None:
    """Print the multiply-adds of a window with and without what its neighbours computed."""
    print("\n| window | zone | all of it | only what the zone needs | row | row, needed | both |")
    print("|---|---|---|---|---|---|---|")
    network = layers()
    for window in REUSED_WINDOWS:
        zone = window - LOCALITY.halo[0].total
        totals = [0, 0, 0, 0, 0]
        for layer in network:
            whole, own = window >> layer.level, zone >> layer.level
            needed = own + 2 * layer.reach
            areas = (whole * whole, needed * needed, whole * own, needed * own, own * own)
            for index, area in enumerate(areas):
                totals[index] += area * layer.products
        ratios = " | ".join(f"{total / totals[-1]:.3f}" for total in totals)
        print(f"| {window} | {zone} | {ratios} |")
    reaches = {layer.name: layer.reach for layer in network}
    print("\n| window | columns kept for a row, MB | skips that wait, MB |")
    print("|---|---|---|")
    for window in REUSED_WINDOWS:
        kept = sum(layer.kept * layer.channels * (window >> layer.level) * 4 for layer in network)
        # A skip is made as far ahead as the way down needs it, and taken when the way up has come.
        waiting = sum(
            (reaches[f"down {level} second"] - reaches[f"merge {level} first"] - 1)
            * (WIDTH << level)
            * (window >> level)
            * 4
            for level in range(DEPTH)
        )
        print(f"| {window} | {kept / 1e6:.0f} | {waiting / 1e6:.0f} |")
    per_pixel = sum(layer.kept * layer.channels * 4 / 2**layer.level for layer in network)
    print(f"\nrows kept for reuse below: {per_pixel:.0f} bytes for each pixel of the image's width")
    total = sum(layer.products / 4**layer.level for layer in network)
    print(f"multiply-adds for each pixel: {total:,.0f}")


if __name__ == "__main__":
    print_plans()
    print_reuse()
