"""One plane or volume through the network: read a window, run it, keep its zone, write it.

The three stages overlap, each at most `DEPTH` zones ahead of the next:

    read_windows  --2-->   run_window   --2-->   write_zone
     (a thread)          (this thread)          (a thread)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exactile.errors import ExactileError, ImageError
from exactile.finishing import Arriving
from exactile.forward import ForwardPass
from exactile.geometry import Box, Interval
from exactile.images.sink import Sink
from exactile.images.source import Source, Whole
from exactile.normalization import normalize_in_place
from exactile.overlap import ahead, behind
from exactile.padding import mirror, reflect
from exactile.processing import Pointwise
from exactile.real_pixels import RealPixelCheck, RealPixels, Sample
from exactile.recycling import Recycled
from exactile.shortage import is_shortage
from exactile.tiling import Plan, Tile
from exactile.verification import Verifier

logger = logging.getLogger(__name__)

DEPTH = 2
"""How many zones a stage may be ahead of the next."""


class NetworkError(ExactileError):
    """The network could not be run on a window; the message names image and zone."""


@dataclass(frozen=True)
class Normalized:
    """A plane or a volume as the network sees it: normalised as a whole, padded at the end."""

    source: Source
    whole: Whole
    channels: tuple[int, ...]
    steps: tuple[Pointwise, ...]
    """The normalisation, with the numbers that were measured on this whole."""

    def read(self, window: Box, free: Recycled | None = None) -> NDArray[np.float32]:
        """Return the pixels (C, ...) of `window`, which may reach beyond the image's end.

        The array is the caller's own, one that was `free` before if any is given.
        """
        values = (free or Recycled()).take((len(self.channels), *window.shape))
        shape = self.source.shape_of(len(window.axes))
        indices = [reflect(a, n) for a, n in zip(window.axes, shape, strict=True)]
        needed = Box(tuple(Interval(int(i.min()), int(i.max()) + 1) for i in indices))
        inside = window & Box.of_shape(shape)
        if needed == inside:
            within = values[(slice(None), *inside.relative_to(window).slices)]
            self.source.read_into(within, self.whole, self.channels, inside)
            for axis, (index, side) in enumerate(zip(indices, inside.axes, strict=True), 1):
                mirror(values, axis, index - side.start, side.length)
        else:
            pixels = self.source.read(self.whole, self.channels, needed)
            inner = (i - start for i, start in zip(indices, needed.start, strict=True))
            place: tuple[Any, ...] = (slice(None), *np.ix_(*inner))
            values[...] = pixels[place]
        normalize_in_place(values, self.steps)
        return values


@dataclass(frozen=True)
class Work:
    """A pass to be made, with its pixels."""

    tile: Tile
    pixels: NDArray[np.float32]
    """The window (C, ...)."""
    again: Work | None = None
    """The same zone in a larger window, where it is verified."""
    sample: Sample | None = None
    """What of it is kept to be compared at the end."""


@dataclass(frozen=True)
class Running:
    """A pass that was handed to the device; a GPU may not be done with it yet."""

    tile: Tile
    held: tuple[NDArray[np.float32], ...]
    """Windows that a device may still be reading until the results have arrived."""
    result: Arriving
    again: Arriving | None
    sample: Sample | None


@dataclass(frozen=True)
class Shortage:
    """Memory ran out before all zones were done."""

    zones: list[Box]
    """Those that are left to do."""
    reason: str


def segment_whole(
    image: Normalized,
    tiling: Plan,
    zones: Iterable[Box],
    kept: Box,
    run: ForwardPass,
    sink: Sink,
    advance: Callable[[int], None],
    verifier: Verifier,
    real: RealPixelCheck,
) -> Shortage | None:
    """Write what `zones` have in `kept` to `sink`, and tell `advance` how many pixels that are.

    Each zone must be one of `tiling`, or a part of one. If there is not enough memory to read a
    window or to run it, what was computed until then is written, and the rest is returned.

    Raises:
        ImageError: if the source cannot be read.
        NetworkError: if the network cannot be run.
        OutputError: if the sink cannot be written.
        VerificationError: if a zone comes out otherwise in a larger window, though it must not.
    """
    # Cut after the window was found: a part of the image is run in the windows of the whole.
    tiles = [tiling.tile(zone).cut_to(kept) for zone in zones]

    free = Recycled()

    def write_zone(running: Running) -> None:
        tile, pixels = running.tile, running.result()
        if running.again is not None:
            verifier.compare(image.source.path, tile, pixels, running.again())
        if running.sample is not None:
            real.keep(running.sample, pixels)
        for window in running.held:
            free.give(window)
        sink.write(image.whole, tile.zone, pixels)
        advance(tile.zone.size)

    with (
        ahead(read_windows(image, tiling, tiles, verifier, real, free), DEPTH) as works,
        behind(write_zone, DEPTH) as writer,
    ):
        reading = iter(works)
        for index, tile in enumerate(tiles):
            try:
                running = run_window(run, next(reading), free)
            except (RuntimeError, MemoryError) as error:
                if is_shortage(error):
                    return Shortage([tile.zone for tile in tiles[index:]], str(error))
                where = f"zone {tile.zone.place}"
                raise network_failed(image.source.path, where, tiling, error) from error
            writer.put(running)
    return None


def read_windows(
    image: Normalized,
    tiling: Plan,
    tiles: Iterable[Tile],
    verifier: Verifier,
    real: RealPixelCheck,
    free: Recycled,
) -> Iterator[Work]:
    """Yield the passes with their pixels, in arrays that are `free` where there are any."""
    for tile in tiles:
        try:
            larger = verifier.again(tile)
            again = None if larger is None else Work(larger, image.read(larger.window))
            pixels = image.read(tile.window, free)
            yield Work(tile, pixels, again, real.look(tiling, tile, pixels, image.read))
        except ImageError as error:
            raise ImageError(f"{error} (needed for zone {tile.zone.place})") from error


def run_window(run: ForwardPass, work: Work, free: Recycled) -> Running:
    """Hand a window to the device, and the larger one beside it; what was read is `free` again."""
    result = run.start(work.pixels, work.tile.crop)
    again = None if work.again is None else run.start(work.again.pixels, work.again.tile.crop)
    if run.reads_on:
        larger = () if work.again is None else (work.again.pixels,)
        return Running(work.tile, (work.pixels, *larger), result, again, work.sample)
    free.give(work.pixels)
    return Running(work.tile, (), result, again, work.sample)


def compare_real_pixels(
    real: RealPixelCheck, path: Path, run: ForwardPass, tiling: Plan
) -> RealPixels | None:
    """Return what other windows give for some zones of the image at `path`; None without any.

    Where there is no memory for them nothing is compared, and nothing is said of it.

    Raises:
        NetworkError: if the network cannot be run on those.
        VerificationError: if they differ by more than rounding.
    """
    try:
        return real.compare(path, run)
    except (RuntimeError, MemoryError) as error:
        if is_shortage(error):
            logger.warning("%s: no memory for a second window on its pixels: %s", path.name, error)
            return None
        raise network_failed(path, "the check on its pixels", tiling, error) from error


def network_failed(path: Path, where: str, tiling: Plan, error: Exception) -> NetworkError:
    """Return the error that says where in the work on `path` the network failed, and why."""
    window = " x ".join(map(str, tiling.window))
    # TorchScript says where in its code, over many lines, and then what went wrong.
    reason = str(error).strip().rpartition("\n")[2] or type(error).__name__
    return NetworkError(
        f"{path}: the network failed at {where} with a window of {window}: {reason}; if memory is "
        "short, use a smaller --tileSize or --memory"
    )
