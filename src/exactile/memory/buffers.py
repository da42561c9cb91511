"""What a run holds in main memory beside the forward pass itself.

    decoded chunks -> windows in the queue -> (pass) -> outputs in the queue -> tiles to compress

Every queue is bounded, so that this depends on window and zone, never on the image.

Of a volume, a zone that does not fill its tiles leaves them begun in each of its planes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from exactile.tiling import WRITER_TILE

FLOAT_BYTES = 4

WINDOWS_HELD = 4
"""Windows of float32 pixels at once: one being read, two in the queue, one in the network."""

OUTPUTS_HELD = 4
"""Outputs of zones at once: one being made, two in the queue, one being written."""

WRITER_TILES_HELD = 2
"""Tiles being filled or compressed, each with its compressed bytes, which may be as many."""


@dataclass(frozen=True, slots=True)
class Buffers:
    """What the stages of a run hold, in bytes, by window and zone."""

    channels: int
    """Channels of the network's input."""
    outputs: int
    """Channels of the network's output; of a zone's output, which is float32 until it is written.
    """
    written: int
    """Channels that are written: 1 for labels."""
    itemsize: int
    """Bytes of a value that is written."""
    decoded: int
    """Bytes of decoded chunks of the input: those kept, and those on their way."""
    across: int
    """Tiles of the writer that lie side by side in the output."""
    plane: tuple[int, int]
    """Height and width of the output, or of the image, which is near enough."""

    def __call__(self, window: tuple[int, ...], zone: tuple[int, ...]) -> int:
        """Return the bytes held beside a pass over `window` for `zone`."""
        windows = WINDOWS_HELD * self.channels * prod(window) * FLOAT_BYTES
        outputs = (
            OUTPUTS_HELD
            * prod(zone)
            * max(self.outputs * FLOAT_BYTES, self.written * self.itemsize)
        )
        tiles = 2 * WRITER_TILES_HELD * self.written * WRITER_TILE**2 * self.itemsize
        return windows + outputs + tiles + self._begun(zone) + self.decoded

    def _begun(self, zone: tuple[int, ...]) -> int:
        """Return the bytes of tiles that wait for other zones."""
        *stack, height, width = zone
        fits = _fits_writer(height) and _fits_writer(width)
        if not stack:
            begun = 0 if fits else self.across + 1
            return begun * self.written * WRITER_TILE**2 * self.itemsize
        ends = ((height, self.plane[0]), (width, self.plane[1]))
        if all(side % WRITER_TILE == 0 or side >= length for side, length in ends):
            return 0
        # What is written of a tile is noted in a byte for each pixel.
        tile = min(WRITER_TILE, self.plane[0]) * WRITER_TILE * (self.written * self.itemsize + 1)
        return stack[0] * (1 if fits else self.across + 1) * tile


def _fits_writer(side: int) -> bool:
    """Return whether zones of this side end where the writer's tiles do.

    Where they do not, a whole row of tiles waits for the zones below.
    """
    return side % WRITER_TILE == 0 or WRITER_TILE % side == 0
