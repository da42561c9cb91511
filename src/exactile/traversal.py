"""The order of the zones, in which a bounded memory of decoded chunks is enough.

Windows of neighbouring rows share the chunks under their halos. Row by row over a very wide image,
those would have been forgotten before the next row comes to them. In bands of columns that are
narrow enough they are still there: only the chunks at the seam of two bands are decoded for both.

    +----------+---------+
    | 1  2  3  | 10  11  |
    | 4  5  6  | 12  13  |
    | 7  8  9  | 14  15  |
    +----------+---------+

Of a volume, the zones of the first planes come first, in bands, then those of the next: so tiles
of the output are begun in as many planes as a zone has, and no more. The memory is of the planes
that a window has.
"""

from __future__ import annotations

from math import lcm, prod

from exactile.geometry import PLANES, Box
from exactile.images.grid import cell_count
from exactile.images.source import Source
from exactile.tiling import WRITER_TILE, Plan

SMALL_BYTES = 2**27
"""A plane of so many bytes, such as 8192 x 8192 px of 16 bits, is decoded once; a larger one
for its statistics, and again for its windows."""


def in_bands(zones: list[Box], tiling: Plan, source: Source, channels: int) -> list[Box]:
    """Return `zones`, row by row in bands as wide as the memory of `source` has room for.

    Bands end where tiles of the output end if zones do, so that these are complete soon after they
    are begun.
    """
    width = band_width(tiling, source, channels)
    return sorted(zones, key=lambda zone: (_layer(zone, tiling), zone.start[-1] // width))


def _layer(zone: Box, tiling: Plan) -> tuple[int, ...]:
    """Return the number of the zone's layer in Z, counted in zones; nothing for planes."""
    above = zip(zone.start[:-PLANES], tiling.axes, strict=False)
    return tuple(start // axis.zone for start, axis in above)


def band_width(tiling: Plan, source: Source, channels: int) -> int:
    """Return the width of a band in output positions: all zones that the memory serves, or one."""
    held = source.cache_bytes // _column_bytes(tiling, source, channels)
    held -= _most_touched(tiling.window[-1], source.chunk[1])
    axis = tiling.axes[-1]
    # Zones that end within tiles leave these begun anyhow: bands need not end with both.
    unit = lcm(axis.zone, WRITER_TILE)
    unit = axis.zone if unit > max(axis.zone, WRITER_TILE) else unit
    return max(1, int(held * source.chunk[1] * axis.locality.scale) // unit) * unit


def useful_cache_bytes(tiling: Plan, source: Source, channels: int) -> int:
    """Return how much memory of chunks serves bands as wide as the image; more is of no use.

    A plane of up to `SMALL_BYTES` is kept as a whole, from its statistics on.
    """
    columns = -(-source.shape[1] // source.chunk[1])
    columns += _most_touched(tiling.window[-1], source.chunk[1])
    useful = columns * _column_bytes(tiling, source, channels)
    plane = prod(cell_count(source.shape, source.chunk)) * _chunk_bytes(source, channels)
    if len(tiling.axes) == PLANES:
        return max(useful, plane) if plane <= SMALL_BYTES else useful
    # Chunks may be as large as the planes; without this, those of layers before would be kept.
    return min(useful, plane * _planes_touched(tiling, source))


def _column_bytes(tiling: Plan, source: Source, channels: int) -> int:
    """Return the bytes of a column of chunks, as high as windows may reach.

    Between two visits to a chunk, a band's row of windows is read, and a window more.
    """
    rows = _most_touched(tiling.window[-2], source.chunk[0])
    return rows * _chunk_bytes(source, channels) * _planes_touched(tiling, source)


def _chunk_bytes(source: Source, channels: int) -> int:
    return prod(source.chunk) * source.dtype.itemsize * channels


def _planes_touched(tiling: Plan, source: Source) -> int:
    """Return how many planes are decoded for a window."""
    if len(tiling.axes) == PLANES:
        return 1
    return min(source.size_z, _most_touched(tiling.window[0], source.depth) * source.depth)


def _most_touched(side: int, step: int) -> int:
    """Return how many cells of a grid of `step` an interval of `side` may meet."""
    return (side + step - 2) // step + 1
