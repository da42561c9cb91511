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

from exactile.errors import ExactileError, ImageError
from exactile.forward import ForwardPass
from exactile.geometry import Box, Interval
from exactile.images.sink import Sink
from exactile.images.source import Plane, Source
from exactile.normalization import normalize
from exactile.overlap import ahead, behind
from exactile.padding import reflect
from exactile.processing import Pointwise
from exactile.tiling import Plan, Tile

DEPTH = 2
"""How many zones a stage may be ahead of the next."""


class NetworkError(ExactileError):
    """The network could not be run on a window; the message names image and zone."""


@dataclass(frozen=True)
class Finished:
    """A pass that has been made."""

    tile: Tile
    pixels: NDArray[Any]
    """What is written for the zone, (C, Y, X)."""


@dataclass(frozen=True)
class NormalizedPlane:
    """A plane as the network sees it: normalised as a whole, padded at the end."""

    source: Source
    plane: Plane
    channels: tuple[int, ...]
    steps: tuple[Pointwise, ...]
    """The normalisation, with the numbers that were measured on this plane."""

    def read(self, window: Box) -> NDArray[np.float32]:
        """Return the pixels (C, Y, X) of `window`, which may reach beyond the image's end."""
        indices = [reflect(a, n) for a, n in zip(window.axes, self.source.shape, strict=True)]
        needed = Box(tuple(Interval(int(i.min()), int(i.max()) + 1) for i in indices))
        pixels = self.source.read(self.plane, self.channels, needed)
        if needed != window:
            y, x = (i - start for i, start in zip(indices, needed.start, strict=True))
            pixels = pixels[:, y[:, None], x[None, :]]
        return normalize(pixels, self.steps)


def segment_plane(
    image: NormalizedPlane,
    tiling: Plan,
    run: ForwardPass,
    sink: Sink,
    advance: Callable[[int], None],
    verify: Callable[[Finished], None],
) -> None:
    """Write every zone of the plane to `sink`, and tell `advance` how many pixels were written.

    `verify` sees each zone in this thread, between two passes of the network.

    Raises:
        ImageError: if the source cannot be read.
        NetworkError: if the network cannot be run.
        OutputError: if the sink cannot be written.
    """

    def write(done: Finished) -> None:
        sink.write(image.plane, done.tile.zone, done.pixels)
        advance(done.tile.zone.size)

    with (
        ahead(read_windows(image, tiling), DEPTH) as windows,
        behind(write, DEPTH) as writer,
    ):
        for done in run_windows(image, tiling, run, windows):
            writer.put(done)
            verify(done)


def read_windows(
    image: NormalizedPlane, tiling: Plan
) -> Iterator[tuple[Tile, NDArray[np.float32]]]:
    """Yield the passes of the plan with their pixels (C, Y, X)."""
    for tile in tiling.tiles():
        try:
            yield tile, image.read(tile.window)
        except ImageError as error:
            raise ImageError(f"{error} (needed for {zone_name(tile.zone)})") from error


def run_windows(
    image: NormalizedPlane,
    tiling: Plan,
    run: ForwardPass,
    windows: Iterable[tuple[Tile, NDArray[np.float32]]],
) -> Iterator[Finished]:
    """Yield the passes, their zones cut off at the image's end, with what they give."""
    whole = Box.of_shape(tiling.output_shape)
    for tile, pixels in windows:
        kept = tile.cut_to(whole)
        try:
            yield Finished(kept, run(pixels, kept.crop))
        except (RuntimeError, MemoryError) as error:
            raise network_failed(image.source.path, zone_name(kept.zone), tiling, error) from error


def network_failed(path: Path, where: str, tiling: Plan, error: Exception) -> NetworkError:
    """Return the error that says where in the work on `path` the network failed, and why."""
    window = " x ".join(map(str, tiling.window))
    return NetworkError(
        f"{path}: the network failed at {where} with a window of {window}: {error}; if memory is "
        "short, use a smaller --tileSize"
    )


def zone_name(zone: Box) -> str:
    """Return the place of `zone` in the output, for people."""
    (y, x) = zone.axes[-2:]
    return f"zone y {y.start} to {y.stop}, x {x.start} to {x.stop}"
