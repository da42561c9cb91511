"""A plan drawn to scale: the image with its zones, two windows in it, and one window enlarged.

Only lengths are worked out here, in units of the picture; the page draws them. Of volumes, it is a
plane. Of a plan with very
many zones, every n-th border is drawn, so that lines never lie closer than LEAST_GAP.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from exactile.certified import Axis, Run
from exactile.geometry import AXES, PLANES, VOLUMES, AxisLocality, Box, Halo, Interval
from exactile.stored_json import MalformedError
from exactile.tiling import AxisPlan, Plan, writer_tiles

OVERVIEW = (600.0, 440.0)
"""The largest width and height of the picture of the whole image."""

DETAIL = 220.0
"""The longer side of the enlarged window."""

LEAST_GAP = 7.0
"""The smallest distance of two borders of zones that are drawn."""

MOST_ZONES = 10**6
"""No plan has more zones along an axis: not of the smallest zones, of the largest images."""

LARGEST_DENOMINATOR = 4096
"""Of a scale, which a certificate has as a decimal number."""


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A rectangle in the units of the picture."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Pass:
    """A forward pass in the picture: its zone, and the window that is run for it."""

    zone: Rectangle
    window: Rectangle


@dataclass(frozen=True, slots=True)
class PlanDrawing:
    """What there is to draw of a plan."""

    width: float
    height: float
    """Sides of the picture of the whole image."""
    image: Rectangle
    """The image itself; what is outside is padding."""
    borders: str
    """The borders of the zones, as an SVG path."""
    merged: tuple[int, int]
    """How many zones, down and across, lie between two borders that are drawn."""
    zones: tuple[int, int]
    """How many zones there are, down and across."""
    inner: Pass
    """A pass in the middle of the image, or before it."""
    corner: Pass | None
    """The pass of the last zone, whose window was moved inwards; None where there is but one."""
    detail_width: float
    detail_height: float
    """Sides of the picture of one window."""
    detail: Pass
    """The inner pass again, enlarged: the window is the whole picture."""
    halo: Rectangle
    """Its zone and the halo around it, enlarged too: all that the zone depends on."""
    sides: tuple[int, int, int, int]
    """Pixels of the window beyond its zone, in the enlarged pass: top, right, bottom, left."""


def plan_of(facts: Run) -> Plan:
    """Return the plan that a certificate speaks of.

    Raises:
        MalformedError: if there can be no such plan.
    """
    noted, sizes = facts.plan, facts.input.dimensions
    localities = facts.model.locality.axes
    sides = (noted.extent, noted.window, noted.zone, noted.output_shape)
    if len(localities) not in (PLANES, VOLUMES) or {len(side) for side in sides} != {
        len(localities)
    }:
        raise MalformedError("plan: is one of other axes than the locality")
    names = AXES[-len(localities) :]
    try:
        axes = tuple(
            AxisPlan(extent, window, zone, kept, _locality_of(axis), unit)
            for extent, window, zone, kept, axis, unit in zip(
                *sides, localities, writer_tiles(len(localities)), strict=True
            )
        )
    except ValueError as error:
        raise MalformedError(f"model.locality: {error}") from error
    plan = Plan(tuple(sizes[name] for name in names), axes)
    for axis in axes:
        if axis.window > axis.extent or axis.extent * axis.locality.scale > MOST_ZONES * axis.zone:
            raise MalformedError("plan: has windows larger than the image, or too many zones")
    return plan


def _locality_of(axis: Axis) -> AxisLocality:
    """Return the locality of an axis. Raises ValueError where there can be none such."""
    # Without a locality there are no tiles, and no halos are computed again.
    low, high = (0, 0) if axis.halo is None else (axis.halo.low, axis.halo.high)
    scale = Fraction(axis.scale).limit_denominator(LARGEST_DENOMINATOR)
    if not scale:
        raise ValueError("a scale of 0 leaves nothing")
    crop = Halo(axis.crop.low, axis.crop.high)
    return AxisLocality(axis.alignment, Halo(low, high), scale, crop, axis.least)


def draw_plan(tiling: Plan) -> PlanDrawing:
    """Return the drawing of a plan over a plane (Y, X), or over one of a volume."""
    tiling = Plan(tiling.shape[-PLANES:], tiling.axes[-PLANES:])
    height, width = tiling.extent
    scale = min(OVERVIEW[0] / width, OVERVIEW[1] / height)
    zones = [axis.zones() for axis in tiling.axes]
    gaps = [axis.zone / float(axis.locality.scale) * scale for axis in tiling.axes]
    merged = (ceil(LEAST_GAP / gaps[0]), ceil(LEAST_GAP / gaps[1]))
    inner = _zone(tiling, tuple((len(side) - 1) // 2 for side in zones))
    last = _zone(tiling, tuple(len(side) - 1 for side in zones))
    window = tiling.tile(inner).window
    enlarged = DETAIL / max(window.shape)
    own = _pixels(tiling, inner)
    return PlanDrawing(
        width=round(width * scale, 2),
        height=round(height * scale, 2),
        image=_rectangle(Box.of_shape(tiling.shape), scale),
        borders=_borders(tiling, zones, merged, scale),
        merged=merged,
        zones=(len(zones[0]), len(zones[1])),
        inner=_pass(tiling, inner, scale),
        corner=None if last == inner else _pass(tiling, last, scale),
        detail_width=round(window.shape[1] * enlarged, 2),
        detail_height=round(window.shape[0] * enlarged, 2),
        detail=Pass(
            _rectangle(own.relative_to(window), enlarged),
            _rectangle(Box.of_shape(window.shape), enlarged),
        ),
        halo=_rectangle(_with_halo(tiling, own).relative_to(window), enlarged),
        sides=(
            own.axes[0].start - window.axes[0].start,
            window.axes[1].stop - own.axes[1].stop,
            window.axes[0].stop - own.axes[0].stop,
            own.axes[1].start - window.axes[1].start,
        ),
    )


def _zone(tiling: Plan, indices: tuple[int, ...]) -> Box:
    """Return the zone that is so many zones down and across, without listing them all."""
    return Box(
        tuple(
            Interval(index * axis.zone, min((index + 1) * axis.zone, axis.kept))
            for index, axis in zip(indices, tiling.axes, strict=True)
        )
    )


def _pixels(tiling: Plan, zone: Box) -> Box:
    """Return the pixels of the image that lie under a zone."""
    return Box(
        tuple(
            Interval(
                int(side.start / axis.locality.scale),
                min(ceil(side.stop / axis.locality.scale), axis.extent),
            )
            for side, axis in zip(zone.axes, tiling.axes, strict=True)
        )
    )


def _with_halo(tiling: Plan, pixels: Box) -> Box:
    """Return `pixels` of a zone and the halo around them, as far as the extent has it."""
    return Box(
        tuple(
            Interval(
                max(0, side.start - axis.locality.halo.low),
                min(axis.extent, side.stop + axis.locality.halo.high),
            )
            for side, axis in zip(pixels.axes, tiling.axes, strict=True)
        )
    )


def _pass(tiling: Plan, zone: Box, scale: float) -> Pass:
    return Pass(
        _rectangle(_pixels(tiling, zone), scale), _rectangle(tiling.tile(zone).window, scale)
    )


def _rectangle(box: Box, scale: float) -> Rectangle:
    (y, x), (height, width) = box.start, box.shape
    return Rectangle(*(round(side * scale, 2) for side in (x, y, width, height)))


def _borders(
    tiling: Plan, zones: list[list[Interval]], merged: tuple[int, int], scale: float
) -> str:
    height, width = (side * scale for side in tiling.extent)
    lines = []
    for axis, sides, every in zip((0, 1), zones, merged, strict=True):
        for side in sides[every::every]:
            at = round(float(side.start / tiling.axes[axis].locality.scale) * scale, 2)
            lines.append(f"M0 {at}H{width:.2f}" if axis == 0 else f"M{at} 0V{height:.2f}")
    return "".join(lines)
