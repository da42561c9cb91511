"""A plan drawn to scale: the image with its zones, two windows in it, and one window enlarged.

Only lengths are worked out here, in units of the picture; the page draws them. Of volumes, it is a
plane. Of a plan with very
many zones, every n-th border is drawn, so that lines never lie closer than LEAST_GAP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import Any

from exactile.geometry import AXES, PLANES, AxisLocality, Box, Halo, Interval
from exactile.tiling import AxisPlan, Plan, writer_tiles

OVERVIEW = (600.0, 440.0)
"""The largest width and height of the picture of the whole image."""

DETAIL = 220.0
"""The longer side of the enlarged window."""

LEAST_GAP = 7.0
"""The smallest distance of two borders of zones that are drawn."""

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


def plan_of(certificate: Mapping[str, Any]) -> Plan:
    """Return the plan that a certificate speaks of.

    Raises:
        LookupError, TypeError, ValueError: if it does not say what belongs to a plan.
    """
    noted, sizes = certificate["plan"], certificate["input"]["dimensions"]
    axes = []
    localities = certificate["model"]["locality"]["axes"]
    for index, locality in enumerate(localities):
        axis = AxisLocality(
            alignment=locality["alignment"],
            # Without a locality there are no tiles, and no halos are computed again.
            halo=Halo(**(locality["halo"] or {"low": 0, "high": 0})),
            scale=Fraction(locality["scale"]).limit_denominator(LARGEST_DENOMINATOR),
            crop=Halo(**locality["crop"]),
            least=locality["least"],
        )
        extent, window, zone, kept = (
            int(noted[name][index]) for name in ("extent", "window", "zone", "output_shape")
        )
        axes.append(AxisPlan(extent, window, zone, kept, axis))
    names = AXES[-len(axes) :]
    units = writer_tiles(len(axes))
    return Plan(
        tuple(sizes[name] for name in names),
        tuple(replace(axis, writer_tile=unit) for axis, unit in zip(axes, units, strict=True)),
    )


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
