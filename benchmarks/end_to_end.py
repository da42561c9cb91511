"""Wall time of a whole run through files against the bare forward passes over the same windows.

    python benchmarks/end_to_end.py [--size 8192] [--engine openvino]

A run is a process of its own: it reads, takes statistics, checks, computes, compresses, writes
labels and their certificate. The bare passes are those of the same engine over windows of the same
shape and number, read beforehand and not timed; portions of them are made before, between and after
the runs, so that a machine that speeds up or slows down does so for both. The start-up (imports,
tracing, proof, checks) does not depend on the image's size and is given apart; without it, the
ratio must stay within 1.05.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from bench import (
    SLIDE_NAME,
    Run,
    add_options,
    machine,
    make_slide,
    options_of,
    run_exactile,
    shape_name,
    shape_of,
    spread,
    table,
    temporary_folder,
)

from exactile.allocation import prepare
from exactile.devices import limit_threads
from exactile.engine import Engine
from exactile.geometry import Box, Interval
from exactile.images import Plane, open_source
from exactile.job import make_job
from exactile.normalization import fit
from exactile.pipeline import Normalized
from exactile.settings import SegmentSettings


class BarePasses:
    """Forward passes alone, over windows as the run has them."""

    def __init__(self, engine: Engine, image: Normalized, run: Run) -> None:
        self.engine = engine
        self.image = image
        self.boxes = boxes(image.source.shape, run.plan["window"], run.plan["zone"])
        self.seconds: list[float] = []

    def make(self, count: int) -> None:
        """Make `count` passes more, and time each."""
        for _ in range(count):
            window = self.image.read(next(self.boxes))[None]
            begun = time.perf_counter()
            self.engine.run(window, lambda _: None)
            if self.engine.device.type == "cuda":
                torch.cuda.synchronize(self.engine.device)
            self.seconds.append(time.perf_counter() - begun)


def boxes(shape: tuple[int, ...], window: list[int], zone: list[int]) -> Iterator[Box]:
    """Yield windows over an image without end; a pass takes as long wherever its window lies."""
    sides = zip(shape, window, zone, strict=True)
    starts = [range(0, max(1, side - length + 1), step) for side, length, step in sides]
    while True:
        for places in product(*starts):
            yield Box(tuple(Interval(p, p + w) for p, w in zip(places, window, strict=True)))


def measure(
    options: dict[str, Any], folder: Path, repeats: int, most: int
) -> tuple[list[Run], list[float], str]:
    """Return the runs, the seconds of all bare passes, and what ran them."""
    images, results = folder / "images", folder / "results"
    # The first run is not counted: it warms the disk's cache, and shows the plan.
    first = run_exactile(options, images, results)
    portion = min(most, -(-first.plan["windows"] // (repeats + 1)))
    settings = SegmentSettings.from_options(options | {"inpDir": images, "outDir": results})
    job = make_job(settings)
    with open_source(images / SLIDE_NAME) as source:
        steps = fit(job.model.before, source, Plane(0, 0), (0,))
        image = Normalized(source, Plane(0, 0), (0,), steps)
        engine = next(engine for engine in job.engines if engine.name == first.engine)
        passes = BarePasses(engine, image, first)
        passes.make(2)
        passes.seconds.clear()
        passes.make(portion)
        runs = []
        for _ in range(repeats):
            runs.append(run_exactile(options, images, results))
            passes.make(portion)
    return runs, passes.seconds, engine.describe()


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=shape_of, default=(8192, 8192), help="8192, or 32768x16384")
    parser.add_argument("--engine", default="auto", help="auto, eager, compile or openvino")
    parser.add_argument("--repeats", type=int, default=2, help="how many runs")
    parser.add_argument("--portion", type=int, default=1000, help="most bare passes at a time")
    add_options(parser)
    arguments = parser.parse_args(words)
    prepare()
    limit_threads(None)
    with temporary_folder(arguments) as temporary:
        folder = Path(temporary)
        options = options_of(arguments, folder) | {"engine": arguments.engine}
        make_slide(folder / "images" / SLIDE_NAME, arguments.size)
        runs, passes, engine = measure(options, folder, arguments.repeats, arguments.portion)
    count = runs[0].plan["windows"]
    bare = mean(passes) * count
    pixels = arguments.size[0] * arguments.size[1] / 1e6
    window = " x ".join(map(str, runs[0].plan["window"]))
    print(f"{machine()}\n")
    print(
        f"{shape_name(arguments.size)}, {count} windows of {window}, {arguments.precision}, "
        f"{engine}; {len(passes)} bare passes of {min(passes):.3f} to {max(passes):.3f} s; "
        f"{len(runs)} runs.\n"
    )
    rows = [("bare forward passes", [bare]), ("start-up", [r.start_up for r in runs])]
    rows += [("the run without start-up", [r.work for r in runs])]
    rows += [("the whole run", [r.seconds for r in runs])]
    print(
        table(
            ("", "seconds", "Mpx/s", "ratio"),
            [
                (name, spread(taken), f"{pixels / mean(taken):.2f}", f"{mean(taken) / bare:.3f}")
                for name, taken in rows
            ],
        )
    )


if __name__ == "__main__":
    main()
