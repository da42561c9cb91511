"""Time for each pixel and peak memory against the size of the image.

    python benchmarks/scaling.py [--sizes 8192 16384 32768x16384 32768 65536x4096] [--width 4]

Each run is a process of its own that segments a slide made on the fly, streamed into its file. The
first size is run again between all others, and each is compared with the mean of the two runs of it
that stand beside: noise of the machine over minutes falls out. The time is that of the work; the
start-up (imports, tracing, proof, checks) does not depend on the size and is given apart.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench import (
    SLIDE_NAME,
    Run,
    Shape,
    add_options,
    machine,
    make_slide,
    options_of,
    run_exactile,
    shape_name,
    shape_of,
    table,
    temporary_folder,
)

BASE = "4096"
SIZES = ("8192", "16384", "32768", "65536x4096")


def nanoseconds(run: Run, shape: Shape) -> float:
    """Return the time of the work for a pixel of the image."""
    return run.work / (shape[0] * shape[1]) * 1e9


def computed_nanoseconds(run: Run, shape: Shape) -> float:
    """Return the time of the work for a pixel that goes through the network, halos included."""
    return nanoseconds(run, shape) / float(run.plan["computed_ratio"])


def row(shape: Shape, run: Run, beside: list[Run], base: Shape) -> tuple[object, ...]:
    """Return the table's row for `run`, compared with the runs of `base` beside it."""

    def ratio(value: float, others: list[float]) -> str:
        return f"{value * len(others) / sum(others):.3f}"

    return (
        shape_name(shape),
        run.plan["windows"],
        " x ".join(map(str, run.plan["window"])),
        f"{run.plan['computed_ratio']:.3f}",
        f"{run.start_up:.1f}",
        f"{run.work:.1f}",
        f"{nanoseconds(run, shape):.1f}",
        ratio(nanoseconds(run, shape), [nanoseconds(b, base) for b in beside]),
        ratio(computed_nanoseconds(run, shape), [computed_nanoseconds(b, base) for b in beside]),
        f"{run.peak_mb:.0f}",
        ratio(run.peak_mb, [b.peak_mb for b in beside]),
    )


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=shape_of, default=shape_of(BASE), help="run between others")
    parser.add_argument(
        "--sizes",
        type=shape_of,
        nargs="+",
        default=[*map(shape_of, SIZES)],
        help="8192, 32768x16384",
    )
    parser.add_argument("--engine", default="auto", help="auto, eager, compile or openvino")
    add_options(parser)
    arguments = parser.parse_args(words)
    with temporary_folder(arguments) as temporary:
        folder = Path(temporary)
        options = options_of(arguments, folder) | {"engine": arguments.engine}

        def run(shape: Shape) -> Run:
            images = folder / shape_name(shape).replace(" ", "")
            slide = images / SLIDE_NAME
            if not slide.exists():
                make_slide(slide, shape)
            found = run_exactile(options, images, folder / "results")
            if shape != arguments.base:
                slide.unlink()
            return found

        run(arguments.base)
        bases, runs = [run(arguments.base)], []
        for shape in arguments.sizes:
            runs.append(run(shape))
            bases.append(run(arguments.base))
    print(f"{machine()}; {arguments.precision}, engine {arguments.engine}\n")
    header: tuple[str, ...] = (
        "image",
        "windows",
        "window",
        "computed / output px",
        "start-up, s",
        "work, s",
    )
    header += ("ns / px", "ratio", "ratio for a computed px", "peak MB", "ratio")
    rows = [row(arguments.base, run, bases, arguments.base) for run in bases]
    for index, (shape, found) in enumerate(zip(arguments.sizes, runs, strict=True)):
        rows.insert(2 * index + 1, row(shape, found, bases[index : index + 2], arguments.base))
    print(table(header, rows))


if __name__ == "__main__":
    main()
