"""Bytes that ranks exchange for each layer of the 3-D U-Net, against the least there is.

    python benchmarks/partition_bytes.py [--side 64] [--width 4]

The least: a rank must get what its outputs read and it does not own. Of a 3 x 3 x 3 "same"
convolution that is its part grown by one voxel on all sides, as far as there is volume, less the
part; poolings and transposed convolutions of stride 2 read nothing of others where the cuts lie on
their grid. On the way back the same voxels' gradients return; the image needs none, so its layer
sends nothing. Counted are the bytes of the tensors that all ranks receive (`mesh.journal`), which
leaves out the headers of the network's protocol, and the reductions of the weights' gradients.

A second table has the least for the published width at 512^3, which no machine here can hold.
"""

from __future__ import annotations

import argparse
from collections import Counter
from itertools import product
from math import prod

import torch
from bench import machine, table
from gloo_ranks import on_ranks

from exactile.memory.size import format_size
from exactile.models.unet3d import UNet3d
from exactile.partition import Mesh, even_cuts, partition

Grid = tuple[int, ...]
MESHES: tuple[Grid, ...] = ((2, 1, 1), (4, 1, 1), (2, 2, 1), (8, 1, 1), (2, 4, 1), (2, 2, 2))
DEPTH = 3
FLOAT_BYTES = 4
PUBLISHED_SIDE, PUBLISHED_WIDTH = 512, 32


def layers(width: int) -> dict[str, tuple[int, int]]:
    """Return the level and the input channels of each 3 x 3 x 3 convolution, in their order."""
    widths = [width << level for level in range(DEPTH + 1)]
    made = {}
    for level, own in enumerate(widths):
        made[f"down.{level}.0"] = level, widths[level - 1] if level else 1
        made[f"down.{level}.3"] = level, own
    for level in reversed(range(DEPTH)):
        made[f"merge.{level}.0"] = level, 2 * widths[level]
        made[f"merge.{level}.3"] = level, widths[level]
    return made


def least(side: int, mesh: Grid, level: int, channels: int) -> list[int]:
    """Return the bytes that each rank must receive for one convolution."""
    cuts = [[cut >> level for cut in even_cuts(side, parts, 1 << DEPTH)] for parts in mesh]
    made = []
    for place in product(*map(range, mesh)):
        parts = [(c[at], c[at + 1]) for c, at in zip(cuts, place, strict=True)]
        grown = prod(
            min(stop + 1, c[-1]) - max(start - 1, 0)
            for c, (start, stop) in zip(cuts, parts, strict=True)
        )
        own = prod(stop - start for start, stop in parts)
        made.append((grown - own) * channels * FLOAT_BYTES)
    return made


def received(side: int, width: int, shape: Grid) -> Counter[tuple[str, bool]]:
    """Be a rank: train one step, and return the bytes for each layer, there and back."""
    torch.manual_seed(0)
    network, mesh = UNet3d(base_width=width, depth=DEPTH), Mesh(shape)
    places = zip(shape, mesh.coordinate, strict=True)
    part = [
        cuts[at + 1] - cuts[at]
        for cuts, at in ((even_cuts(side, parts, 1 << DEPTH), at) for parts, at in places)
    ]
    partition(network, mesh)(torch.randn(1, 1, *part)).sum().backward()
    counted: Counter[tuple[str, bool]] = Counter()
    for exchange in mesh.journal.exchanges:
        back = exchange.operator.startswith("backward")
        counted[exchange.module.split(" ")[0], back] += exchange.received
    return counted


def measured_rows(side: int, width: int) -> list[tuple[object, ...]]:
    """Return for each layer and way the bytes of all ranks, and the ratios to the least."""
    known = layers(width)
    found = {}
    for mesh in MESHES:
        found[mesh] = Counter()
        for counted in on_ranks(prod(mesh), received, side, width, mesh):
            found[mesh].update(counted)
    rows: list[tuple[object, ...]] = []
    for back in (False, True):
        for name, (level, channels) in known.items():
            sent = [found[mesh].pop((name, back), 0) for mesh in MESHES]
            needed = [sum(least(side, mesh, level, channels)) for mesh in MESHES]
            if back and name == "down.0.0":
                needed = [0] * len(MESHES)
            ratios = {f"{s / n:.4f}" if n else str(s) for s, n in zip(sent, needed, strict=True)}
            cells = [f"{bytes_:,}" for bytes_ in sent]
            rows.append((name, level, channels, "back" if back else "there", *cells, *ratios))
    others = [sum(found[mesh].values()) for mesh in MESHES]
    rows.append(("all others", "", "", "both", *others, "0" if not any(others) else "MORE"))
    return rows


def predicted_rows() -> list[tuple[object, ...]]:
    """Return for each mesh what a pass over the published size exchanges, at least."""
    rows = []
    for mesh in MESHES:
        each = [
            sum(layer)
            for layer in zip(
                *(
                    least(PUBLISHED_SIDE, mesh, *layer)
                    for layer in layers(PUBLISHED_WIDTH).values()
                ),
                strict=True,
            )
        ]
        image = sum(least(PUBLISHED_SIDE, mesh, 0, 1))
        rows.append(
            (
                " x ".join(map(str, mesh)),
                format_size(max(each)),
                format_size(sum(each)),
                format_size(sum(each) - image),
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=64, help="of the volume that is run")
    parser.add_argument("--width", type=int, default=4, help="of the network that is run")
    arguments = parser.parse_args()
    print(
        f"{machine()}\n\nBytes that all ranks receive, {arguments.side}^3, width "
        f"{arguments.width}, depth {DEPTH}, float32:\n"
    )
    names = [" x ".join(map(str, mesh)) for mesh in MESHES]
    header = ("layer", "level", "channels", "way", *names, "of the least")
    print(table(header, measured_rows(arguments.side, arguments.width)))
    print(f"\nAt {PUBLISHED_SIDE}^3, width {PUBLISHED_WIDTH}:\n")
    print(table(("mesh", "most for a rank", "all, there", "all, back"), predicted_rows()))


if __name__ == "__main__":
    main()
