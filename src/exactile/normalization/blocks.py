"""The pixels of an image as blocks that can be gone through as often as a statistic needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exactile.errors import ImageError
from exactile.geometry import Box, Interval
from exactile.images.source import Plane, Source, Whole
from exactile.normalization.apply import normalize
from exactile.normalization.parse import describe
from exactile.processing import Pointwise

LARGEST = 2.0**126
"""No pixel may be further from zero: differences of such pixels fit into float32."""


@dataclass(frozen=True)
class Pixels:
    """All pixels of some channels, in the same blocks and the same order each time."""

    name: str
    """The image, for messages."""
    dtype: np.dtype[Any]
    """Type of a pixel, in the machine's byte order."""
    channels: int
    count: int
    """Pixels of each channel of the image."""
    blocks: Callable[[], Iterator[NDArray[Any]]]
    """Starts a new pass: contiguous blocks (C, ...) of finite pixels; each pixel that is
    read is in one."""

    def after(self, steps: tuple[Pointwise, ...]) -> Pixels:
        """Return what `steps` make of the pixels, in float32; the pixels as they are for none.

        A pass over it raises ImageError where values are not finite any more, or beyond LARGEST.
        """
        if not steps:
            return self

        def blocks() -> Iterator[NDArray[Any]]:
            for block in self.blocks():
                with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
                    values = normalize(block, steps)
                if (bad := np.count_nonzero(~(np.abs(values) <= LARGEST))) > 0:
                    raise ImageError(
                        f"{self.name}: after {describe(steps)}, {bad} pixels are not finite or "
                        f"beyond {LARGEST:.1e}, so the next step of the normalization has no "
                        "statistics; correct the numbers of the steps"
                    )
                yield values

        return replace(self, dtype=np.dtype(np.float32), blocks=blocks)

    def together(self) -> Pixels:
        """Return the same pixels as those of a single channel."""

        def blocks() -> Iterator[NDArray[Any]]:
            return (block.reshape(1, -1) for block in self.blocks())

        return replace(self, channels=1, count=self.channels * self.count, blocks=blocks)


def pixels_of(
    source: Source, whole: Whole, channels: tuple[int, ...], rows: range | None = None
) -> Pixels:
    """Return the pixels of `channels` of a plane or a volume, in the blocks of `Source.read_all`.

    `rows` are the rows of blocks that are read, consecutive ones; by default all. The count is that
    of the whole all the same.

    A pass over them raises ImageError where it cannot be read, and where pixels are NaN,
    infinite or beyond LARGEST.
    """

    def blocks() -> Iterator[NDArray[Any]]:
        for box, block in source.read_all(whole, channels, rows):
            _refuse_what_is_not_finite(block, source, whole, channels, box)
            yield block

    count = prod(source.shape_of(whole.dimensions))
    return Pixels(str(source.path), source.dtype, len(channels), count, blocks)


def pixels_of_array(pixels: NDArray[Any], chunk: tuple[int, ...] | None = None) -> Pixels:
    """Return the pixels of an array (C, ...) in blocks of `chunk` (...), or in a single block.

    Raises:
        ValueError: if they are neither booleans, integers of up to 32 bits, nor floats.
    """
    if pixels.dtype.kind not in "biuf" or (pixels.dtype.kind in "iu" and pixels.itemsize > 4):
        raise ValueError(f"pixels of type {pixels.dtype} have no exact statistics")
    native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    shape = native.shape[1:]

    def blocks() -> Iterator[NDArray[Any]]:
        for box in _cells(shape, chunk or shape):
            yield np.ascontiguousarray(native[box.slices])

    return Pixels("the image", native.dtype, len(native), prod(shape), blocks)


def _cells(shape: tuple[int, ...], step: tuple[int, ...]) -> Iterator[Box]:
    """Yield the cells of a grid of `step`, in array order, the last axis fastest."""
    sides = zip(shape, step, strict=True)
    for axes in product(*(tuple(Interval(0, side).split(length)) for side, length in sides)):
        yield Box(axes)


def _refuse_what_is_not_finite(
    block: NDArray[Any], source: Source, whole: Whole, channels: tuple[int, ...], box: Box
) -> None:
    # NaN is not within either.
    if block.dtype.kind != "f" or (within := np.abs(block) <= LARGEST).all():
        return
    bad = np.argwhere(~within)
    channel, *place = bad[0]
    *z, y, x = np.add(place, box.start)
    plane = whole if isinstance(whole, Plane) else Plane(whole.t, int(z[0]))
    raise ImageError(
        f"{source.path}: the pixel at y={y}, x={x} (plane t={plane.t}, z={plane.z}, "
        f"channel {channels[channel]}) is {block[tuple(bad[0])]}, and {len(bad) - 1} more near it "
        f"are not finite or beyond {LARGEST:.1e}; the network and the statistics of the whole "
        "image need finite float32 pixels: replace them first"
    )
