"""A small line chart, drawn with Pillow: log or linear values, with a place of its own for zero.

On a logarithmic axis there is no zero, and here zero is the point: a value of exactly 0 is drawn on
a line below the axis that says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Marker = Literal["disc", "ring", "square"]

INK: Colour = (40, 40, 46)
FAINT: Colour = (226, 227, 232)
PAPER: Colour = (255, 255, 255)
ZERO_BAND: Colour = (238, 246, 239)

SCALE = 3
"""Drawn so many times larger, then averaged down, for smooth lines."""

WIDTH, HEIGHT = 720, 460
LEFT, RIGHT, TOP, BOTTOM = 78, 22, 76, 56
ZERO_HEIGHT = 40
"""Height of the place for zero, in pixels."""


@dataclass(frozen=True, slots=True)
class Series:
    """Points that belong together; values of exactly 0 are allowed on any axis."""

    name: str
    colour: Colour
    marker: Marker
    points: tuple[tuple[float, float], ...]
    joined: bool = True
    """Draw a line through the points."""


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn."""

    title: str
    x_label: str
    series: tuple[Series, ...]
    logarithmic: bool = True
    x_step: int = 16
    """Distance of the ticks on the x axis."""

    def draw(self) -> Image.Image:
        """Return the picture, WIDTH x HEIGHT pixels."""
        image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), PAPER)
        pen = _Pen(ImageDraw.Draw(image))
        frame = _Frame(self)
        self._axes(pen, frame)
        for series in self.series:
            places = [(frame.x(x), frame.y(y)) for x, y in series.points]
            if series.joined:
                pen.polyline(places, series.colour)
            for place in places:
                pen.marker(place, series.marker, series.colour)
        self._legend(pen)
        return image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)

    def _axes(self, pen: _Pen, frame: _Frame) -> None:
        left, right, bottom = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM
        pen.text((LEFT, 14), self.title, 19, "lt")
        if self.logarithmic:
            pen.box((left, bottom - ZERO_HEIGHT, right, bottom), ZERO_BAND)
            pen.text((left - 8, frame.y(0)), "exactly 0", 14, "rm")
        for value, label in frame.ticks():
            pen.polyline([(left, frame.y(value)), (right, frame.y(value))], FAINT, 1)
            pen.text((left - 8, frame.y(value)), label, 14, "rm")
        for x in range(0, int(frame.last_x) + 1, self.x_step):
            pen.polyline([(frame.x(x), bottom), (frame.x(x), bottom + 5)], INK, 1)
            pen.text((frame.x(x), bottom + 9), str(x), 14, "mt")
        pen.text(((left + right) / 2, HEIGHT - 8), self.x_label, 15, "mb")
        pen.polyline([(left, TOP), (left, bottom), (right, bottom)], INK, 1)

    def _legend(self, pen: _Pen) -> None:
        x = float(LEFT)
        for series in self.series:
            if series.joined:
                pen.polyline([(x, 54), (x + 26, 54)], series.colour)
            pen.marker((x + 13, 54), series.marker, series.colour)
            x += 34 + pen.text((x + 34, 54), series.name, 15, "lm") + 24


class _Frame:
    """From values to pixels."""

    def __init__(self, chart: Chart) -> None:
        values = [y for series in chart.series for _, y in series.points]
        self.logarithmic = chart.logarithmic
        self.last_x = max(x for series in chart.series for x, _ in series.points)
        if chart.logarithmic:
            positive = [value for value in values if value > 0] or [1.0]
            self.low = floor(log10(min(positive)))
            self.high = max(ceil(log10(max(positive))), self.low + 1)
        else:
            self.step = _round_step(max(values) or 1.0)
            self.low, self.high = 0, ceil((max(values) or 1.0) / self.step)

    def x(self, value: float) -> float:
        inside = WIDTH - LEFT - RIGHT - 28
        return LEFT + 14 + inside * value / self.last_x

    def y(self, value: float) -> float:
        bottom = HEIGHT - BOTTOM - (ZERO_HEIGHT if self.logarithmic else 0)
        if self.logarithmic and value == 0:
            return bottom + ZERO_HEIGHT / 2
        position = log10(value) if self.logarithmic else value / self.step
        return bottom - (bottom - TOP) * (position - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        if self.logarithmic:
            return [(10.0**power, f"1e{power}") for power in range(self.low, self.high + 1)]
        steps = range(self.high + 1)
        return [(step * self.step, f"{step * self.step:g}") for step in steps]


def _round_step(largest: float) -> float:
    """Return a step of 1, 2 or 5 times a power of ten that fits about five times."""
    power = 10.0 ** floor(log10(largest / 5))
    return next(power * n for n in (1, 2, 5, 10) if power * n * 5 >= largest * 0.999)


class _Pen:
    """Draws in pixels of the final picture."""

    def __init__(self, draw: ImageDraw.ImageDraw) -> None:
        self.draw = draw

    def polyline(
        self, places: Sequence[tuple[float, float]], colour: Colour, width: float = 2
    ) -> None:
        scaled = [(x * SCALE, y * SCALE) for x, y in places]
        self.draw.line(scaled, colour, round(width * SCALE), joint="curve")

    def box(self, corners: tuple[float, float, float, float], colour: Colour) -> None:
        left, top, right, bottom = (value * SCALE for value in corners)
        self.draw.rectangle((left, top, right, bottom), colour)

    def marker(self, place: tuple[float, float], marker: Marker, colour: Colour) -> None:
        x, y = place[0] * SCALE, place[1] * SCALE
        r = (4.0 if marker == "square" else 4.6) * SCALE
        corners = (x - r, y - r, x + r, y + r)
        if marker == "square":
            self.draw.rectangle(corners, PAPER, colour, round(1.8 * SCALE))
        else:
            inside = colour if marker == "disc" else PAPER
            self.draw.ellipse(corners, inside, colour, round(1.8 * SCALE))

    def text(self, place: tuple[float, float], text: str, size: int, anchor: str) -> float:
        """Write `text` and return its width."""
        font = ImageFont.load_default(size * SCALE)
        scaled = (place[0] * SCALE, place[1] * SCALE)
        self.draw.text(scaled, text, INK, font, anchor=anchor)
        return self.draw.textlength(text, font) / SCALE
