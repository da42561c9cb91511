"""Results written with and without smaller levels: file size, time and memory.

    python benchmarks/pyramids.py [--sizes 6144 12288]

Labels and soft numbers of two classes go through the sink, a tile of the file at a time, until the
file has its name: what a run does beside the network. Each row is a process of its own; its memory
is the largest that it had while it wrote, less what it had before. It must not depend on the size,
nor on the levels by more than a few tiles.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from bench import (
    PIECE,
    Shape,
    cells,
    machine,
    report_peak,
    run_child,
    shape_name,
    shape_of,
    table,
    temporary_folder,
)
from numpy.typing import NDArray

from exactile.allocation import prepare
from exactile.geometry import Box, Interval
from exactile.images import OmeTiffSink, OutputImage, Plane
from exactile.synthetic import slide

OUTPUTS = ("labels", "probabilities")


@cache
def piece(place: tuple[int, int], output: str) -> NDArray[Any]:
    """Return what is written (C, Y, X): the synthetic truth, or soft numbers of two classes."""
    y, x = (Interval(i * PIECE, (i + 1) * PIECE) for i in place)
    truth = slide(Box((y, x)))[1][None]
    if output == "labels":
        return truth
    noise = np.random.default_rng(place).standard_normal(truth.shape, dtype=np.float32)
    soft = 1 / (1 + np.exp(3 - 6 * truth - noise, dtype=np.float32))
    return np.concatenate([1 - soft, soft])


def write(path: Path, shape: Shape, output: str, pyramid: bool, report: Path) -> None:
    """Be the process: write synthetic pieces, and report."""
    prepare()
    pieces = {place: piece(place, output) for place, _ in cells(shape)}
    shown = next(iter(pieces.values()))
    image = OutputImage(
        shape,
        shown.dtype,
        size_c=len(shown),
        labels=("none", "cell") if output == "labels" else (),
        pyramid=pyramid,
    )
    base = resident_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the largest so far is forgotten
    begun = time.perf_counter()
    with OmeTiffSink(path, image) as sink:
        for place, box in cells(shape):
            inside = Box.of_shape(box.shape).slices
            sink.write(Plane(0, 0), box, pieces[place][(slice(None), *inside)])
    seconds = time.perf_counter() - begun
    beyond = resident_mb("VmHWM") - base
    file_mb = path.stat().st_size / 1e6
    report_peak(report, {"seconds": seconds, "file_mb": file_mb, "beyond_base_mb": beyond})


def resident_mb(name: str) -> float:
    """Return this process's memory, VmRSS, or the largest that it had, VmHWM."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def measure(folder: Path, shape: Shape, output: str, pyramid: bool) -> tuple[str, ...]:
    """Return the figures of a row, from a process of its own."""
    path = folder / "out.ome.tif"
    words = ("--be", path, shape_name(shape).replace(" ", ""), output, int(pyramid))
    child = run_child(Path(__file__), words, folder)
    path.unlink()
    names = ("file_mb", "seconds", "beyond_base_mb")
    return tuple(f"{child.report[name]:.1f}" for name in names)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=shape_of, nargs="+", default=[(6144, 6144), (12288, 12288)])
    parser.add_argument("--folder", type=Path, help="for the temporary files, which take space")
    arguments = parser.parse_args(words)
    rows = []
    with temporary_folder(arguments) as temporary:
        for output, shape, pyramid in product(OUTPUTS, arguments.sizes, (False, True)):
            figures = measure(Path(temporary), shape, output, pyramid)
            rows.append((shape_name(shape), output, "yes" if pyramid else "no", *figures))
    print(f"{machine()}\n")
    print(table(("image", "output", "levels", "file MB", "seconds", "memory MB"), rows))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--be"]:
        _, _, target, size, kind, levels, report_file = sys.argv
        write(Path(target), shape_of(size), kind, bool(int(levels)), Path(report_file))
    else:
        main()
