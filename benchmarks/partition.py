"""A volume through the 3-D U-Net: whole, split over ranks, in windows with halos, and by MONAI.

    pip install -r benchmarks/requirements.txt
    python benchmarks/partition.py [--side 128] [--width 8] [--window 112]

The same network and the same volume, in memory, float32. Each tool runs in new processes, which
share the machine's cores: one with all of them, or n ranks with an nth each, one thread at least;
or with `--threads` each. All take turns, `--rounds` times. Seconds are those of the pass alone,
from when all ranks are ready, of the slowest rank. Core seconds are those that the pass had a core,
of all threads and ranks together: other work on the machine changes them least, with --threads 1.
Memory is what a process took beyond what it had before, of the largest rank.

whole           one pass
N ranks         `exactile.partition`, gloo; split along the first axes, as evenly as may be
tiling          exactile's plan: windows of --window, which keep their zone; F and halo are known
monai-default   sliding_window_inference with the same windows as it is: overlap 0.25
monai-rims      the same with the zones as overlap and weights by which only zones count, which is
                its most exact setting (`peer_tools.py`); F and the halo are worked out for it

All run under `exactile.fixed_order`, as `exactile segment` does on CPUs. Without it PyTorch
convolves volumes of N C Z Y of 20,480 and less by a kernel of its own, which takes 22 times the
memory of its input.

Label errors are voxels whose class differs from that of the whole pass; the difference is the
greatest of the logits, relative to the greatest logit.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from bench import in_turn, machine, spread, table
from gloo_ranks import on_ranks
from numpy.typing import NDArray
from torch import Tensor, nn

from exactile.allocation import prepare
from exactile.fixed_order import FixedOrder
from exactile.geometry import Halo, Locality
from exactile.locality.unet import unet_radius
from exactile.memory.peak import measure_peak
from exactile.models.unet3d import UNet3d
from exactile.partition import Mesh, even_cuts, partition
from exactile.tiling import AxisPlan, Plan

RIM = 2.0**-40
"""A power of two, so that weighting and dividing round nothing; its cube is a normal float32."""
WARM = 16
"""Side of the volume that each process begins with."""
MESHES = {2: (2, 1, 1), 4: (2, 2, 1), 8: (2, 2, 2)}


@dataclass(frozen=True)
class Work:
    """What all tools do."""

    side: int
    width: int
    depth: int
    window: int
    """Side of a window, with its halos."""
    packages: tuple[str, ...]
    """Folders where other tools are found."""

    @property
    def locality(self) -> Locality:
        """F and the halo of the network."""
        radius = unet_radius(self.depth, convolutions=2)
        return Locality.isotropic(1 << self.depth, Halo(radius, radius), dimensions=3)

    @property
    def plan(self) -> Plan:
        """The windows and zones."""
        axis = self.locality.axes[0]
        zone = self.window - axis.halo.total
        return Plan(
            (self.side,) * 3, (AxisPlan(self.side, self.window, zone, self.side, axis),) * 3
        )

    def network(self) -> nn.Module:
        """Make the network, with statistics that change what they normalise."""
        torch.manual_seed(0)
        network = UNet3d(base_width=self.width, depth=self.depth)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                nn.init.uniform_(module.running_mean, -0.2, 0.2)
                nn.init.uniform_(module.running_var, 0.2, 0.6)
        network.eval()
        with torch.inference_mode():
            first, second = network(self.volume()[..., :32, :32, :32])[0]
        # Half of the voxels are of each class, so that labels have borders to be wrong at; rounded,
        # so that all processes have the same.
        with torch.no_grad():
            network.classify.bias[1] -= round(float((second - first).median()), 2)
        return network

    def volume(self) -> Tensor:
        """Make the volume (1, 1, Z, Y, X): blurred noise, so that labels make regions."""
        torch.manual_seed(1)
        coarse = torch.randn(1, 1, *(self.side // 4,) * 3)
        smooth = nn.functional.interpolate(coarse, (self.side,) * 3, mode="trilinear")
        return smooth + 0.1 * torch.randn(1, 1, *(self.side,) * 3)


@dataclass(frozen=True)
class Taken:
    """What one process took, and what it made."""

    seconds: float
    core_seconds: float
    """Of all threads."""
    peak_mb: float
    logits: NDArray[np.float32]
    """Of the volume, or of the part that is the rank's."""


def measured(act: Callable[[], Tensor], network: Callable[[Tensor], Tensor], like: Tensor) -> Taken:
    """Run `act` once all ranks are ready, which have run `network` on a corner of `like`."""
    made: list[Tensor] = []
    with torch.inference_mode(), FixedOrder():
        # What the first pass loads and connects is not the pass's.
        network(like[..., :WARM, :WARM, :WARM].clone())
    dist.barrier()
    begun, spent = time.perf_counter(), time.process_time()
    with torch.inference_mode(), FixedOrder():
        peak = measure_peak(torch.device("cpu"), lambda: made.append(act()))
    seconds, core_seconds = time.perf_counter() - begun, time.process_time() - spent
    return Taken(seconds, core_seconds, (peak or 0) / 1e6, made[0][0].numpy())


def whole(work: Work) -> Taken:
    prepare()
    network, volume = work.network(), work.volume()
    return measured(lambda: network(volume), network, volume)


def parts(work: Work, shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """Return what each rank of a mesh has, in the order of ranks."""
    cuts = [even_cuts(work.side, count, 1 << work.depth) for count in shape]
    places = np.ndindex(*shape)
    return [
        tuple(slice(c[at], c[at + 1]) for c, at in zip(cuts, place, strict=True))
        for place in places
    ]


def exchanged(work: Work, shape: tuple[int, ...]) -> Taken:
    prepare()
    mesh = Mesh(shape)
    run = partition(work.network(), mesh)
    part = work.volume()[(..., *parts(work, shape)[mesh.rank])].clone()
    return measured(lambda: run(part), run, part)


def tiled(work: Work) -> Taken:
    prepare()
    network, volume, plan = work.network(), work.volume(), work.plan

    def act() -> Tensor:
        made = torch.empty(1, 2, *volume.shape[2:])
        for tile in plan.tiles():
            made[tile.zone.slices] = network(volume[tile.window.slices])[tile.crop.slices]
        return made

    return measured(act, network, volume)


def monai(work: Work, rims: bool) -> Taken:
    sys.path.extend(work.packages)
    prepare()
    from monai.inferers import sliding_window_inference

    network, volume, plan = work.network(), work.volume(), work.plan
    options: dict[str, Any] = {"overlap": 0.25, "padding_mode": "reflect"}
    if rims:
        side = torch.full((work.window,), RIM)
        halo = work.locality.halo[0]
        side[halo.low : work.window - halo.high] = 1
        weights = side[:, None, None] * side[:, None] * side
        overlap = 1 - (plan.zone[0] + 0.5) / work.window
        options |= {"overlap": overlap, "roi_weight_map": weights}
    return measured(
        lambda: sliding_window_inference(volume, plan.window, 1, network, **options),  # type: ignore[no-any-return]
        network,
        volume,
    )


def run(work: Work, tool: str, threads: int | None) -> list[Taken]:
    """Run one tool once, and return what its processes took."""
    name, _, what = tool.partition(" ")
    if what == "ranks":
        return on_ranks(int(name), exchanged, work, MESHES[int(name)], threads=threads)
    acts = {
        "whole": whole,
        "tiling": tiled,
        "monai-default": partial(monai, rims=False),
        "monai-rims": partial(monai, rims=True),
    }
    return on_ranks(1, acts[tool], work, threads=threads)


def joined(work: Work, tool: str, taken: Sequence[Taken]) -> NDArray[np.float32]:
    """Return the logits (K, Z, Y, X) of what the processes made."""
    if len(taken) == 1:
        return taken[0].logits
    made = np.empty((2, *(work.side,) * 3), np.float32)
    for place, each in zip(parts(work, MESHES[len(taken)]), taken, strict=True):
        made[(..., *place)] = each.logits
    return made


def rows(work: Work, found: dict[str, list[list[Taken]]]) -> list[tuple[object, ...]]:
    """Return the table's rows, one for each tool; the first is the reference."""
    expected = joined(work, "whole", found["whole"][0])
    classes, scale = expected.argmax(0), float(np.abs(expected).max())
    made: list[tuple[object, ...]] = []

    def cells(runs: list[list[Taken]], what: Callable[[list[Taken]], float], digits: int) -> Any:
        values, first = [[what(r) for r in each] for each in (runs, found["whole"])]
        ratio = mean(value / one for value, one in zip(values, first, strict=True))
        return spread(values, digits), f"{ratio:.2f}"

    for tool, runs in found.items():
        logits = joined(work, tool, runs[0])
        made.append(
            (
                tool,
                *cells(runs, lambda ranks: max(r.seconds for r in ranks), 2),
                *cells(runs, lambda ranks: sum(r.core_seconds for r in ranks), 2),
                *cells(runs, lambda ranks: max(r.peak_mb for r in ranks), 0),
                f"{int(np.count_nonzero(logits.argmax(0) != classes)):,}",
                f"{float(np.abs(logits - expected).max()) / scale:.1e}",
            )
        )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=128, help="of the volume, a multiple of F")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--window", type=int, default=112, help="its side; zone and halos together")
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4], choices=MESHES)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, help="of each process; else they share the cores")
    parser.add_argument(
        "--packages", type=Path, action="append", default=[], help="folder of the other tools"
    )
    arguments = parser.parse_args()
    sys.path.extend(map(str, arguments.packages))
    if importlib.util.find_spec("monai") is None:
        sys.exit("monai is not there; pip install -r benchmarks/requirements.txt, or --packages")
    work = Work(
        arguments.side,
        arguments.width,
        arguments.depth,
        arguments.window,
        tuple(map(str, arguments.packages)),
    )
    tools = ["whole", *(f"{n} ranks" for n in arguments.ranks)]
    tools += ["tiling", "monai-default", "monai-rims"]
    found = in_turn(
        {tool: partial(run, work, tool, arguments.threads) for tool in tools}, arguments.rounds
    )
    plan = work.plan
    print(f"{machine()}\n")
    print(
        f"{work.side}^3, width {work.width}, depth {work.depth}; {plan.count} windows of "
        f"{work.window}^3 for zones of {plan.zone[0]}^3, {plan.computed_ratio:.2f} computed voxels "
        f"for each; {prod((work.side,) * 3):,} voxels; {arguments.rounds} rounds.\n"
    )
    header = ("tool", "seconds", "ratio", "core seconds", "ratio", "peak MB of a process", "ratio")
    print(table((*header, "label errors", "difference"), rows(work, found)))


if __name__ == "__main__":
    main()
