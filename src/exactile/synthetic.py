"""A synthetic phase-contrast slide of stem-cell colonies, with its truth, of any size.

Every pixel is a pure function of its position and the seed: any box of the slide can be made by
itself, equal to the same box of the whole, so a slide of any size is written in bounded memory.
Colonies are the places where smooth noise exceeds a threshold; inside, cells are the Voronoi cells
of jittered grid points (Worley noise) with bright borders; outside lies a shaded, striped and dusty
background. It is made to be looked at and to test the program, not to model a microscope.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exactile.geometry import Box, Interval

Field = NDArray[np.float32]

CELL_PITCH = 26
"""Mean distance between cells, in pixels."""
COLONY_THRESHOLD = 0.08
"""Level of the colony noise above which there is a colony."""


def _hash(rows: NDArray[np.int64], columns: NDArray[np.int64], seed: int) -> Field:
    """Return a uniform number in [0, 1) for each lattice point (splitmix64 of its position)."""
    x = rows.astype(np.uint64)[:, None] * np.uint64(0x9E3779B97F4A7C15)
    x = x ^ (columns.astype(np.uint64)[None, :] * np.uint64(0xC2B2AE3D27D4EB4F))
    x = x + np.uint64(seed * 0xD6E8FEB86659FD93 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(40)).astype(np.float32) / np.float32(2**24)


def _spline_taps(axis: Interval, pitch: float) -> tuple[NDArray[np.int64], Field]:
    """Return the first of four lattice indices and the four cubic B-spline weights, by position.

    Shapes (length of `axis`,) and (4, length of `axis`).
    """
    position = (np.arange(axis.start, axis.stop) + 0.5) / pitch
    first = np.floor(position).astype(np.int64) - 1
    t = position - (first + 1)
    taps = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3])
    return first, (taps / 6).astype(np.float32)


def smooth_noise(box: Box, pitch: float, seed: int) -> Field:
    """Return smooth noise in about [-1, 1] with features of `pitch` pixels; shape of `box`."""
    (row, row_taps), (column, column_taps) = (_spline_taps(axis, pitch) for axis in box.axes)
    rows = np.arange(row[0], row[-1] + 4)
    columns = np.arange(column[0], column[-1] + 4)
    values = _hash(rows, columns, seed) * 2 - 1
    # Four taps added in a fixed order: the sum for a pixel must not depend on the box around it.
    across = sum(values[:, column - column[0] + k] * column_taps[k] for k in range(4))
    return np.asarray(sum(across[row - row[0] + k] * row_taps[k][:, None] for k in range(4)))


def _cells(box: Box, pitch: int, seed: int) -> tuple[Field, Field, Field]:
    """Return distance to the nearest and second nearest cell centre (in pitches), and its hash."""
    y = ((np.arange(box.axes[0].start, box.axes[0].stop) + 0.5) / pitch).astype(np.float64)
    x = ((np.arange(box.axes[1].start, box.axes[1].stop) + 0.5) / pitch).astype(np.float64)
    cell_y, cell_x = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    first = np.full(box.shape, np.inf, np.float32)
    second = np.full(box.shape, np.inf, np.float32)
    identity = np.zeros(box.shape, np.float32)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            row, column = cell_y + dy, cell_x + dx
            centre_y = row[:, None] + 0.1 + 0.8 * _hash(row, column, seed)
            centre_x = column[None, :] + 0.1 + 0.8 * _hash(row, column, seed + 1)
            distance = np.hypot(y[:, None] - centre_y, x[None, :] - centre_x).astype(np.float32)
            nearer = distance < first
            second = np.where(nearer, first, np.minimum(second, distance))
            identity = np.where(nearer, _hash(row, column, seed + 2), identity)
            first = np.minimum(first, distance)
    return first, second, identity


def _colony_level(box: Box, seed: int) -> Field:
    """Return the noise whose positive part is colony, rough at its edges."""
    level = 1.0 * smooth_noise(box, 420, seed) + 0.45 * smooth_noise(box, 130, seed + 1)
    level += 0.10 * smooth_noise(box, 28, seed + 2)
    return np.asarray(level - COLONY_THRESHOLD, dtype=np.float32)


def _background(box: Box, seed: int) -> Field:
    """Return shading, faint stripes, grain and dust, in camera counts."""
    y, x = (np.arange(a.start, a.stop, dtype=np.float64) for a in box.axes)
    warp = 40 * smooth_noise(box, 300, seed)
    stripes = np.sin((y[:, None] * 0.12 + x[None, :] * 0.31 + warp) / 3.0)
    strength = np.clip(smooth_noise(box, 500, seed + 1), 0, None)
    counts = 2600 + 500 * smooth_noise(box, 1500, seed + 2) + 90 * smooth_noise(box, 160, seed + 3)
    counts += 90 * strength * stripes + 60 * smooth_noise(box, 5, seed + 4)
    speck = smooth_noise(box, 4, seed + 5) * smooth_noise(box, 90, seed + 6)
    return np.asarray(counts - 4000 * np.clip(np.abs(speck) - 0.16, 0, None), dtype=np.float32)


def _colony(box: Box, seed: int) -> Field:
    """Return the counts that cells add to the background."""
    first, second, identity = _cells(box, CELL_PITCH, seed)
    border = np.exp(-(((second - first) / 0.10) ** 2))
    bright = 0.4 + 0.6 * np.clip(smooth_noise(box, 40, seed + 3) + 0.5, 0, 1)
    nucleus = np.exp(-((first / 0.28) ** 2)) * (identity - 0.3)
    grain = smooth_noise(box, 3, seed + 4) + 0.7 * smooth_noise(box, 7, seed + 5)
    counts = 2600 * border * bright - 420 + 700 * nucleus + 550 * grain
    return np.asarray(counts + 500 * (identity - 0.5), dtype=np.float32)


def slide(box: Box, seed: int = 0) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Return the slide's pixels and its truth (0 background, 1 colony) in `box`.

    Both arrays have the shape of `box`, (Y, X); the pixels are camera counts.
    """
    seed *= 1000
    level = _colony_level(box, seed)
    inside = level > 0
    rim = np.exp(-(((level - 0.015) / 0.02) ** 2))
    counts = _background(box, seed + 100) + np.where(inside, _colony(box, seed + 200), 0)
    counts += 900 * rim * np.clip(0.6 + smooth_noise(box, 30, seed + 300), 0, 1)
    y, x = (np.arange(axis.start, axis.stop) for axis in box.axes)
    counts += 60 * (_hash(y, x, seed + 400) - 0.5)
    return np.clip(np.rint(counts), 0, 65535).astype(np.uint16), inside.astype(np.uint8)
