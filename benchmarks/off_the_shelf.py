"""Which networks of public packages run in exact tiles, and what the tiles give.

    pip install monai segmentation-models-pytorch
    python benchmarks/off_the_shelf.py [--only "Unet|FPN"] [--out table.md] [--missing]

Every network is made with random weights and random batch-norm statistics and handed to
`exactile.locality.analyze`. One that is local runs once over a whole image of noise and once in
tiles, in float32 on the CPU as a run does it (`exactile.engine`), and the outputs are compared.
Sides are odd, images as small as the halo allows: where a square of two windows a side would be
large, the image is a strip, of which every window takes the whole width. One that is not local is
refused: the table names the first operator and its module. Rows already in the file `--out` are
kept, or replaced by name, so that the table can be made in pieces.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from math import ceil, prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from off_the_shelf_networks import Case, declare_torchvision, monai_cases, smp_cases, timm_cases
from torch import Tensor, nn

from exactile.engines.eager import make_engine
from exactile.errors import ModelError
from exactile.fixed_order import fixed_order
from exactile.geometry import Box, Interval
from exactile.locality import Analysis, NotLocal, analyze
from exactile.padding import reflect
from exactile.tiling import Plan, plan

Forward = Callable[[NDArray[np.float32]], Tensor]

CPU = torch.device("cpu")
PACKAGES = ("monai", "segmentation_models_pytorch")
HEADER = (
    "| network | M weights | verdict | seconds | F | halo, px | scale | image | windows | tiles |",
    "|---|---|---|---|---|---|---|---|---|---|",
)
MOST_PIXELS = 4_000_000
"""What takes more in all its windows together is compared in strips, unless --pixels allows it."""
NARROW = 67
"""Least width of a strip."""


def randomize(network: nn.Module) -> None:
    """Give every batch norm statistics, and what starts at zero a weight, as training does."""
    for part in network.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 2)
            if part.weight is not None:
                nn.init.uniform_(part.weight, 0.5, 1.5)
    for name, parameter in network.named_parameters():
        if name.rpartition(".")[2] in ("gamma", "layer_scale"):
            nn.init.uniform_(parameter, 0.5, 1.5)


def plans(found: Analysis, most: int) -> Iterator[Plan]:
    """Yield a plan for an image of odd sides, or for a strip along each axis where that is large.

    Zones are of four periods and at least 64 pixels.
    """
    axes = found.locality.axes
    windows = [max(a.pad(a.least), a.halo.total + a.pad(max(4 * a.alignment, 64))) for a in axes]
    sides = [w + a.pad(65) + 1 for w, a in zip(windows, axes, strict=True)]
    whole = plan(tuple(sides), found.locality, tile_of(windows))
    if whole.count * prod(whole.window) <= most:
        yield whole
        return
    for along in range(len(axes)):
        strip = [max(NARROW, 2 * a.alignment + 1) for a in axes]
        across = [a.pad(side) for a, side in zip(axes, strip, strict=True)]
        strip[along], across[along] = sides[along], windows[along]
        yield plan(tuple(strip), found.locality, tile_of(across))


def tile_of(sides: list[int]) -> int:
    """Return the side of a square or cube that holds as many pixels as a window of `sides`."""
    return ceil(prod(sides) ** (1 / len(sides)))


def forward_of(network: nn.Module, axes: int) -> Forward:
    """Return what gives the output for an image (channels, ...); the engine takes planes only."""
    if axes == 2:
        engine = make_engine(network, CPU, "float32")
        return lambda image: engine.logits(image[None])[0]

    def forward(image: NDArray[np.float32]) -> Tensor:
        with torch.inference_mode(), fixed_order(CPU):
            output: Tensor = network(torch.from_numpy(image[None]))[0]
            return output

    return forward


def compare(forward: Forward, channels: int, tiling: Plan) -> str:
    """Return how the tiles of `tiling` differ from a pass over the whole image."""
    noise = np.random.default_rng(0).standard_normal((channels, *tiling.shape), dtype=np.float32)
    sides = zip(tiling.extent, tiling.shape, strict=True)
    index = np.ix_(*(reflect(Interval(0, extent), side) for extent, side in sides))
    image = np.ascontiguousarray(noise[(slice(None), *index)])
    whole = forward(image)[Box.of_shape(tiling.output_shape).slices]
    tiles = torch.full_like(whole, torch.nan)
    for tile in tiling.tiles():
        kept = tile.cut_to(Box.of_shape(tiling.output_shape))
        window = np.ascontiguousarray(image[tile.window.slices])
        tiles[kept.zone.slices] = forward(window)[kept.crop.slices]
    if not bool(whole.isfinite().all()):
        return "the network's output is not finite"
    if float(whole.std()) == 0:
        return "the network's output is constant, which proves nothing"
    if torch.equal(tiles, whole):
        return "bit-equal"
    unequal = float((tiles != whole).float().mean())
    largest = float((tiles - whole).abs().max() / whole.std())
    labels = int((tiles.argmax(0) != whole.argmax(0)).sum())
    return f"{labels} labels differ; {unequal:.1%} of values, by up to {largest:.0e} std"


def row(case: Case, most: int) -> str:
    """Return the table's row for one network."""
    torch.manual_seed(0)
    network = case.make().eval()
    randomize(network)
    weights = f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f}"
    begun = time.perf_counter()
    try:
        found = analyze(network, case.channels, case.axes)
    except NotLocal as refused:
        first = refused.refusals[0]
        verdict = f"refused: `{first.operator}` in {first.module}"
        took = f"{time.perf_counter() - begun:.1f}"
        return f"| {case.name} | {weights} | {verdict} | {took} | | | | | | |"
    except ModelError as error:
        return f"| {case.name} | {weights} | error: {error} | | | | | | | |"
    took = f"{time.perf_counter() - begun:.1f}"
    axes = found.locality.axes
    forward = forward_of(network, case.axes)
    tilings = list(plans(found, most))
    fields = (
        *(case.name, weights, "local", took),
        shared([str(a.alignment) for a in axes]),
        shared([f"{a.halo.low}, {a.halo.high}" for a in axes]),
        shared([str(a.scale) for a in axes]),
        shared([" x ".join(map(str, t.shape)) for t in tilings]),
        shared([f"{t.count} of {' x '.join(map(str, t.window))}" for t in tilings]),
        shared([compare(forward, case.channels, t) for t in tilings]),
    )
    return f"| {' | '.join(fields)} |"


def shared(values: list[str]) -> str:
    """Return what all axes have in common, or the values of each."""
    return values[0] if len(set(values)) == 1 else " / ".join(values)


def name_of(line: str) -> str:
    return line.split("|")[1].strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="networks whose names hold this expression")
    parser.add_argument("--out", type=Path, help="Markdown file; rows in it are kept or replaced")
    parser.add_argument("--missing", action="store_true", help="only networks without a row there")
    parser.add_argument("--pixels", type=int, default=MOST_PIXELS, help="more goes into strips")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f"{', '.join(missing)} cannot be imported; "
            "pip install monai segmentation-models-pytorch"
        )
    warnings.filterwarnings("ignore")
    torch.set_num_threads(arguments.threads)
    library = declare_torchvision()
    cases = [*smp_cases(), *timm_cases(), *monai_cases()]
    rows = {}
    if arguments.out and arguments.out.exists():
        lines = arguments.out.read_text().splitlines()
        rows = {
            name_of(line): line for line in lines if line.startswith(("| smp", "| monai", "| timm"))
        }
    print("\n".join(HEADER))
    for case in cases:
        kept = arguments.missing and case.name in rows
        if re.search(arguments.only, case.name) and not kept:
            rows[case.name] = row(case, arguments.pixels)
            print(rows[case.name], flush=True)
            if arguments.out:
                lines = [*HEADER, *(rows[c.name] for c in cases if c.name in rows)]
                arguments.out.write_text("\n".join(lines) + "\n")
    del library


if __name__ == "__main__":
    main()
