"""Which operators give a region the same bits in maps of different sizes, and what mending costs.

    python benchmarks/bit_stability.py [--only "transposed|up"] [--threads 2] [--dense]

Each operator runs over one map of noise and over square windows of it, of many sizes, at its first
corner, in its middle and at its last corner, as exactile places windows: on the operator's own
grid, and flush with the map's edges. What depends on nothing outside the window is compared. For
each memory layout the table says

    sides       the sides of windows with differences, of those tried (in input pixels)
    differ      the largest share of values that differ in one of them
    by          the largest difference, relative to the standard deviation of the output
    mended      the same three with `exactile.fixed_order`; "equal" where nothing differs
    time        the mended operator's time over the original's, on the whole map

The libraries choose their kernels by the machine: run it where it matters. Times are medians of
alternating runs, and are not asserted anywhere.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional

from exactile.fixed_order import FixedOrder

SIDES = (8, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128, 192, 13, 21, 31, 45)
LAYOUTS = {
    "float32 channels_last": (torch.float32, True),
    "float32 contiguous": (torch.float32, False),
    "bfloat16 channels_last": (torch.bfloat16, True),
}


@dataclass(frozen=True)
class Case:
    """An operator and the geometry that is needed to compare its windows."""

    name: str
    channels: int
    operator: nn.Module
    factor: Fraction = Fraction(1)
    """Output positions for each input position."""
    reach: int = 0
    """How many input positions from a window's edge an output may depend on; a multiple of grid."""
    grid: int = 1
    """Windows start and end on multiples of it."""
    axes: int = 2


class Call(nn.Module):
    """A function as a module; with `crop`, of a tensor whose rows are not contiguous."""

    def __init__(self, function: Callable[[Tensor], Tensor], crop: bool = False) -> None:
        super().__init__()
        self.function, self.crop = function, crop

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.function(x[..., 1:-1, 1:-1] if self.crop else x)


class OnChannels(nn.Module):
    """A module that takes channels as its last axis."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        result: Tensor = self.inner(x.movedim(1, -1)).movedim(-1, 1)
        return result


class WindowedAttention(nn.Module):
    """Attention among the pixels of each 8 x 8 block."""

    def __init__(self, channels: int, fused: bool) -> None:
        super().__init__()
        self.mix, self.fused = nn.Linear(channels, 3 * channels), fused

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        _, c, height, width = x.shape
        blocks = x.movedim(1, -1).reshape(height // 8, 8, width // 8, 8, c).transpose(1, 2)
        q, k, v = self.mix(blocks.reshape(-1, 1, 64, c)).chunk(3, -1)
        if self.fused:
            y = functional.scaled_dot_product_attention(q, k, v)
        else:
            y = (q @ k.transpose(-1, -2) * c**-0.5).softmax(-1) @ v
        y = y.reshape(height // 8, width // 8, 8, 8, c).transpose(1, 2)
        return y.reshape(1, height, width, c).movedim(-1, 1)


def cases() -> Iterator[Case]:
    """Yield all operators."""
    half, two = Fraction(1, 2), Fraction(2)
    pairs = ((1, 16), (3, 64), (16, 16), (32, 32), (64, 64), (64, 128), (128, 128), (256, 256))
    for a, b in pairs:
        yield Case(f"conv 3x3 {a}->{b}", a, nn.Conv2d(a, b, 3, padding=1), reach=1)
    for a, b in ((16, 2), (64, 64), (256, 128)):
        yield Case(f"conv 1x1 {a}->{b}", a, nn.Conv2d(a, b, 1))
    for k in (5, 7):
        yield Case(f"conv {k}x{k} 64", 64, nn.Conv2d(64, 64, k, padding=k // 2), reach=k // 2)
    for d in (2, 3, 6):
        conv = nn.Conv2d(64, 64, 3, padding=d, dilation=d)
        yield Case(f"conv 3x3 dilated {d} 64", 64, conv, reach=d)
    for k, c, groups in ((3, 32, 32), (7, 96, 96), (3, 64, 4), (3, 96, 32)):
        conv = nn.Conv2d(c, c, k, padding=k // 2, groups=groups)
        yield Case(f"conv {k}x{k} {c}, {groups} groups", c, conv, reach=k // 2)
    for k, s, a, b in ((3, 2, 16, 32), (3, 2, 64, 128), (7, 2, 3, 64), (4, 4, 3, 96)):
        conv = nn.Conv2d(a, b, k, s, padding=(k - 1) // 2 if k % 2 else 0)
        reach = 0 if k == s else 4
        yield Case(f"conv {k}x{k} stride {s} {a}->{b}", a, conv, Fraction(1, s), reach, s)
    for a, b in ((16, 16), (64, 32), (128, 64)):
        for k, padding, extra in ((2, 0, 0), (3, 1, 1), (4, 1, 0)):
            conv = nn.ConvTranspose2d(a, b, k, 2, padding, extra)
            yield Case(f"transposed {k}x{k} stride 2 {a}->{b}", a, conv, two, 0 if k == 2 else 2)
    pools = (nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2), nn.AvgPool2d(3, 2, 1))
    for pool in pools:
        yield Case(f"{type(pool).__name__} {pool.kernel_size}", 16, pool, half, 2, 2)
    for mode in ("bilinear", "bicubic"):
        for scale, grid in ((2, 1), (3, 1), (1.5, 2), (1.25, 4)):
            up = Call(lambda x, s=scale, m=mode: functional.interpolate(x, scale_factor=s, mode=m))
            yield Case(f"up {mode} by {scale}", 16, up, Fraction(scale), 4, grid)
    size = Call(lambda x: functional.interpolate(x, [3 * n for n in x.shape[2:]], mode="bilinear"))
    yield Case("up bilinear to a size, by 3", 16, size, Fraction(3), 4)
    yield Case(
        "up bilinear by 2, 2 channels", 2, nn.Upsample(scale_factor=2, mode="bilinear"), two, 4
    )
    yield Case("up nearest by 3", 16, nn.Upsample(scale_factor=3), Fraction(3), 4)
    for scale in (2, 3):
        up = nn.Upsample(scale_factor=scale, mode="trilinear")
        yield Case(f"up trilinear by {scale}", 8, up, Fraction(scale), 4, axes=3)
    yield Case("batch norm", 10, nn.BatchNorm2d(10))
    yield Case("layer norm over channels", 96, OnChannels(nn.LayerNorm(96)))
    for a, b in ((10, 30), (96, 384), (384, 96)):
        yield Case(f"linear {a}->{b}", a, OnChannels(nn.Linear(a, b)))
    for fused in (False, True):
        name = f"attention in 8x8{', fused' if fused else ''}"
        yield Case(name, 32, WindowedAttention(32, fused), grid=8)
    for name, function in FUNCTIONS.items():
        yield Case(name, 10, Call(function))
        yield Case(f"{name} of a crop", 10, Call(function, crop=True), reach=2)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "SiLU": functional.silu,
    "GELU": functional.gelu,
    "ELU": functional.elu,
    "softplus": functional.softplus,
    "mish": functional.mish,
    "tanh": torch.tanh,
    "exp": torch.exp,
    "softmax over channels": lambda x: x.softmax(1),
    "log-softmax over channels": lambda x: x.log_softmax(1),
    "mean over channels": lambda x: x.mean(1, keepdim=True),
    "power 1.7": lambda x: x.abs() ** 1.7,
    "matrix product with channels": lambda x: (x.movedim(1, -1) @ MATRIX.to(x)).movedim(-1, 1),
}
MATRIX = torch.linspace(-1, 1, 100).view(10, 10).sin()


def stability(case: Case, run: Callable[[Tensor], Tensor], x: Tensor, sides: list[int]) -> str:
    """Return the sides with differences, their share and size; "equal" where there are none."""
    extent = x.shape[-1]
    whole = run(x)
    share = largest = 0.0
    different = []
    for side in sides:
        unequal = count = 0
        for start in {0, (extent - side) // 2 // case.grid * case.grid, extent - side}:
            low, high = (0 if edge else case.reach for edge in (start == 0, start + side == extent))
            window = run(x[(..., *[slice(start, start + side)] * case.axes)])
            a, b = ceil(low * case.factor), int((side - high) * case.factor)
            first = int(start * case.factor)
            own = window[(..., *[slice(a, b)] * case.axes)]
            same = whole[(..., *[slice(first + a, first + a + own.shape[-1])] * case.axes)]
            if own.numel():
                unequal, count = unequal + int((own != same).sum()), count + own.numel()
                difference = float((own - same).abs().max() / whole.std())
                largest = max(largest, difference)
        if unequal:
            different.append(side)
            share = max(share, unequal / count)
    if not different:
        return "equal"
    shown = f"{len(different)} of {len(sides)} ({min(different)}..{max(different)})"
    return f"{shown}, {share:.2%}, {largest:.0e}"


def measure(case: Case, dtype: torch.dtype, last: bool, sides: list[int]) -> tuple[str, str, float]:
    """Return what was found without and with `fixed_order`, and the ratio of their times."""
    layouts = {2: torch.channels_last, 3: torch.channels_last_3d}
    layout = layouts[case.axes] if last else torch.contiguous_format
    operator = deepcopy(case.operator).eval().to(dtype)
    for parameter in operator.parameters():
        if parameter.ndim == case.axes + 2:
            parameter.data = parameter.data.contiguous(memory_format=layout)
    extent = 72 if case.axes == 3 else 256 if case.channels < 128 else 144
    x = torch.randn(
        1, case.channels, *[extent] * case.axes, generator=torch.Generator().manual_seed(1)
    )

    def run(mended: bool) -> Callable[[Tensor], Tensor]:
        def call(part: Tensor) -> Tensor:
            with torch.inference_mode(), FixedOrder() if mended else nullcontext():
                return operator(part.to(dtype).contiguous(memory_format=layout))

        return call

    seconds: dict[bool, list[float]] = {False: [], True: []}
    run(False)(x), run(True)(x)
    for _ in range(5):
        for mended, record in seconds.items():
            begun = time.perf_counter()
            run(mended)(x)
            record.append(time.perf_counter() - begun)
    usable = [s for s in sides if s % case.grid == 0 and s < extent]
    before, after = (stability(case, run(mended), x, usable) for mended in (False, True))
    return before, after, median(seconds[True]) / median(seconds[False])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="operators whose names hold this expression")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dense", action="store_true", help="try every side from 8 to 72 as well")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    sides = sorted({*SIDES, *(range(8, 73) if arguments.dense else ())})
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    print(f"{'operator':34}{'layout':24}{'original':42}{'mended':34}time")
    for case in cases():
        if re.search(arguments.only, case.name):
            for layout, (dtype, last) in LAYOUTS.items():
                before, after, ratio = measure(case, dtype, last, sides)
                print(f"{case.name:34}{layout:24}{before:42}{after:34}{ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
