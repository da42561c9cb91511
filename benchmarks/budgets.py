"""Peak memory of a run against the budget that --memory gives it.

    python benchmarks/budgets.py [--size 12288] [--budgets 1GB 2GB 4GB 8GB] [--width 16]

Each run is a process of its own. Its base is the peak of a run on an image of 64 x 64 pixels with
the same options: interpreter, libraries, weights, tracing, proof. What the other runs take beyond
that must not be more than the budget.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench import (
    SLIDE_NAME,
    add_options,
    machine,
    make_slide,
    options_of,
    run_exactile,
    shape_of,
    table,
    temporary_folder,
)

from exactile.memory.size import parse_size_in_bytes

OUTPUTS = ("labels", "probabilities")


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=shape_of, default=(12_288, 12_288), help="of the slide")
    parser.add_argument("--budgets", nargs="+", default=["1GB", "2GB", "4GB", "8GB"])
    parser.add_argument("--engine", default="auto", help="auto, eager, compile or openvino")
    add_options(parser)
    arguments = parser.parse_args(words)
    rows = []
    with temporary_folder(arguments) as temporary:
        folder = Path(temporary)
        small, large = folder / "small", folder / "large"
        make_slide(small / SLIDE_NAME, (64, 64))
        make_slide(large / SLIDE_NAME, arguments.size)
        for output in OUTPUTS:
            options = options_of(arguments, folder) | {
                "engine": arguments.engine,
                "outputType": output,
            }
            base = run_exactile(options, small, folder / "results").peak_mb
            for budget in arguments.budgets:
                run = run_exactile(options | {"memory": budget}, large, folder / "results")
                beyond = (run.peak_mb - base) * 1e6
                share = beyond / parse_size_in_bytes(budget)
                window = " x ".join(map(str, run.plan["window"]))
                rows.append(
                    (
                        output,
                        budget,
                        window,
                        f"{run.plan['computed_ratio']:.3f}",
                        f"{base:.0f}",
                        f"{run.peak_mb:.0f}",
                        f"{share:.2f}",
                        "yes" if share <= 1 else "NO",
                    )
                )
    print(f"{machine()}; {arguments.precision}, engine {arguments.engine}\n")
    header = ("output", "budget", "window", "computed / output px", "base, MB", "peak, MB")
    print(table((*header, "beyond the base / budget", "within"), rows))


if __name__ == "__main__":
    main()
