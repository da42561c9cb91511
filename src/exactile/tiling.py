"""The plan: zones of responsibility, and the window of input that is run for each.

Majurski and Bajcsy (2021), section 3, with one addition. Zones partition the image's padded extent.
The window of a zone holds the zone and its halo; all windows have the SAME shape, because another
shape may make a library choose another kernel, whose sums round differently. At an edge of the
extent a window is therefore moved inwards, on the F grid, instead of shrunk or padded:

    extent   |------------------------------------------------------------|
    zones    |      A      |      B      |      C      |      D      |  E  |
    window A |:::::::::::::>>>>>|
    window B          |<<<<:::::::::::::>>>>>|
    window E                                      |<<<<<<<<<<<<<<<<<<<:::::|

Volumes are planned alike on three axes. Files hold single planes, so that along Z any zone fits
what is written, and all planes of a zone are begun and finished together.

At the extent's own edges the network pads as it would in a pass over the whole image.

Zones are counted in positions of the output, windows in pixels of the padded image. For most
networks both are the same; valid convolutions make the output smaller, strides scale it.

Everything here is arithmetic on whole numbers; nothing is read and nothing is run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby, product
from math import lcm, prod

from exactile.errors import PlanError
from exactile.geometry import (
    PLANES,
    AxisLocality,
    Box,
    Interval,
    Locality,
    ceil_to,
    floor_to,
)

WRITER_TILE = 1024
"""Side of the tiles in the files that are written, in Y and X; zones fit them where F allows."""

LEAST_USED = 0.875
"""Zones fit the writer's tiles where they are at least so much of the longest that a window has."""

STABLE_COARSEST_SIDE = 32
"""Float32 kernels were found bit-stable where the coarsest feature map has this many pixels a side,
or as many in all in another shape: 2 x 32 pixels were not, 2 x 512 were. Of volumes, 7 x 7 x 7 were
already, in U-Nets of depth 1 and 2."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One forward pass: what is run, and the part of it that is kept."""

    zone: Box
    """The part of the output this pass is responsible for."""
    window: Box
    """The part of the padded image that goes through the network."""
    origin: tuple[int, ...]
    """Position in the output of the first one that the window gives."""

    @property
    def crop(self) -> Box:
        """The zone in the coordinates of the window's own output."""
        return self.zone.shift(tuple(-start for start in self.origin))

    def cut_to(self, whole: Box) -> Tile:
        """Return the pass with that part of its zone which is inside `whole`."""
        return replace(self, zone=self.zone & whole)


@dataclass(frozen=True, slots=True)
class AxisPlan:
    """Zones and windows along one axis."""

    extent: int
    """Length of the padded image; a multiple of F."""
    window: int
    """Length of every window; a multiple of F, at most `extent`."""
    zone: int
    """Length of every zone but the last, in output positions; a multiple of F times the scale."""
    kept: int
    """Output positions that lie inside the image."""
    locality: AxisLocality
    writer_tile: int = WRITER_TILE
    """Length of what is written at once along this axis: 1 along Z, where files hold planes."""

    def zones(self) -> list[Interval]:
        """Return the zones; those beyond the image's end are left out."""
        whole = Interval(0, self.locality.output_length(self.extent))
        return [zone for zone in whole.split(self.zone) if zone.start < self.kept]

    def blocks(self) -> list[list[Interval]]:
        """Return the zones, those that start in the same writer tile together."""
        return [list(b) for _, b in groupby(self.zones(), lambda z: z.start // self.writer_tile)]

    def window_of(self, zone: Interval) -> Interval:
        """Return the window that holds `zone` and its halo, moved inwards at the edges."""
        first = zone.start // self.locality.step * self.locality.alignment
        start = min(max(first - self.locality.halo.low, 0), self.extent - self.window)
        return Interval(start, start + self.window)

    def origin_of(self, window: Interval) -> int:
        """Return the output position of the first one that `window` gives."""
        return int(window.start * self.locality.scale)


@dataclass(frozen=True, slots=True)
class Plan:
    """All forward passes over one plane or volume."""

    shape: tuple[int, ...]
    """The image's own size, in array order."""
    axes: tuple[AxisPlan, ...]

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The size of the output."""
        return tuple(axis.kept for axis in self.axes)

    @property
    def extent(self) -> tuple[int, ...]:
        """The padded size that the network sees."""
        return tuple(axis.extent for axis in self.axes)

    @property
    def window(self) -> tuple[int, ...]:
        """The shape of every window."""
        return tuple(axis.window for axis in self.axes)

    @property
    def zone(self) -> tuple[int, ...]:
        """The shape of a zone that no edge cuts off."""
        return tuple(axis.zone for axis in self.axes)

    @property
    def count(self) -> int:
        """Number of forward passes."""
        return prod(-(-axis.kept // axis.zone) for axis in self.axes)

    def count_over(self, part: Box) -> int:
        """Return the number of forward passes whose zones have positions in `part`."""
        return prod(
            -(-side.stop // axis.zone) - side.start // axis.zone
            for axis, side in zip(self.axes, part.axes, strict=True)
        )

    @property
    def coarsest(self) -> int:
        """Pixels of the coarsest feature map of a window, all axes together."""
        return prod(axis.window // axis.locality.alignment for axis in self.axes)

    @property
    def computed_ratio(self) -> float:
        """Pixels computed for each pixel of the image; 1 would be a pass without any halo."""
        return self.count * prod(self.window) / prod(self.shape)

    def tiles(self) -> Iterator[Tile]:
        """Yield the passes, row by row of writer tiles, and tile by tile within a row.

        Of a volume, those of the first planes come first, then those of the next. In this order a
        writer tile is complete soon after it is begun, and neighbouring windows read the same tiles
        of the input one after another.
        """
        for block in product(*(axis.blocks() for axis in self.axes)):
            for zones in product(*block):
                yield self.tile(Box(zones))

    def tile(self, zone: Box) -> Tile:
        """Return the pass for `zone`, one of the plan's own or a part of one.

        Raises:
            ValueError: if it reaches beyond a zone of the plan: the window would lack its halo.
        """
        sides = list(zip(self.axes, zone.axes, strict=True))
        if any(side.stop > (side.start // axis.zone + 1) * axis.zone for axis, side in sides):
            raise ValueError(f"{zone} is no part of a zone of {self.zone}")
        windows = tuple(axis.window_of(side) for axis, side in sides)
        origin = tuple(axis.origin_of(w) for axis, w in zip(self.axes, windows, strict=True))
        return Tile(zone, Box(windows), origin)


def least_tile(locality: Locality) -> int:
    """Return the smallest window side that leaves a zone on every axis."""
    return max(least_window(axis) for axis in locality.axes)


def least_window(axis: AxisLocality) -> int:
    """Return the shortest window on an axis that leaves a zone, in pixels."""
    return max(axis.alignment + axis.halo.total, axis.pad(axis.least))


def plan(shape: tuple[int, ...], locality: Locality, tile: int) -> Plan:
    """Return the plan for an image of `shape` pixels with windows of `tile` pixels a side.

    An axis that is not longer than a window takes one window of its own padded length. The windows
    are longer on the other axes then, for the same number of pixels: there is less halo, and small
    feature maps, which kernels treat differently, are avoided.

    Raises:
        PlanError: if `tile` leaves no zone between the halos on an axis that needs several, or the
            network's valid convolutions leave nothing of such an image.
    """
    require_output(shape, locality)
    extent = locality.pad(shape)
    sides = _window_sides(extent, tile)
    return Plan(
        shape,
        tuple(
            _plan_axis(length, side, axis, tile, locality, unit)
            for length, side, axis, unit in zip(
                shape, sides, locality.axes, writer_tiles(len(shape)), strict=True
            )
        ),
    )


def writer_tiles(dimensions: int) -> tuple[int, ...]:
    """Return the sides of what is written at once, for each axis: tiles of single planes."""
    return (1,) * (dimensions - PLANES) + (WRITER_TILE,) * PLANES


def require_output(shape: tuple[int, ...], locality: Locality) -> None:
    """Raise a PlanError if the network's valid convolutions leave nothing of such an image."""
    if 0 in locality.output_shape(shape):
        raise PlanError(
            f"an image of {' x '.join(map(str, shape))} px is too small for this network: its "
            f"convolutions take {' x '.join(str(a.crop.total) for a in locality.axes)} px away at "
            "the edges; use larger images"
        )


def _window_sides(extent: tuple[int, ...], tile: int) -> tuple[int, ...]:
    """Return the side of the windows on each axis: together at most tile^n pixels.

    >>> _window_sides((5000, 4000), 1000)
    (1000, 1000)
    >>> _window_sides((100, 50_000), 1000)
    (100, 10000)
    """
    sides = list(extent)
    room, open_axes = tile ** len(extent), len(extent)
    for axis in sorted(range(len(extent)), key=lambda i: extent[i]):
        # The comparison of powers is exact; a root of a large number would not be.
        if extent[axis] ** open_axes <= room:
            room, open_axes = room // extent[axis], open_axes - 1
        else:
            sides[axis] = _root(room, open_axes)
    return tuple(sides)


def _root(value: int, degree: int) -> int:
    """Return the largest whole number whose power of `degree` is at most `value`."""
    root: int = round(value ** (1 / degree))
    while root**degree > value:
        root -= 1
    while (root + 1) ** degree <= value:
        root += 1
    return root


def _plan_axis(
    length: int, side: int, axis: AxisLocality, tile: int, locality: Locality, writer_tile: int
) -> AxisPlan:
    extent, kept = axis.pad(length), axis.kept_length(length)
    window = floor_to(side, axis.alignment)
    if extent <= window:
        return AxisPlan(extent, extent, ceil_to(kept, axis.step), kept, axis, writer_tile)
    if window < least_window(axis):
        raise PlanError(
            f"tile {tile} is too small for this network: its halo is {axis.halo.low} and "
            f"{axis.halo.high} px on the two sides, on a grid of F = {axis.alignment} px; "
            f"use at least {least_tile(locality)}, or --tileSize auto"
        )
    return AxisPlan(extent, window, zone_in(window, axis, writer_tile), kept, axis, writer_tile)


def axis_plans(length: int, axis: AxisLocality, writer_tile: int = WRITER_TILE) -> list[AxisPlan]:
    """Return the plans of an axis of `length` pixels that are worth a thought, each zone once.

    The zones are: for each number of writer tiles, of length `writer_tile`, that fit F, the
    shortest of those that cut the axis as often; what divides a writer tile, on the F grid; and the
    whole axis, without any halo.
    """
    extent, kept = axis.pad(length), axis.kept_length(length)
    grid = lcm(writer_tile, axis.step)
    cells = -(-kept // grid)
    # The distinct values of ceil(cells / n): some 2 * sqrt(cells) of them.
    multiples, count = [], 1
    while count <= cells:
        most = -(-cells // count)
        multiples.append(most * grid)
        count = -(-cells // (most - 1)) if most > 1 else cells + 1
    below = [zone for zone in range(axis.step, grid, axis.step) if grid % zone == 0]
    plans = [AxisPlan(extent, extent, ceil_to(kept, axis.step), kept, axis, writer_tile)]
    least = axis.pad(axis.least)
    for zone in multiples + below[::-1]:
        window = zone // axis.step * axis.alignment + axis.halo.total
        if window < least:
            # The network takes none so small, and what it takes has room for more.
            window, zone = least, zone_in(least, axis, writer_tile)
        if zone < kept and window < extent and zone < plans[-1].zone:
            plans.append(AxisPlan(extent, window, zone, kept, axis, writer_tile))
    return plans


def zone_in(window: int, axis: AxisLocality, writer_tile: int = WRITER_TILE) -> int:
    """Return the zone of windows of `window` pixels: the longest that their halos leave room for.

    It fits the writer's tiles where that costs little of the room; else a row of tiles is begun
    until the zones below it are done.
    """
    room = (window - axis.halo.total) // axis.alignment * axis.step
    fitting = zone_length(room, axis.step, writer_tile)
    return fitting if fitting >= LEAST_USED * room else room


def zone_length(room: int, step: int, writer_tile: int = WRITER_TILE) -> int:
    """Return the longest zone within `room` that is on the F grid and fits the writer's tiles."""
    grid = lcm(writer_tile, step)
    if room >= grid:
        return floor_to(room, grid)
    divisors = (d for d in range(min(room, writer_tile), 0, -1) if writer_tile % d == 0)
    return next((d for d in divisors if d % step == 0), room)
