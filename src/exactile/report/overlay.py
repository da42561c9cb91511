"""A picture to look at: the slide in grey with the colonies that were found, made small by tile."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from exactile.geometry import Box, Interval, floor_to
from exactile.images import Plane, Source
from exactile.report.preview_drawing import TINT, outline

STRIP = 1024
"""Side of the pieces that are read, in pixels of the slide."""

FOUND = np.array([255, 196, 0], np.float32)
"""Colour (R, G, B) of what was found."""


def shrink(source: Source, factor: int) -> NDArray[np.float32]:
    """Return channel 0 of the first plane, each `factor` x `factor` pixels averaged: (Y, X).

    Rows and columns at the end that do not fill a cell are left out.
    """
    step = max(factor, floor_to(STRIP, factor))
    height, width = (floor_to(side, factor) for side in source.shape)
    small = np.empty((height // factor, width // factor), np.float32)
    pieces = product(Interval(0, height).split(step), Interval(0, width).split(step))
    for axes in pieces:
        cells = source.read(Plane(0, 0), (0,), Box(axes))[0].astype(np.float32)
        rows, columns = cells.shape[0] // factor, cells.shape[1] // factor
        y, x = axes[0].start // factor, axes[1].start // factor
        averaged = cells.reshape(rows, factor, columns, factor).mean((1, 3))
        small[y : y + rows, x : x + columns] = averaged
    return small


def draw_overlay(image: Source, labels: Source, path: Path, longest: int = 2048) -> None:
    """Write a PNG of `image` with the non-zero part of `labels` tinted and outlined.

    The longer side is at most about `longest` pixels; contrast goes from the 1st to the 99th
    percentile.
    """
    factor = max(1, -(-max(image.shape) // longest))
    grey = shrink(image, factor)
    low, high = np.percentile(grey, (1, 99))
    grey = np.clip((grey - low) / max(high - low, 1e-6), 0, 1) * 255
    found = shrink(labels, factor) >= 0.5
    strength = np.where(found, TINT, 0.0)
    strength[outline(found)] = 1.0
    picture = grey[..., None] * (1 - strength[..., None]) + FOUND * strength[..., None]
    Image.fromarray(picture.astype(np.uint8)).save(path)
