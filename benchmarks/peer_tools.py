"""What other tools make of a network, each in its most exact setting: one tool, one process.

    python benchmarks/peer_tools.py task.json report.json

All of them get the network in PyTorch's eager mode, channels_last, in inference mode, the image
normalised as a whole and reflected to a multiple of F, and windows of the shape that exactile
takes; all read and write the same kind of file. What a tool cannot know is worked out for it: F,
the halo, and the weights below.

whole              one pass over the image
csbdeep            tile_iterator with blocks of F and an overlap of the halo
monai-default      sliding_window_inference as it is: overlap 0.25, equal weights
monai-gaussian     overlap 0.5, Gaussian weights
monai-centre       zeros around the image; of each window its zone counts, nothing else
monai-rims         the zone counts fully, the halo beside it 2^-50 of that on each axis: it decides
                   only where no zone reaches, at the image's own edges, where windows are right
whole:ENGINE       one pass over the image by an engine of exactile: its reference
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from bench import report_peak
from numpy.typing import NDArray
from torch import Tensor

from exactile.allocation import prepare
from exactile.devices import choose_device, limit_threads
from exactile.engine import DTYPES
from exactile.engines.choose import choose_engine
from exactile.engines.eager import make_engine
from exactile.geometry import Interval
from exactile.models.loading import load_model
from exactile.models.model import Model
from exactile.normalization import fit_array, normalize
from exactile.padding import reflect
from exactile.processing import Measured

Labels = NDArray[np.uint8]

RIM = 2.0**-50
"""A power of two, so that weighting and dividing round nothing; its square is a normal float32."""
STRIP = 1024
"""Rows of which labels are made at a time."""


@dataclass(frozen=True)
class Task:
    """One tool's work on one image."""

    model: Model
    predict: Callable[[Tensor], Tensor]
    """From windows (N, C, Y, X) to logits, float32."""
    window: tuple[int, int]
    zone: tuple[int, int]
    package: Any
    """The module of the other tool, imported: that is start-up, not work."""

    def halo(self, axis: int) -> tuple[int, int]:
        """Return the halo before and after a zone on `axis`."""
        halo = self.model.locality.halo[axis]
        return halo.low, halo.high

    def labels(self, logits: Tensor) -> Labels:
        """Return the class numbers (Y, X) for `logits` (K, Y, X)."""
        strips = range(0, logits.shape[1], STRIP)
        made = [self.model.finishing.labels(logits[:, i : i + STRIP]) for i in strips]
        return np.asarray(torch.cat(made).numpy(), dtype=np.uint8)


def whole(task: Task, image: NDArray[np.float32]) -> Labels:
    return task.labels(task.predict(torch.from_numpy(image[None]))[0])


def csbdeep(task: Task, image: NDArray[np.float32]) -> Labels:
    """Go by csbdeep's tiles; what they give is made to labels at once, which takes least memory."""
    blocks = task.model.locality.alignment
    overlaps = [max(task.halo(axis)) // f for axis, f in enumerate(blocks)]
    counts = [
        len(task.package.Tiling(side // f, min(window // f, side // f), overlap))
        for side, window, f, overlap in zip(
            image.shape[1:], task.window, blocks, overlaps, strict=True
        )
    ]
    labels = np.empty(image.shape[1:], np.uint8)
    for tile, kept, place in task.package.tile_iterator(image[0], counts, tuple(blocks), overlaps):
        window = np.ascontiguousarray(tile)[None, None]
        labels[place] = task.labels(task.predict(torch.from_numpy(window))[0])[kept]
    return labels


def monai(
    task: Task, image: NDArray[np.float32], overlap: float | tuple[float, ...], **options: Any
) -> Labels:
    window = [min(w, side) for w, side in zip(task.window, image.shape[1:], strict=True)]
    logits = task.package.sliding_window_inference(
        torch.from_numpy(image[None]), window, 1, task.predict, overlap, **options
    )
    return task.labels(logits[0])


def monai_default(task: Task, image: NDArray[np.float32]) -> Labels:
    return monai(task, image, 0.25, padding_mode="reflect")


def monai_gaussian(task: Task, image: NDArray[np.float32]) -> Labels:
    return monai(task, image, 0.5, mode="gaussian", padding_mode="reflect")


def monai_centre(task: Task, image: NDArray[np.float32]) -> Labels:
    halos = [task.halo(0), task.halo(1)]
    padded = np.pad(image, [(0, 0), *halos])
    (y, _), (x, _) = halos
    labels = monai(task, padded, overlap_of(task), roi_weight_map=weights(task, 0.0))
    return labels[y : y + image.shape[1], x : x + image.shape[2]]


def monai_rims(task: Task, image: NDArray[np.float32]) -> Labels:
    return monai(task, image, overlap_of(task), roi_weight_map=weights(task, RIM))


def overlap_of(task: Task) -> tuple[float, ...]:
    """Return the overlaps with which windows follow one another by the length of a zone."""
    return tuple(1 - (z + 0.5) / w for z, w in zip(task.zone, task.window, strict=True))


def weights(task: Task, rim: float) -> Tensor:
    """Return the weight of each pixel of a window: 1 in its middle, `rim` for each axis beside."""
    sides = []
    for axis, length in enumerate(task.window):
        low, high = task.halo(axis)
        side = torch.full((length,), rim)
        side[low : length - high] = 1
        sides.append(side)
    return sides[0][:, None] * sides[1][None, :]


MODULES = {"csbdeep": "csbdeep.internals.predict", "monai": "monai.inferers"}

TOOLS: dict[str, Callable[[Task, NDArray[np.float32]], Labels]] = {
    "whole": whole,
    "csbdeep": csbdeep,
    "monai-default": monai_default,
    "monai-gaussian": monai_gaussian,
    "monai-centre": monai_centre,
    "monai-rims": monai_rims,
}


def predictor(model: Model, engine: str, task: dict[str, Any]) -> Callable[[Tensor], Tensor]:
    """Return what runs windows: PyTorch as it is, or one of exactile's engines."""
    device, precision = choose_device(task["device"]), task["precision"]
    if engine:
        chosen = choose_engine(
            engine,  # type: ignore[arg-type]
            model.network,
            device,
            precision,
            model.analysis,
            model.channels,
        )
        return lambda windows: chosen.logits(windows.numpy())
    network, dtype = make_engine(model.network, device, precision).network, DTYPES[precision]
    layout = torch.channels_last if task["layout"] == "channels_last" else torch.contiguous_format
    network.to(memory_format=layout)  # type: ignore[call-overload]

    def predict(windows: Tensor) -> Tensor:
        logits: Tensor = network(windows.to(device, dtype).contiguous(memory_format=layout))
        return logits.float().to("cpu", memory_format=torch.contiguous_format)

    return predict


def read(path: Path, model: Model) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """Return the image (1, Y, X) as the network sees it, padded, and its own height and width."""
    pixels = tifffile.imread(path)[None]
    shape = pixels.shape[1:]
    if any(not isinstance(step, Measured) for step in model.before):
        raise SystemExit(f"{model.name}: only a measured normalisation is compared")
    image = normalize(pixels, fit_array(model.before, pixels))
    for axis, (side, padded) in enumerate(zip(shape, model.locality.pad(shape), strict=True), 1):
        if padded != side:
            image = image.take(reflect(Interval(0, padded), side), axis)
    return image, shape


def write(path: Path, labels: Labels) -> None:
    """Write a file as exactile writes it: tiles of 1024, deflate of level 1."""
    tifffile.imwrite(
        path,
        labels,
        tile=(1024, 1024),
        compression="zlib",
        compressionargs={"level": 1},
        maxworkers=1,
        bigtiff=labels.nbytes > 2**31,
    )


def main(described: Path, report: Path) -> None:
    task = json.loads(described.read_text())
    sys.path.extend(task["packages"])
    if task["prepared"]:
        prepare()
    limit_threads(os.environ.get("NUM_THREADS"))
    model = load_model(Path(task["model"]), None)
    tool, _, engine = task["tool"].partition(":")
    window, zone = tuple(task["window"]), tuple(task["zone"])
    module = MODULES.get(tool.partition("-")[0])
    package = module and import_module(module)
    with torch.inference_mode():
        work = Task(model, predictor(model, engine, task), window, zone, package)
        make = TOOLS[tool]
        begun = time.perf_counter()
        image, shape = read(Path(task["image"]), model)
        labels = make(work, image)
    write(Path(task["output"]), np.ascontiguousarray(labels[: shape[0], : shape[1]]))
    report_peak(report, {"work_seconds": time.perf_counter() - begun})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
