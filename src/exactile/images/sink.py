"""A sink: one image file being written, a box at a time.

What an implementer promises:

- `write` takes boxes of any size, aligned to nothing, in any order, from one thread at a time, of a
  plane or of a volume, which is written plane by plane. The array is not kept: the caller may reuse
  it when `write` returns.
- Together the boxes cover every plane exactly once. A pixel written twice raises CoverageError at
  the write, a missing one at `close`.
- The file appears under its name in `close`, whole, by one atomic rename after its bytes are on
  disk; until then nothing of that name is touched. Leaving the `with` by an exception, or calling
  `discard`, removes everything that was written, unless a journal was asked for, which keeps it for
  a later run.
- What an earlier run stored counts as written: `has` says where. What is written there again is
  left out.
- The same pixels give the same bytes, whatever the boxes and their order.
- Temporary files live in `.exactile` beside the final file, never next to it: a workflow engine
  takes every regular file at the top of an output folder for a result. What a killed run left
  there for the same image is removed at the start, or gone on with where a journal is kept.
- Memory is bounded by the tiles that are begun and not finished, never by the image. Writing row
  by row of boxes keeps one row of tiles, of each plane that a box of a volume has.
- What the disk refuses raises OutputError naming the file and the cause.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from exactile.geometry import Box
from exactile.images.downsampling import Downsampling
from exactile.images.metadata import ImageMetadata
from exactile.images.source import Plane, Volume, Whole, planes_of
from exactile.images.zarr_layout import DEFAULT_VERSION, NgffVersion


class CoverageError(ValueError):
    """The written boxes do not cover the image exactly once: a defect of the caller."""


@dataclass(frozen=True, slots=True)
class OutputImage:
    """What has to be known of an image before its first pixel is written."""

    shape: tuple[int, int]
    """Height and width (Y, X) in pixels; at least 1."""
    dtype: np.dtype[Any]
    """Type of a pixel."""
    size_t: int = 1
    """Number of time points."""
    size_c: int = 1
    """Number of channels."""
    size_z: int = 1
    """Number of planes in the stack."""
    metadata: ImageMetadata = field(default_factory=ImageMetadata)
    """Physical size, channel names (none, or one for each channel) and name."""
    labels: tuple[str, ...] = ()
    """Names of the classes, from 0, where pixels are their numbers; empty where they are amounts.
    Of numbers of classes, the most frequent stands for several pixels; of amounts, the mean."""
    pyramid: bool = False
    """Whether smaller levels are wanted where a format can do without them."""
    zarr_version: NgffVersion = DEFAULT_VERSION
    """The version of OME-Zarr, where that is what is written."""

    def __post_init__(self) -> None:
        if min(self.dimensions) < 1:
            raise ValueError(f"an image of (T, C, Z, Y, X) = {self.dimensions} has no pixels")
        if self.metadata.channels and len(self.metadata.channels) != self.size_c:
            raise ValueError(
                f"{len(self.metadata.channels)} channel names for {self.size_c} channels"
            )

    @property
    def downsampling(self) -> Downsampling:
        """What a pixel of a smaller level is, of the four above it."""
        return "mode" if self.labels else "mean"

    @property
    def dimensions(self) -> tuple[int, int, int, int, int]:
        """Sizes in the order (T, C, Z, Y, X)."""
        return (self.size_t, self.size_c, self.size_z, *self.shape)

    @property
    def planes(self) -> tuple[Plane, ...]:
        """Every plane, T-major and then Z."""
        return planes_of(self.size_t, self.size_z)

    @property
    def nbytes(self) -> int:
        """Size of all pixels, in bytes."""
        return prod(self.dimensions) * self.dtype.itemsize


Watch = Callable[[Plane, Box, NDArray[Any]], None]
"""Is shown what is written: plane, place (Y, X) and pixels (C, Y, X), not to be kept or written
into."""


class Sink(ABC):
    """One image file being written; see the module for what it promises. A context manager."""

    watch: Watch | None = None
    """Who is shown all pixels that are written, if anybody."""

    path: Path
    """The final name."""
    image: OutputImage
    """Shape, type and metadata."""

    def write(self, whole: Whole, box: Box, pixels: NDArray[Any]) -> None:
        """Write `pixels`, of the image's dtype, to `box` of a plane or a volume.

        They are (C, Y, X) and (Y, X), or (C, Z, Y, X) and (Z, Y, X). Raises CoverageError where a
        pixel was written before, OutputError where the disk refuses, also for what was written
        earlier, and ValueError for pixels that do not fit the image.
        """
        if isinstance(whole, Plane):
            self._write_plane(whole, box, pixels)
            return
        for index, (plane, place) in enumerate(_planes_over(whole, box)):
            self._write_plane(plane, place, pixels[:, index])

    def _write_plane(self, plane: Plane, box: Box, pixels: NDArray[Any]) -> None:
        image = self.image
        if not (0 <= plane.t < image.size_t and 0 <= plane.z < image.size_z):
            raise ValueError(f"{self.path} has no {plane}")
        if box not in Box.of_shape(image.shape):
            raise ValueError(f"{box} reaches outside {self.path} of shape {image.shape}")
        if pixels.shape != (image.size_c, *box.shape) or pixels.dtype != image.dtype:
            raise ValueError(
                f"{self.path} takes {(image.size_c, *box.shape)} of {image.dtype} for {box}, not "
                f"{pixels.shape} of {pixels.dtype}"
            )
        self._write(plane, box, pixels)
        if self.watch is not None:
            self.watch(plane, box, pixels)

    @abstractmethod
    def _write(self, plane: Plane, box: Box, pixels: NDArray[Any]) -> None:
        """Take pixels that were checked to fit."""

    def has(self, whole: Whole, box: Box) -> bool:
        """Return whether all of `box`, as far as it is inside the image, is stored.

        What is stored outlives the process where a journal is kept.
        """
        if isinstance(whole, Plane):
            return self._has(whole, box)
        inside = box & Box.of_shape((self.image.size_z, *self.image.shape))
        return all(self._has(plane, place) for plane, place in _planes_over(whole, inside))

    @abstractmethod
    def _has(self, plane: Plane, box: Box) -> bool:
        """Return whether all of `box` (Y, X), as far as it is inside the image, is stored."""

    @abstractmethod
    def close(self) -> None:
        """Finish the file and give it its name; does nothing after the first time.

        Raises CoverageError where pixels are missing, and OutputError where the disk refuses; the
        temporary files are removed then, and nothing has the final name that had it not before.
        """

    @abstractmethod
    def discard(self) -> None:
        """Give up: remove what was written, unless `close` has finished the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.discard()


def _planes_over(volume: Volume, box: Box) -> Iterator[tuple[Plane, Box]]:
    """Yield the planes that `box` (Z, Y, X) has, each with its place (Y, X)."""
    stack, *place = box.axes
    for z in range(stack.start, stack.stop):
        yield Plane(volume.t, z), Box(tuple(place))
