"""Peak memory of a run against the size of its image.

    python benchmarks/memory.py

Each row is a process of its own that segments an image made on the fly with a narrow U-Net of the
published depth under one budget; its peak resident memory is the kernel's own figure. The ratio is
against the 8k x 8k row of the same output type. The largest image must stay within 1.10.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from exactile.geometry import Box, Interval
from exactile.images import OmeTiffSink, OutputImage, Plane
from exactile.models.saving import save_model
from exactile.models.unet import UNet

SIZES = ((4096, 4096), (8192, 8192), (16384, 16384), (16384, 32768))
OUTPUTS = ("labels", "probabilities")
COMPARED_WITH = (8192, 8192)
BUDGET = "1GB"
"""With more, larger images get larger windows."""


def make_image(path: Path, shape: tuple[int, int]) -> None:
    """Write noise that repeats every 1024 pixels, plus the number of the piece."""
    noise = np.random.default_rng(0).integers(0, 4000, (1024, 1024)).astype(np.uint16)
    with OmeTiffSink(path, OutputImage(shape, np.dtype(np.uint16))) as sink:
        for row in Interval(0, shape[0]).split(1024):
            for column in Interval(0, shape[1]).split(1024):
                box = Box((row, column))
                sink.write(
                    Plane(0, 0),
                    box,
                    (noise[Box.of_shape(box.shape).slices] + column.start % 977)[None],
                )


def make_model(folder: Path) -> None:
    """Save a U-Net of the published depth and a sixteenth of its width, with random weights."""
    torch.manual_seed(0)
    architecture = {"channels": 1, "classes": 2, "base_width": 4, "depth": 4, "convolutions": 2}
    text = dict.fromkeys(("description", "license", "data_source", "acknowledgement"), "none")
    description = {
        "name": "narrow",
        "version": "0",
        "architecture": {"name": "unet", **architecture},
        "normalization": "zscore",
        "classes": ("background", "object"),
        "training": {},
        "metrics": {},
    }
    save_model(folder, UNet(**architecture).eval(), text | description)


def peak_of_run(images: Path, results: Path, model: Path, output: str) -> tuple[float, float]:
    """Segment in a process of its own; return its peak resident memory in MB and its seconds."""
    command = [sys.executable, "-m", "exactile", "segment", "--inpDir", str(images)]
    command += ["--outDir", str(results), "--model", str(model), "--outputType", output]
    command += ["--memory", BUDGET]
    begun = time.monotonic()
    process = subprocess.Popen(command, env=os.environ | {"POLUS_LOG": "ERROR"})
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # it was not told
    if process.returncode != 0:
        raise SystemExit(f"the run failed with code {process.returncode}")
    return usage.ru_maxrss / 1024, time.monotonic() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--largest", type=int, default=len(SIZES), help="how many of the sizes")
    sizes = SIZES[: parser.parse_args().largest]
    peaks: dict[tuple[str, tuple[int, int]], tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_model(folder / "model")
        for shape in sizes:
            images = folder / "images"
            images.mkdir(exist_ok=True)
            make_image(images / "image.ome.tif", shape)
            for output in OUTPUTS:
                results = folder / "results"
                peaks[output, shape] = peak_of_run(images, results, folder / "model", output)
                (results / "image.ome.tif").unlink()
    print("| image | output | peak MB | ratio to 8k x 8k | seconds |")
    print("|---|---|---|---|---|")
    for output in OUTPUTS:
        for shape in sizes:
            peak, seconds = peaks[output, shape]
            ratio = peak / peaks[output, COMPARED_WITH][0]
            print(
                f"| {shape[1]} x {shape[0]} | {output} | {peak:.0f} | {ratio:.2f} | {seconds:.0f} |"
            )


if __name__ == "__main__":
    main()
