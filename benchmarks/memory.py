"""Peak memory of a run against the size of its image.

    python benchmarks/memory.py [--sizes 4096 8192 16384 32768x16384]

Each row is a process of its own that segments a slide made on the fly with a narrow U-Net of the
published depth under one budget. The ratio is against the 8192 x 8192 row of the same output type.
The largest image must stay within 1.10.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import (
    SLIDE_NAME,
    Run,
    Shape,
    machine,
    make_model,
    make_slide,
    run_exactile,
    shape_name,
    shape_of,
    table,
)

SIZES = ("4096", "8192", "16384", "32768x16384")
OUTPUTS = ("labels", "probabilities")
COMPARED_WITH = (8192, 8192)
WIDTH = 4
BUDGET = "1GB"
"""With more, larger images get larger windows."""


def run_with(output: str, images: Path, folder: Path) -> Run:
    """Segment the slide in `images` with the model in `folder`, where the results go, too."""
    options = {"model": str(folder / "model"), "outputType": output, "memory": BUDGET}
    return run_exactile(options, images, folder / "results")


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = [*map(shape_of, SIZES)]
    parser.add_argument("--sizes", type=shape_of, nargs="+", default=sizes, help="32768x16384")
    runs: dict[tuple[str, Shape], Run] = {}
    sizes = sorted({COMPARED_WITH, *parser.parse_args(words).sizes})
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_model(folder / "model", WIDTH)
        for shape in sizes:
            slide = folder / shape_name(shape) / SLIDE_NAME
            make_slide(slide, shape)
            for output in OUTPUTS:
                runs[output, shape] = run_with(output, slide.parent, folder)
            slide.unlink()
    print(f"{machine()}\n")
    rows = [
        (
            shape_name(shape),
            output,
            f"{run.peak_mb:.0f}",
            f"{run.peak_mb / runs[output, COMPARED_WITH].peak_mb:.2f}",
            f"{run.seconds:.0f}",
        )
        for (output, shape), run in sorted(runs.items())
    ]
    print(table(("image", "output", "peak MB", "ratio to 8192 x 8192", "seconds"), rows))


if __name__ == "__main__":
    main()
