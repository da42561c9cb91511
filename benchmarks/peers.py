"""The same network in the same windows on the same image: exactile beside other tools.

    pip install -r benchmarks/requirements.txt
    python benchmarks/peers.py [--size 4096] [--precision bfloat16]

Each tool is a process of its own that reads the file, makes labels and writes them; all take turns,
`--rounds` times, and a ratio is the mean of those within the rounds, to the first tool of the list.
Times are compared without the start-up, which does not grow with the image: imports for all, the
proof and the checks for exactile. (The others get model, F and halo from exactile too: by
themselves they would start sooner than they do here.) `peer_tools.py` says what they do. Label
errors are pixels that differ from one pass over the whole image: exactile's engines against a pass
of their own, the others against PyTorch's. Where the image exceeds `--whole` megapixels there is no
such pass, and the labels of the first tool stand for it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from bench import (
    SLIDE_NAME,
    Run,
    add_options,
    in_turn,
    machine,
    make_slide,
    options_of,
    run_child,
    run_exactile,
    shape_name,
    shape_of,
    spread,
    table,
    temporary_folder,
)

from exactile.geometry import Box, Interval
from exactile.images import Plane, open_source
from exactile.models.loading import BUNDLED

EXACTILE = "exactile:"
WHOLE = "whole"
DEFAULT_TOOLS: tuple[str, ...] = (
    "exactile:openvino",
    "exactile:eager",
    "exactile:compile",
    "csbdeep",
)
DEFAULT_TOOLS += ("monai-default", "monai-gaussian", "monai-centre", "monai-rims", WHOLE)
PACKAGES = {"csbdeep": "csbdeep", "monai": "monai"}
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Taken:
    """What one tool took for the image once."""

    seconds: float
    work: float
    """Seconds without the start-up."""
    peak_mb: float


class Comparison:
    """The tools on one image."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.arguments = arguments
        self.folder = folder
        self.images = folder / "images"
        self.image = self.images / SLIDE_NAME
        make_slide(self.image, arguments.size)
        self.options = {"tileSize": arguments.tile} | options_of(arguments, folder)
        # Not counted: it warms the disk's cache, and shows the windows.
        self.plan = self._exactile(arguments.tools[0]).plan

    def output(self, tool: str) -> Path:
        """Return the file with the labels of `tool`."""
        if tool.startswith(EXACTILE):
            return self.folder / tool.removeprefix(EXACTILE) / SLIDE_NAME
        return self.folder / f"{tool.replace(':', '-')}.tif"

    def run(self, tool: str) -> Taken:
        """Run `tool` once."""
        if tool.startswith(EXACTILE):
            run = self._exactile(tool)
            return Taken(run.seconds, run.work, run.peak_mb)
        arguments = self.arguments
        task: Mapping[str, Any] = {
            "tool": tool,
            "image": str(self.image),
            "model": str(self.options.get("model", BUNDLED)),
            "output": str(self.output(tool)),
            "window": self.plan["window"],
            "zone": self.plan["zone"],
            "precision": arguments.precision,
            "device": arguments.device,
            "layout": arguments.layout,
            "prepared": arguments.prepared,
            "packages": [str(folder) for folder in arguments.packages],
        }
        described = self.folder / "task.json"
        described.write_text(json.dumps(task))
        child = run_child(HERE / "peer_tools.py", [described], self.folder)
        return Taken(child.seconds, child.report["work_seconds"], child.peak_mb)

    def _exactile(self, tool: str) -> Run:
        engine = tool.removeprefix(EXACTILE)
        return run_exactile(self.options | {"engine": engine}, self.images, self.folder / engine)

    def errors(self, tool: str, whole: bool) -> int | None:
        """Return how many labels of `tool` differ from its reference; None if it is one itself."""
        reference = self.arguments.tools[0]
        if whole:
            engine = tool.removeprefix(EXACTILE) if tool.startswith(EXACTILE) else ""
            reference = f"{WHOLE}:{engine}" if engine else WHOLE
        if tool == reference:
            return None
        if not self.output(reference).exists():
            self.run(reference)
        return different(self.output(reference), self.output(tool), self.arguments.size)


def different(first: Path, second: Path, shape: tuple[int, int]) -> int:
    """Return how many pixels of two files differ, read in strips."""
    count = 0
    with open_source(first) as a, open_source(second) as b:
        for rows in Interval(0, shape[0]).split(1024):
            box = Box((rows, Interval(0, shape[1])))
            read = [source.read(Plane(0, 0), (0,), box) for source in (a, b)]
            count += int(np.count_nonzero(read[0] != read[1]))
    return count


def check_packages(tools: list[str], packages: list[Path]) -> None:
    """See that the other tools are there, and end with what to install if not."""
    sys.path.extend(str(folder) for folder in packages)
    needed = {
        package for start, package in PACKAGES.items() if any(t.startswith(start) for t in tools)
    }
    missing = sorted(name for name in needed if importlib.util.find_spec(name) is None)
    if missing:
        sys.exit(
            f"{', '.join(missing)} cannot be imported; pip install -r benchmarks/requirements.txt, "
            "or name the folder with --packages, or choose other --tools"
        )


def rows(
    comparison: Comparison, found: Mapping[str, list[Taken]], whole: bool
) -> list[tuple[object, ...]]:
    """Return the table's rows, one for each tool."""
    first = next(iter(found.values()))
    height, width = comparison.arguments.size

    def ratio(taken: list[Taken], what: Callable[[Taken], float]) -> str:
        return f"{mean(what(t) / what(f) for t, f in zip(taken, first, strict=True)):.2f}"

    made: list[tuple[object, ...]] = []
    for tool, taken in found.items():
        errors = comparison.errors(tool, whole)
        made.append(
            (
                tool,
                spread([t.seconds for t in taken]),
                spread([t.work for t in taken]),
                f"{height * width / 1e6 / mean(t.work for t in taken):.2f}",
                ratio(taken, lambda t: t.work),
                spread([t.peak_mb for t in taken], 0),
                ratio(taken, lambda t: t.peak_mb),
                "the reference" if errors is None else f"{errors:,}",
            )
        )
    return made


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=shape_of, default=(4096, 4096), help="8192, or 32768x16384")
    parser.add_argument(
        "--tools",
        nargs="+",
        default=list(DEFAULT_TOOLS),
        help=f"in turn; the first, one of exactile's, is compared with: {' '.join(DEFAULT_TOOLS)}",
    )
    parser.add_argument("--tile", default="1216", help="side of all windows, or auto")
    parser.add_argument("--rounds", type=int, default=2, help="how often each tool runs")
    parser.add_argument(
        "--whole", type=float, default=17, help="most Mpx for a pass over the whole"
    )
    parser.add_argument(
        "--layout",
        default="channels_last",
        choices=("channels_last", "contiguous"),
        help="of the network that the others get",
    )
    parser.add_argument(
        "--prepared",
        action="store_true",
        help="let the others take memory from the system as exactile does (exactile.allocation)",
    )
    parser.add_argument(
        "--packages", type=Path, action="append", default=[], help="folder of the other tools"
    )
    add_options(parser)
    arguments = parser.parse_args(words)
    if not arguments.tools[0].startswith(EXACTILE):
        parser.error("the first of --tools must be one of exactile's, such as exactile:eager")
    whole = arguments.size[0] * arguments.size[1] / 1e6 <= arguments.whole
    if not whole:
        arguments.tools = [tool for tool in arguments.tools if tool != WHOLE]
    check_packages(arguments.tools, arguments.packages)
    with temporary_folder(arguments) as temporary:
        comparison = Comparison(arguments, Path(temporary))
        runs = {tool: partial(comparison.run, tool) for tool in arguments.tools}
        made = rows(comparison, in_turn(runs, arguments.rounds), whole)
    print(f"{machine()}\n")
    plan = comparison.plan
    print(
        f"{shape_name(arguments.size)}, {plan['windows']} windows of "
        f"{' x '.join(map(str, plan['window']))}, {arguments.precision}, the others "
        f"{arguments.layout}{', memory as exactile' * arguments.prepared}; {arguments.rounds} "
        f"rounds; reference: {'one pass over the whole' if whole else arguments.tools[0]}.\n"
    )
    header = ("tool", "seconds", "without start-up", "Mpx/s", "ratio", "peak MB", "ratio")
    print(table((*header, "label errors"), made))


if __name__ == "__main__":
    main()
