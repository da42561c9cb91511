"""A synthetic volume of nuclei under noise, with its truth, of any size.

Every voxel is a pure function of its position and the seed: any box of the volume can be made by
itself, equal to the same box of the whole, so each rank makes its own part and none ever holds the
whole. Space is cut into blocks. Each has a random generator of its own, which is asked for its
nucleus, an ellipsoid that reaches no farther than the next blocks, and then for its noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from exactile.geometry import Box, Interval

PITCH = 20
"""Side of a block, in voxels."""
RADII = (4.5, 9.5)
"""Least and greatest half axis of a nucleus, in voxels; less than half of PITCH."""
FILLED = 0.8
"""Share of the blocks that have a nucleus."""
NOISE = 0.8
"""Standard deviation of the noise; the background is 0 and nuclei are about 1."""


@dataclass(frozen=True)
class Nucleus:
    """An ellipsoid with its axes along the volume's."""

    centre: NDArray[np.float64]
    """Its middle (Z, Y, X), in voxels from the volume's origin."""
    radii: NDArray[np.float64]
    """Its half axes (Z, Y, X), in voxels."""
    brightness: float
    """Its value in the middle."""

    @property
    def box(self) -> Box:
        """All voxels that it may touch."""
        low = np.floor(self.centre - self.radii).astype(int).tolist()
        high = np.ceil(self.centre + self.radii).astype(int).tolist()
        return Box(tuple(Interval(a, b + 1) for a, b in zip(low, high, strict=True)))


def nuclei(box: Box, seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return image and truth (1 within a nucleus) in `box`, both (Z, Y, X)."""
    image = np.zeros(box.shape, np.float32)
    truth = np.zeros(box.shape, np.uint8)
    noise = np.zeros(box.shape, np.float32)
    for place in _blocks(box):
        # Far apart in the generator's period, for any place and any draws.
        counter = [0, *(index + 2 for index in place)]
        rng = np.random.Generator(np.random.Philox(key=seed, counter=counter))
        nucleus = _nucleus(rng, place)
        if nucleus is not None:
            _paint(nucleus, box, image, truth)
        block = Box(tuple(Interval(i * PITCH, (i + 1) * PITCH) for i in place))
        if (common := block & box).size:
            drawn = rng.standard_normal(block.shape, np.float32)
            noise[common.relative_to(box).slices] = drawn[common.relative_to(block).slices]
    noise *= np.float32(NOISE)
    image += noise
    return image, truth


def _blocks(box: Box) -> Iterator[tuple[int, ...]]:
    """Yield the places of the blocks whose nuclei may touch `box`."""
    ranges = [range(a.start // PITCH - 1, (a.stop - 1) // PITCH + 2) for a in box.axes]
    yield from product(*ranges)


def _nucleus(rng: np.random.Generator, place: tuple[int, ...]) -> Nucleus | None:
    """Return the nucleus of the block at `place`, if it has one."""
    centre = (np.array(place) + rng.random(3)) * PITCH
    radii = rng.uniform(*RADII, 3)
    brightness, kept = rng.uniform(0.7, 1.3), rng.random() < FILLED
    return Nucleus(centre, radii, brightness) if kept else None


def _paint(
    nucleus: Nucleus, box: Box, image: NDArray[np.float32], truth: NDArray[np.uint8]
) -> None:
    """Add a nucleus, brightest in its middle; where two meet, the brighter one wins."""
    common = nucleus.box & box
    if not common.size:
        return
    squares = np.zeros(())
    for axis, centre, radius in zip(common.axes, nucleus.centre, nucleus.radii, strict=True):
        distance = (np.arange(axis.start, axis.stop) + 0.5 - centre) / radius
        squares = squares[..., None] + distance**2
    at = common.relative_to(box).slices
    value = np.where(squares < 1, nucleus.brightness * (1 - 0.5 * squares), 0)
    image[at] = np.maximum(image[at], value.astype(np.float32))
    truth[at] |= squares < 1
