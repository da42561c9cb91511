"""What the benchmarks share: slides, models, runs in processes of their own, tables.

    python benchmarks/bench.py options.json report.json

is such a process: it segments with the options of `exactile segment`, and reports its own peak
memory. The kernel's figure for a child that the parent asks for would begin at the parent's size.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from exactile.allocation import prepare
from exactile.devices import limit_threads
from exactile.geometry import Box, Interval
from exactile.images import OmeTiffSink, OutputImage, Plane
from exactile.models.saving import save_model
from exactile.models.unet import UNet
from exactile.report.progress import LogWatcher
from exactile.segment import segment_collection
from exactile.settings import SegmentSettings
from exactile.synthetic import slide

SLIDE_NAME = "slide.ome.tif"
PIECE = 1024
PERIOD = 4
"""Pieces after which a slide repeats itself, on both axes."""

Shape = tuple[int, int]
T = TypeVar("T")


@dataclass(frozen=True)
class Child:
    """How a process of its own went."""

    seconds: float
    """From its start to its end, as its parent saw it."""
    peak_mb: float
    """Its largest resident memory."""
    report: Mapping[str, Any]
    """What it wrote down."""


@dataclass(frozen=True)
class Run:
    """A run of exactile in a process of its own, over one image."""

    seconds: float
    """All of the process."""
    start_up: float
    """Of which for what does not grow with the image: imports, tracing, proof, plan, checks."""
    peak_mb: float
    plan: Mapping[str, Any]
    """The plan, as the certificate has it."""
    engine: str
    """What ran the windows: never auto."""

    @property
    def work(self) -> float:
        """Seconds without those of the start-up."""
        return self.seconds - self.start_up


def shape_of(text: str) -> Shape:
    """Return height and width for `8192`, a square, or `32768x16384`, width by height."""
    width, _, height = text.partition("x")
    return int(height or width), int(width)


def shape_name(shape: Shape) -> str:
    return f"{shape[1]} x {shape[0]}"


@cache
def pieces(period: int) -> dict[tuple[int, int], NDArray[np.uint16]]:
    """Return the synthetic slide's pixels by row and column of its first pieces."""
    grid = [Interval(i * PIECE, (i + 1) * PIECE) for i in range(period)]
    return {
        (row, column): slide(Box((grid[row], grid[column])))[0]
        for row, column in product(range(period), repeat=2)
    }


def cells(shape: Shape) -> Iterable[tuple[tuple[int, int], Box]]:
    """Yield the place in the repeated part and the box of each piece of a slide, row by row."""
    rows, columns = (list(Interval(0, side).split(PIECE)) for side in shape)
    for (i, row), (j, column) in product(enumerate(rows), enumerate(columns)):
        yield (i % PERIOD, j % PERIOD), Box((row, column))


def make_slide(path: Path, shape: Shape) -> None:
    """Write a uint16 slide of `shape` piece by piece; what it shows repeats itself."""
    used = max(min(PERIOD, -(-side // PIECE)) for side in shape)
    shown = pieces(used)
    path.parent.mkdir(parents=True, exist_ok=True)
    with OmeTiffSink(path, OutputImage(shape, np.dtype(np.uint16))) as sink:
        for place, box in cells(shape):
            sink.write(Plane(0, 0), box, shown[place][Box.of_shape(box.shape).slices][None])


def make_model(folder: Path, width: int, depth: int = 4) -> None:
    """Save a U-Net of `width` and `depth` (published: 64 and 4) with random weights."""
    torch.manual_seed(0)
    architecture = {
        "channels": 1,
        "classes": 2,
        "base_width": width,
        "depth": depth,
        "convolutions": 2,
    }
    text = dict.fromkeys(("description", "license", "data_source", "acknowledgement"), "none")
    description = {
        "name": f"random {width}",
        "version": "0",
        "architecture": {"name": "unet", **architecture},
        "normalization": "zscore",
        "classes": ("background", "object"),
        "training": {},
        "metrics": {},
    }
    network = UNet(**architecture)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.2, 0.6)
            torch.nn.init.uniform_(module.bias, -0.3, 0.3)
    save_model(folder, network.eval(), text | description)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is run."""
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--width", type=int, help="of a random U-Net, instead of the bundled model")
    parser.add_argument("--depth", type=int, default=4, help="of that U-Net")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another option of exactile segment, such as tileSize=1216; as often as needed",
    )
    parser.add_argument("--folder", type=Path, help="for the temporary files, which take space")


def options_of(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the options of `exactile segment`; a random model is made in `folder`."""
    options: dict[str, Any] = dict(pair.split("=", 1) for pair in arguments.set)
    options |= {"precision": arguments.precision, "device": arguments.device}
    if arguments.width is not None:
        make_model(folder / "model", arguments.width, arguments.depth)
        options["model"] = str(folder / "model")
    return options


def temporary_folder(arguments: argparse.Namespace) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(dir=arguments.folder)


def run_child(script: Path, words: Sequence[object], folder: Path) -> Child:
    """Run `script` with `words` and the name of a report file in `folder`, and wait for it.

    The process must end with `report_peak`.
    """
    report = folder / "report.json"
    command = [sys.executable, str(script), *map(str, words), str(report)]
    begun = time.perf_counter()
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    seconds = time.perf_counter() - begun
    if ended.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{ended.stdout[-2000:]}")
    found = json.loads(report.read_text())
    report.unlink()
    return Child(seconds, found.pop("peak_mb"), found)


def report_peak(path: Path, report: Mapping[str, Any]) -> None:
    """Write `report` and this process's peak memory, for the parent."""
    status = Path("/proc/self/status").read_text().splitlines()
    kilobytes = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    path.write_text(json.dumps({**report, "peak_mb": kilobytes / 1024}))


def run_exactile(options: Mapping[str, Any], images: Path, results: Path) -> Run:
    """Segment the one image in `images` anew, in a process of its own."""
    shutil.rmtree(results, ignore_errors=True)
    folder = results.parent
    listed = folder / "options.json"
    listed.write_text(json.dumps({**options, "inpDir": str(images), "outDir": str(results)}))
    child = run_child(Path(__file__), [listed], folder)
    start_up = child.seconds - child.report["image_seconds"] + child.report["check_seconds"]
    return Run(child.seconds, start_up, child.peak_mb, child.report["plan"], child.report["engine"])


def segment(options: Mapping[str, Any], report: Path) -> None:
    """Be the process: segment, and say how long the image and the checks before it took."""
    # The first image imports these otherwise, and the start-up would be counted as its work.
    for package in ("bfio", "PIL.Image"):
        import_module(package)
    prepare()
    limit_threads(os.environ.get("NUM_THREADS"))
    settings = SegmentSettings.from_options(dict(options))
    (result,) = segment_collection(settings, LogWatcher())
    certificate = result.certificate
    if certificate is None:
        raise SystemExit(result.error or "the image was finished before")
    plan = certificate.plan
    report_peak(
        report,
        {
            "image_seconds": result.seconds,
            "check_seconds": certificate.seconds["check"],
            "engine": certificate.engine,
            "plan": {
                "window": plan.window,
                "zone": plan.zone,
                "windows": plan.windows,
                "computed_ratio": plan.computed_ratio,
            },
        },
    )


def in_turn(runs: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Call all of `runs` one after the other, `rounds` times, so that noise meets all of them."""
    found: dict[str, list[T]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            found[name].append(run())
    return found


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Return the mean, and least and largest where there are several."""
    text = f"{mean(values):.{digits}f}"
    if len(values) > 1:
        text += f" ({min(values):.{digits}f} to {max(values):.{digits}f})"
    return text


def machine() -> str:
    """Return what this machine is, for people."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{names[0] if names else platform.machine()}, {len(os.sched_getaffinity(0))} cores used, "
        f"{memory:.0f} GB, load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, "
        f"torch {torch.__version__}"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


if __name__ == "__main__":
    segment(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
