"""The engines side by side: forward passes of windows, without reading and writing.

    python benchmarks/engines.py [--sides 512 1216 2048] [--repetitions 5] [--precisions float32]
        [--engines eager openvino compile] [--networks bundled wide]

Every repetition runs all engines once on the same noise, one after the other, so that a machine
that speeds up or slows down does so for all; the best repetition of each counts. `prepared` is the
time until the first result for a shape: the conversion or compilation, and one pass. The last
column compares a window with one of another size, as a run does at its start.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from exactile.allocation import prepare
from exactile.bit_stability import check_bit_stability
from exactile.devices import choose_device, limit_threads
from exactile.engine import DTYPES, Engine, EngineName, Precision
from exactile.engines.choose import choose_engine
from exactile.locality import Analysis, analyze
from exactile.models.loading import load_model
from exactile.models.unet import UNet
from exactile.tiling import plan

HEADER = (
    "| network | precision | window | engine | seconds | Mpx/s | of eager | prepared, s | bits |",
    "|---|---|---|---|---|---|---|---|---|",
)


def bundled() -> nn.Module:
    return load_model().network


def wide() -> nn.Module:
    """Return a U-Net of width 32 and depth 4 with random weights."""
    torch.manual_seed(0)
    return UNet(base_width=32, depth=4).eval().requires_grad_(False)


NETWORKS: dict[str, Callable[[], nn.Module]] = {"bundled": bundled, "wide": wide}
ENGINES: tuple[EngineName, ...] = ("eager", "compile", "openvino")


def seconds(engine: Engine, noise: np.ndarray) -> float:
    """Return the time of a pass, up to the last logit."""
    begun = time.perf_counter()
    engine.logits(noise)[0, 0, 0, 0].item()
    return time.perf_counter() - begun


def rows(name: str, found: Analysis, engines: list[Engine], side: int, count: int) -> list[str]:
    """Return the table's rows for windows of `side` pixels."""
    noise = np.random.default_rng(0).standard_normal((1, 1, side, side), dtype=np.float32)
    prepared = [seconds(engine, noise) for engine in engines]
    times = [[seconds(engine, noise) for engine in engines] for _ in range(count)]
    best = [min(column) for column in zip(*times, strict=True)]
    tiling = plan((4 * side, 4 * side), found.locality, side)
    lines = []
    for engine, first, taken in zip(engines, prepared, best, strict=True):
        stable = check_bit_stability(engine, tiling, 1)
        lines.append(
            f"| {name} | {engine.precision} | {side} | {engine.name} | {taken:.3f} | "
            f"{side * side / taken / 1e6:.2f} | {best[0] / taken:.2f} | {first:.1f} | "
            f"{'equal to' if stable.equal else 'NOT those of'} {stable.other[0]} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[512, 1216, 2048])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--precisions", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    prepare()
    limit_threads(None)
    device = choose_device(arguments.device)
    print(*HEADER, sep="\n")
    for name in arguments.networks:
        network = NETWORKS[name]()
        found = analyze(network, 1)
        precision: Precision
        for precision in arguments.precisions:
            engines = [
                choose_engine(engine, network, device, precision, found, 1)
                for engine in arguments.engines
            ]
            for side in arguments.sides:
                lines = rows(name, found, engines, side, arguments.repetitions)
                print(*lines, sep="\n", flush=True)
    print(f"\n{', '.join(engine.describe() for engine in engines)}; torch {torch.__version__}")


if __name__ == "__main__":
    main()
