"""Wall time of a run against the bare forward passes over the same windows.

    python benchmarks/overlap.py [--size 8192]

The run reads, normalises, checks bit-stability, computes, compresses and writes a synthetic slide
with the bundled model. The bare passes get the same windows, read beforehand and not timed, half
of them before the run and half of them after it, so that a machine that speeds up or slows down
does so for both. The ratio must stay within 1.10.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from exactile.allocation import prepare
from exactile.demo import make_slide
from exactile.devices import limit_threads
from exactile.engine import Engine
from exactile.images import Plane, open_source
from exactile.job import make_job
from exactile.normalization import fit
from exactile.pipeline import NormalizedPlane
from exactile.report.progress import LogWatcher
from exactile.segment import segment_collection
from exactile.settings import SegmentSettings
from exactile.tiling import Plan, Tile, plan


def seconds_of_passes(engine: Engine, image: NormalizedPlane, tiles: list[Tile]) -> float:
    """Return the time of the forward passes alone."""
    total = 0.0
    for tile in tiles:
        window = image.read(tile.window)[None]
        begun = time.perf_counter()
        engine.logits(window).sum().item()
        total += time.perf_counter() - begun
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=8192, help="side of the slide in pixels")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    arguments = parser.parse_args()
    prepare()
    limit_threads(None)
    with tempfile.TemporaryDirectory() as temporary:
        images, results = Path(temporary) / "images", Path(temporary) / "results"
        images.mkdir()
        path = images / "slide.ome.tif"
        make_slide(path, (arguments.size, arguments.size))
        settings = SegmentSettings.from_options(
            {"inpDir": images, "outDir": results, "precision": arguments.precision}
        )
        job = make_job(settings)
        with open_source(path) as source:
            tiling: Plan = plan(source.shape, job.model.locality, job.tile)
            steps = fit(job.model.before, source, Plane(0, 0), (0,))
            image = NormalizedPlane(source, Plane(0, 0), (0,), steps)
            tiles = list(tiling.tiles())
            half = len(tiles) // 2
            seconds_of_passes(job.run.engine, image, tiles[:2])
            bare = seconds_of_passes(job.run.engine, image, tiles[:half])
            begun = time.perf_counter()
            (result,) = segment_collection(settings, LogWatcher())
            run = time.perf_counter() - begun
            bare += seconds_of_passes(job.run.engine, image, tiles[half:])
    if result.error:
        raise SystemExit(result.error)
    pixels = arguments.size**2 / 1e6
    print("| | windows | seconds | Mpx/s | ratio |")
    print("|---|---|---|---|---|")
    print(f"| bare forward passes | {tiling.count} | {bare:.1f} | {pixels / bare:.2f} | 1.00 |")
    print(f"| the whole run | {tiling.count} | {run:.1f} | {pixels / run:.2f} | {run / bare:.3f} |")


if __name__ == "__main__":
    main()
