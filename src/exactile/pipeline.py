"""One plane through the network: read a window, run it, keep its zone, write it.

The three stages overlap, each at most `DEPTH` zones ahead of the next:

    read_windows  --2-->  run_windows  --2-->  sink.write
     (a thread)          (this thread)          (a thread)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exactile.engine import Engine, OutputType, finish
from exactile.errors import ExactileError, ImageError
from exactile.geometry import Box, Interval
from exactile.images.sink import Sink
from exactile.images.source import Plane, Source
from exactile.normalization import Statistics, normalize
from exactile.overlap import ahead, behind
from exactile.padding import reflect
from exactile.tiling import Plan, Tile

DEPTH = 2
"""How many zones a stage may be ahead of the next."""


class NetworkError(ExactileError):
    """The network could not be run on a window; the message names image and zone."""


@dataclass(frozen=True)
class NormalizedPlane:
    """A plane as the network sees it: normalised by its own statistics, padded at the end."""

    source: Source
    plane: Plane
    channels: tuple[int, ...]
    statistics: tuple[Statistics, ...]
    """One for each of `channels`."""

    def read(self, window: Box) -> NDArray[np.float32]:
        """Return the pixels (C, Y, X) of `window`, which may reach beyond the image's end."""
        indices = [reflect(a, n) for a, n in zip(window.axes, self.source.shape, strict=True)]
        needed = Box(tuple(Interval(int(i.min()), int(i.max()) + 1) for i in indices))
        pixels = self.source.read(self.plane, self.channels, needed)
        if needed != window:
            y, x = (i - start for i, start in zip(indices, needed.start, strict=True))
            pixels = pixels[:, y[:, None], x[None, :]]
        return normalize(pixels, self.statistics)


def segment_plane(
    image: NormalizedPlane,
    tiling: Plan,
    engine: Engine,
    output_type: OutputType,
    sink: Sink,
    advance: Callable[[int], None],
) -> None:
    """Write every zone of the plane to `sink`, and tell `advance` how many pixels were written.

    Raises:
        ImageError: if the source cannot be read.
        NetworkError: if the network cannot be run.
        OutputError: if the sink cannot be written.
    """

    def write(item: tuple[Box, NDArray[Any]]) -> None:
        zone, pixels = item
        sink.write(image.plane, zone, pixels)
        advance(zone.size)

    with (
        ahead(read_windows(image, tiling), DEPTH) as windows,
        behind(write, DEPTH) as writer,
    ):
        for item in run_windows(image, tiling, engine, output_type, windows):
            writer.put(item)


def read_windows(
    image: NormalizedPlane, tiling: Plan
) -> Iterator[tuple[Tile, NDArray[np.float32]]]:
    """Yield the passes of the plan with their pixels (C, Y, X)."""
    for tile in tiling.tiles():
        try:
            yield tile, image.read(tile.window)
        except ImageError as error:
            raise ImageError(f"{error} (needed for {_name(tile.zone)})") from error


def run_windows(
    image: NormalizedPlane,
    tiling: Plan,
    engine: Engine,
    output_type: OutputType,
    windows: Iterable[tuple[Tile, NDArray[np.float32]]],
) -> Iterator[tuple[Box, NDArray[Any]]]:
    """Yield zones, cut off at the image's end, with their output (C, Y, X)."""
    whole = Box.of_shape(tiling.shape)
    for tile, pixels in windows:
        zone = tile.zone & whole
        try:
            logits = engine.logits(pixels[None])[0]
            yield zone, finish(logits[zone.relative_to(tile.window).slices], output_type)
        except (RuntimeError, MemoryError) as error:
            raise network_failed(image.source.path, _name(zone), tiling, error) from error


def network_failed(path: Path, where: str, tiling: Plan, error: Exception) -> NetworkError:
    """Return the error that says where in the work on `path` the network failed, and why."""
    window = " x ".join(map(str, tiling.window))
    return NetworkError(
        f"{path}: the network failed at {where} with a window of {window}: {error}; if memory is "
        "short, use a smaller --tileSize"
    )


def _name(zone: Box) -> str:
    (y, x) = zone.axes[-2:]
    return f"zone y {y.start} to {y.stop}, x {x.start} to {x.stop}"
