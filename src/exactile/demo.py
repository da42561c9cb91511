"""The demonstration: a slide made on the spot, segmented, measured and drawn."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from exactile.errors import ExactileError, OutputError
from exactile.geometry import Box, Interval
from exactile.images import (
    ImageMetadata,
    OmeTiffSink,
    OutputImage,
    PhysicalSize,
    Plane,
    open_source,
)
from exactile.report.overlay import draw_overlay
from exactile.report.progress import Watcher
from exactile.segment import ImageResult, segment_collection
from exactile.settings import SegmentSettings
from exactile.synthetic import slide

SLIDE_NAME = "slide.ome.tif"
PIECE = 1024

MEMORY = "1GB"
"""Less than the slide takes as one window, so that there is something to see."""


@dataclass(frozen=True)
class Demonstration:
    """What was made, and how good it is."""

    slide: Path
    labels: Path
    overlay: Path
    result: ImageResult
    dice: float
    """Of the colony class, against the synthetic truth."""


def demonstrate(
    out_dir: Path, shape: tuple[int, int], watcher: Watcher, tile_size: str = "auto"
) -> Demonstration:
    """Make a slide of `shape` (Y, X) in `out_dir`, segment it with the bundled model, draw it.

    Raises:
        ExactileError: if the folder cannot be written, or the segmentation fails.
    """
    images, results = out_dir / "slide", out_dir / "labels"
    try:
        for folder in (images, results):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"--outDir {out_dir}: cannot be made ({error.strerror}); choose another folder"
        ) from error
    path = images / SLIDE_NAME
    make_slide(path, shape)
    settings = SegmentSettings.from_options(
        {
            "inpDir": images,
            "outDir": results,
            "tileSize": tile_size,
            "memory": MEMORY,
            "resume": "false",
        }
    )
    (result,) = segment_collection(settings, watcher)
    if result.error:
        raise ExactileError(result.error)
    labels, overlay = results / SLIDE_NAME, out_dir / "overlay.png"
    with open_source(path) as image, open_source(labels) as found:
        draw_overlay(image, found, overlay)
    return Demonstration(path, labels, overlay, result, dice_of_slide(labels))


def make_slide(path: Path, shape: tuple[int, int], seed: int = 0) -> None:
    """Write the synthetic slide of `shape` (Y, X) as uint16 OME-TIFF, piece by piece."""
    pixel = PhysicalSize(0.65)
    metadata = ImageMetadata(x=pixel, y=pixel, channels=("phase contrast",), name=path.name)
    image = OutputImage(shape, np.dtype(np.uint16), metadata=metadata)
    with OmeTiffSink(path, image) as sink:
        for box in _pieces(shape):
            sink.write(Plane(0, 0), box, slide(box, seed)[0][None])


def dice_of_slide(labels: Path, seed: int = 0) -> float:
    """Return the Dice coefficient of the colonies in `labels` against the slide's truth."""
    common = total = 0
    with open_source(labels) as source:
        for box in _pieces(source.shape):
            found = source.read(Plane(0, 0), (0,), box)[0] == 1
            truth = slide(box, seed)[1] == 1
            common += int((found & truth).sum())
            total += int(found.sum()) + int(truth.sum())
    return 2 * common / total if total else 1.0


def _pieces(shape: tuple[int, int]) -> list[Box]:
    rows, columns = (Interval(0, side).split(PIECE) for side in shape)
    return [Box(axes) for axes in product(rows, columns)]
