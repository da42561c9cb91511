"""What it would gain to compute a convolution's interior while the halos are on their way.

    python benchmarks/partition_overlap.py [--side 96] [--width 16]

Each 3 x 3 x 3 convolution of the 3-D U-Net (two poolings), with the volume split along Z, is run in
two ways: as `exactile.partition` does, which waits for the planes of the neighbours and convolves
the part with them; and apart, which starts the exchange, convolves what needs none of it, waits,
convolves the borders and joins the three. Times are the sums over all layers of a pass, of the
slowest rank, the median of `--rounds`. The ranks share one machine: their messages take no network.
One is imitated by holding each exchange back until so many milliseconds after its beginning, which
costs no core; the same for all layers, whatever they send. `moved` is the exchange alone. Core
milliseconds are those that a rank had a core, which other work on the machine changes least. The
last column says for how many layers the two ways give other bits.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from statistics import median

import torch
import torch.distributed as dist
import torch.nn.functional as F
from bench import machine, table
from gloo_ranks import on_ranks
from torch import Tensor

from exactile.allocation import prepare
from exactile.fixed_order import FixedOrder
from exactile.partition import Mesh

DEPTH = 2
Found = dict[tuple[str, int], list[tuple[float, float]]]
"""Seconds and core seconds of each round, by way and delay."""


def layers(width: int) -> list[tuple[int, int, int]]:
    """Return level, input and output channels of each convolution."""
    widths = [width << level for level in range(DEPTH + 1)]
    made = []
    for level, own in enumerate(widths):
        made += [(level, widths[level - 1] if level else 1, own), (level, own, own)]
    for level in reversed(range(DEPTH)):
        made += [(level, 2 * widths[level], widths[level]), (level, widths[level], widths[level])]
    return made


def begin(part: Tensor, mesh: Mesh, delay: float) -> Callable[[], list[Tensor]]:
    """Start to exchange the outer planes; return how to wait for those of both neighbours."""
    due = time.perf_counter() + delay
    at, last = mesh.coordinate[0], mesh.shape[0] - 1
    low, high = (part[:, :, side].contiguous() for side in (slice(0, 1), slice(-1, None)))
    came = [torch.zeros_like(low), torch.zeros_like(high)]
    peers = [(low, came[0], at - 1), (high, came[1], at + 1)]
    inside = [(own, other, mesh.peer(0, p)) for own, other, p in peers if 0 <= p <= last]
    wait = mesh.swap([(p, own) for own, _, p in inside], [(p, other) for _, other, p in inside])

    def finish() -> list[Tensor]:
        wait()
        time.sleep(max(0.0, due - time.perf_counter()))
        return came

    return finish


def convolved(planes: list[Tensor], weight: Tensor) -> Tensor:
    return F.conv3d(torch.cat(planes, 2), weight, padding=(0, 1, 1))


def together(part: Tensor, weight: Tensor, mesh: Mesh, delay: float) -> Tensor:
    low, high = begin(part, mesh, delay)()
    return convolved([low, part, high], weight)


def apart(part: Tensor, weight: Tensor, mesh: Mesh, delay: float) -> Tensor:
    finish = begin(part, mesh, delay)
    inner = convolved([part], weight)
    low, high = finish()
    before = convolved([low, part[:, :, :2]], weight)
    after = convolved([part[:, :, -2:], high], weight)
    return torch.cat([before, inner, after], 2)


def moved(part: Tensor, weight: Tensor, mesh: Mesh, delay: float) -> Tensor:
    return begin(part, mesh, delay)()[0]


WAYS = (together, apart, moved)


def timed(
    side: int, width: int, rounds: int, delays: Sequence[int], fixed: bool
) -> tuple[Found, int]:
    """Be a rank: return the seconds of each round, and the layers whose bits differ."""
    prepare()
    mesh = Mesh((dist.get_world_size(),))
    torch.manual_seed(0)
    count = mesh.shape[0]
    shapes = [(c, side // count >> n, side >> n, side >> n) for n, c, _ in layers(width)]
    parts = [torch.randn(1, *shape) for shape in shapes]
    weights = [torch.randn(o, c, 3, 3, 3) for _, c, o in layers(width)]
    found: Found = {}
    differing = 0
    with torch.inference_mode(), FixedOrder() if fixed else nullcontext():
        for part, weight in zip(parts, weights, strict=True):
            both = (way(part, weight, mesh, 0.0) for way in (together, apart))
            differing += not torch.equal(*both)
        for _ in range(rounds):
            for delay in delays:
                for way in WAYS:
                    dist.barrier()
                    begun, spent = time.perf_counter(), time.process_time()
                    for part, weight in zip(parts, weights, strict=True):
                        way(part, weight, mesh, delay / 1000)
                    taken = time.perf_counter() - begun, time.process_time() - spent
                    found.setdefault((way.__name__, delay), []).append(taken)
    return found, differing


def slowest(made: list[tuple[Found, int]], way: str, delay: int) -> tuple[float, float]:
    """Return the median of the rounds' milliseconds and core milliseconds, of the slowest rank."""
    rounds = list(zip(*(found[way, delay] for found, _ in made), strict=True))
    seconds, core_seconds = (median(max(r[i] for r in each) for each in rounds) for i in (0, 1))
    return 1000 * seconds, 1000 * core_seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--fixed", action="store_true", help="under exactile.fixed_order")
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--delays", type=int, nargs="+", default=[0, 1, 5, 20], help="milliseconds")
    arguments = parser.parse_args()
    rows: list[tuple[object, ...]] = []
    for ranks in arguments.ranks:
        sizes = (arguments.side, arguments.width, arguments.rounds)
        options = (*sizes, arguments.delays, arguments.fixed)
        made = on_ranks(ranks, timed, *options)
        bits = f"{max(count for _, count in made)} of {len(layers(arguments.width))}"
        for delay in arguments.delays:
            whole, split, alone = (slowest(made, w, delay) for w in ("together", "apart", "moved"))
            cells = [f"{each:.0f}" for each in (whole[0], split[0], alone[0], whole[1], split[1])]
            ratios = (f"{split[i] / whole[i]:.2f}" for i in (0, 1))
            rows.append((ranks, delay, *cells, *ratios, bits))
    size = f"{arguments.side}^3, width {arguments.width}, depth {DEPTH}"
    print(f"{machine()}\n\n{size}{', fixed order' * arguments.fixed}; ms for all layers.\n")
    header = ["ranks", "delay", "as it is", "apart", "moved", "core, as it is", "core, apart"]
    print(table([*header, "apart / as it is", "core", "other bits"], rows))


if __name__ == "__main__":
    main()
