"""A part of an image being written as if it were the whole.

whole    +---------------+
         |               |
part     +---------------+  <- region.start     written to a file of its own, at its origin
         |   +----+      |
         |   |box |      |
         +---+----+------+
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from exactile.geometry import Box
from exactile.images.sink import OutputImage, Sink
from exactile.images.source import Plane


class PartSink(Sink):
    """Takes boxes in the coordinates of the whole image, and hands them to the part's sink."""

    def __init__(self, part: Sink, whole: OutputImage, plane: Plane, region: Box) -> None:
        """Write to `part`, an image of one plane, the pixels `region` (Y, X) of `plane`."""
        self.path = part.path
        self.image = whole
        self._part = part
        self._plane = plane
        self._region = region

    def _write(self, plane: Plane, box: Box, pixels: NDArray[Any]) -> None:
        if plane != self._plane or box not in self._region:
            raise ValueError(f"{box} of {plane} is not in {self.path}: {self._region}")
        self._part.write(Plane(), box.relative_to(self._region), pixels)

    def _has(self, plane: Plane, box: Box) -> bool:
        return self._part.has(Plane(), (box & self._region).relative_to(self._region))

    def close(self) -> None:
        """Finish the part's file; see Sink."""
        self._part.close()

    def discard(self) -> None:
        """Remove what was written of the part; see Sink."""
        self._part.discard()
