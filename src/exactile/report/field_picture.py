"""A picture of the effective receptive field: the gradient, with the zone and its halos around it.

+------------------------+
| not computed           |   Effective receptive field
|  +------------------+  |
|  | halo             |  |   [zone]       F
|  |   + - - - - +    |  |   [estimate]   how far the gradient shows
|  |   :  +---+  :    |  |   [formula]    equation 2 of the papers
|  |   :  +---+  :    |  |   [halo]       what tiles are cut by
|  |   + - - - - +    |  |
|  +------------------+  |   [===========] gradient magnitude
+------------------------+
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, floor, log10
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from exactile.geometry import Box, Halo, Interval
from exactile.locality.effective import EffectiveField, halo_text

Colour = tuple[int, int, int]

SIDE = 640
"""Longer side of the map, in pixels of the picture."""

BORDER = 0.02
"""What is shown around the outermost rectangle, as a share of its longer side."""

MARGIN, LEGEND, BAR, LINE, TEXT, TITLE = 24, 384, 18, 28, 15, 20
"""Sides of the parts of the picture, in its pixels."""

PAPER: Colour = (255, 255, 255)
INK: Colour = (40, 40, 46)
NOT_COMPUTED: Colour = (112, 114, 122)
CASING: Colour = (0, 0, 0)
CYAN: Colour = (0, 229, 255)

INFERNO = np.array(
    [
        *((0, 0, 4), (31, 12, 72), (85, 15, 109), (136, 34, 106), (186, 54, 85)),
        *((227, 89, 51), (249, 140, 10), (249, 201, 50), (252, 255, 164)),
    ],
    np.float64,
)
"""Colours (R, G, B) at equal distances from the least to the largest, of evenly growing lightness:
the colour map of that name by Smith and van der Walt."""

BELOW = 2
"""Powers of ten that are told apart below the threshold."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A rectangle around the zone."""

    text: str
    """What the legend says."""
    box: Box
    """Where it lies, in the window's pixels; it may lie outside the window."""
    colour: Colour
    dash: int
    """Length of the dashes, in pixels of the picture; 0 for a full line."""


@dataclass(frozen=True, slots=True)
class Scale:
    """From gradients to colours: powers of ten at equal distances."""

    low: int
    """Power of ten that has the least colour; smaller gradients, and none, have it as well."""
    high: int
    """Power of ten that has the largest colour."""

    @classmethod
    def of(cls, field: EffectiveField) -> Scale:
        """Return the scale that ends above the largest gradient and begins below the threshold."""
        limit = floor(log10(field.threshold))
        finite = field.gradient[np.isfinite(field.gradient) & (field.gradient > 0)]
        largest = ceil(log10(finite.max())) if finite.size else limit
        return cls(limit - BELOW, max(largest, limit + 1))

    def colours(self, gradient: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the colours (..., 3) of magnitudes (...); what is not a number has the largest."""
        known = np.nan_to_num(gradient.astype(np.float64), nan=np.inf)
        levels = np.log10(np.clip(known, 10.0**self.low, 10.0**self.high))
        return self.shade((levels - self.low) / (self.high - self.low))

    def shade(self, share: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Return the colours (..., 3) of places from 0 to 1 on the scale."""
        knots = np.linspace(0, 1, len(INFERNO))
        bands = [np.interp(share, knots, INFERNO[:, band]) for band in range(3)]
        return np.stack(bands, axis=-1).round().astype(np.uint8)


def draw_field(field: EffectiveField, path: Path, formula: tuple[int, ...] = ()) -> None:
    """Write a PNG of the gradient's magnitude, with the zone, the estimate and the halo around it.

    `formula` is the papers' radius by axis, in pixels, drawn as well if given.
    """
    frames = list(frames_of(field, formula))
    shown = hull(Box.of_shape(field.window), *(frame.box for frame in frames))
    border = max(1, round(BORDER * max(shown.shape)))
    shown = Box(tuple(axis.grow(Halo(border, border)) for axis in shown.axes))
    zoom = SIDE / max(shown.shape)
    height, width = (round(side * zoom) for side in shown.shape)
    left = 2 * MARGIN + width
    picture = Image.new("RGB", (left + LEGEND + MARGIN, SIDE + 2 * MARGIN), PAPER)
    scale = Scale.of(field)
    picture.paste(map_of(field, scale, shown, (width, height)), (MARGIN, MARGIN))
    pen = ImageDraw.Draw(picture)
    for frame in frames:
        y, x = (
            (MARGIN + (a.start - s.start) * zoom, MARGIN + (a.stop - s.start) * zoom)
            for a, s in zip(frame.box.axes, shown.axes, strict=True)
        )
        outline(pen, (x[0], y[0], x[1], y[1]), frame)
    bottom = write_legend(pen, field, frames, left)
    draw_bar(picture, scale, field.threshold, (left, bottom + LINE))
    picture.save(path, optimize=True)


def frames_of(field: EffectiveField, formula: tuple[int, ...]) -> Iterator[Frame]:
    """Yield the rectangles, those that others may cover first."""

    def around(halo: tuple[Halo, ...]) -> Box:
        return Box(tuple(a.grow(h) for a, h in zip(field.zone.axes, halo, strict=True)))

    yield Frame(f"halo: {halo_text(field.halo)} px", around(field.halo), (96, 232, 128), 0)
    if formula:
        radius = tuple(Halo(side, side) for side in formula)
        text = f"papers' formula: {halo_text(radius)} px"
        yield Frame(text, around(radius), (150, 176, 255), 4)
    text = f"estimate: {halo_text(field.radius)} px"
    yield Frame(text, around(field.radius), CYAN, 8)
    periods = " x ".join(map(str, field.zone.shape))
    yield Frame(f"zone: {periods} px", field.zone, (255, 255, 255), 0)


def hull(*boxes: Box) -> Box:
    """Return the smallest box that holds all of `boxes`."""
    return Box(
        tuple(
            Interval(min(axis.start for axis in axes), max(axis.stop for axis in axes))
            for axes in zip(*(box.axes for box in boxes), strict=True)
        )
    )


def map_of(field: EffectiveField, scale: Scale, shown: Box, size: tuple[int, int]) -> Image.Image:
    """Return the map of the part `shown` in `size` (X, Y): grey where there is no window."""
    canvas = np.full((*shown.shape, 3), NOT_COMPUTED, np.uint8)
    y, x = (
        slice(-axis.start, side - axis.start)
        for axis, side in zip(shown.axes, field.window, strict=True)
    )
    canvas[y, x] = scale.colours(field.gradient)
    # Pixels stay squares, or are averaged where there are more than the picture has.
    enlarged = size[0] >= canvas.shape[1]
    resampling = Image.Resampling.NEAREST if enlarged else Image.Resampling.BOX
    return Image.fromarray(canvas).resize(size, resampling)


def outline(
    pen: ImageDraw.ImageDraw, corners: tuple[float, float, float, float], frame: Frame
) -> None:
    """Draw the rectangle `corners` (left, top, right, bottom) in the frame's style."""
    left, top, right, bottom = corners
    if not frame.dash:
        pen.rectangle(corners, outline=CASING, width=4)
        pen.rectangle((left + 1, top + 1, right - 1, bottom - 1), outline=frame.colour, width=2)
        return
    for start, stop in (
        *(
            ((x, y), (min(x + frame.dash, right), y))
            for y in (top + 1, bottom - 2)
            for x in np.arange(left, right, 2 * frame.dash)
        ),
        *(
            ((x, y), (x, min(y + frame.dash, bottom)))
            for x in (left + 1, right - 2)
            for y in np.arange(top, bottom, 2 * frame.dash)
        ),
    ):
        pen.line((start, stop), CASING, 4)
        pen.line((start, stop), frame.colour, 2)


def write_legend(
    pen: ImageDraw.ImageDraw, field: EffectiveField, frames: list[Frame], left: int
) -> int:
    """Write what the rectangles are, from x = `left` on, and return the y where that ends."""
    y = MARGIN
    pen.text((left, y), "Effective receptive field", INK, ImageFont.load_default(TITLE))
    y += LINE
    font = ImageFont.load_default(TEXT)
    size = " x ".join(map(str, field.window))
    lines = [
        "An estimate, never a bound: tiles are cut by the halo.",
        f"Mean of {field.samples} noise images; window {size} px"
        + (", cut." if field.cut else "."),
    ]
    if field.error is not None:
        lines += [
            "A zone run with the estimate instead of the halo:",
            f"RMSE {field.error.rmse:.1e}, {field.error.labels:,} of {field.error.positions:,} "
            "labels differ.",
        ]
    for line in lines:
        pen.text((left, y), line, INK, font)
        y += LINE - 6
    y += LINE
    for frame in reversed(frames):
        pen.rectangle((left, y, left + 44, y + 20), fill=CASING)
        outline(pen, (left + 6, y + 4, left + 38, y + 16), frame)
        pen.text((left + 56, y + 10), frame.text, INK, font, anchor="lm")
        y += LINE
    pen.rectangle((left, y, left + 44, y + 20), fill=NOT_COMPUTED)
    pen.text((left + 56, y + 10), "outside the window", INK, font, anchor="lm")
    return y + LINE


def draw_bar(picture: Image.Image, scale: Scale, threshold: float, corner: tuple[int, int]) -> None:
    """Draw the colours with their powers of ten, and the threshold, from `corner` (x, y) on."""
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(TEXT)
    x, y = corner
    pen.text((x, y), "gradient magnitude", INK, font)
    y += LINE
    width = LEGEND - 2 * TEXT
    shades = scale.shade(np.linspace(0, 1, width))
    picture.paste(Image.fromarray(np.tile(shades, (BAR, 1, 1))), (x, y))

    def place(power: float) -> float:
        return x + (width - 1) * (power - scale.low) / (scale.high - scale.low)

    step = max(1, ceil((scale.high - scale.low) / 6))
    for power in range(scale.high, scale.low - 1, -step):
        pen.line(((place(power), y + BAR), (place(power), y + BAR + 5)), INK)
        pen.text((place(power), y + BAR + 8), f"1e{power}", INK, font, anchor="mt")
    at = place(log10(threshold))
    pen.line(((at, y - 5), (at, y + BAR - 1)), CYAN, 2)
    pen.text((at, y + BAR + 8 + LINE), "threshold", INK, font, anchor="mt")
