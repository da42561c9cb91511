"""Which rank has which part of an image: ranks along each axis, and cuts on the F grid.

All parts of a row begin and end on the same cuts:

         0        cut       extent
    0    +---------+---------+
         | rank 0  | rank 1  |          a mesh of 2 x 2
    cut  +---------+---------+
         | rank 2  | rank 3  |
         +---------+---------+

Where the user leaves it open, the mesh is the one with the least surface between parts, among those
that share the work well: that is where the fewest bytes are exchanged. Nothing here knows of torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from exactile.errors import PlanError, SettingsError
from exactile.geometry import Box, Interval
from exactile.partition.layout import even_cuts

NAMES = "ZYX"
"""The axes of volumes; planes have the last two."""

MOST_EXCESS = 1.2
"""How much larger than the mean the largest part may be, if there is a mesh that keeps to it."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """How an image is split."""

    mesh: tuple[int, ...]
    """Ranks along each axis of the image, in array order."""
    cuts: tuple[tuple[int, ...], ...]
    """Where the parts of the padded image begin and end, on each axis."""

    def part(self, place: tuple[int, ...]) -> Box:
        """Return the part of the rank at `place` on the mesh."""
        return Box(tuple(Interval(c[i], c[i + 1]) for c, i in zip(self.cuts, place, strict=True)))

    @property
    def largest(self) -> int:
        """Pixels of the largest part."""
        return prod(max(b - a for a, b in pairwise(cuts)) for cuts in self.cuts)

    @property
    def surface(self) -> int:
        """Pixels on all planes between parts."""
        extent = [cuts[-1] for cuts in self.cuts]
        return sum(
            (ranks - 1) * prod(extent) // side
            for ranks, side in zip(self.mesh, extent, strict=True)
        )

    def __str__(self) -> str:
        names = NAMES[-len(self.mesh) :]
        split = [f"{name} by {n}" for name, n in zip(names, self.mesh, strict=True) if n > 1]
        return ", ".join(split) or "one part"


def check_asked(
    dimensions: int, ranks: int, mesh: tuple[int, ...] | None, axes: str | None
) -> None:
    """See that `mesh` and `axes` fit each other, so many `ranks`, and images of `dimensions`.

    Raises:
        SettingsError: if they do not; no image can be split like that then.
    """
    names = NAMES[-dimensions:]
    if axes is not None and not set(axes) <= set(names):
        raise SettingsError(
            f"--axes {axes}: the network takes images with the axes {names}; use some of these"
        )
    if mesh is None:
        return
    text, axes = "x".join(map(str, mesh)), axes or names[-len(mesh) :]
    if len(mesh) != len(axes):
        raise SettingsError(
            f"--mesh {text} has {len(mesh)} sides for the {len(axes)} axes {axes}; give one number "
            "for each axis that is split"
        )
    if prod(mesh) != ranks:
        raise SettingsError(
            f"--mesh {text} has {prod(mesh)} ranks, but {ranks} processes were started; start "
            f"{prod(mesh)} with torchrun, or leave --mesh out"
        )


def arrange(
    extent: tuple[int, ...],
    alignment: tuple[int, ...],
    ranks: int,
    mesh: tuple[int, ...] | None = None,
    axes: str | None = None,
) -> Arrangement:
    """Return how an image of `extent`, padded to multiples of F, is split over `ranks`.

    `mesh` has the ranks along each of `axes`, or along the last axes.

    Raises:
        SettingsError: see `check_asked`.
        PlanError: if the mesh does not fit the image.
    """
    names = NAMES[-len(extent) :]
    check_asked(len(extent), ranks, mesh, axes)
    if mesh is not None:
        return _given(extent, alignment, mesh, axes or names[-len(mesh) :])
    allowed = [name in (axes or names) for name in names]
    found = [
        _cut(extent, alignment, each)
        for each in _meshes(ranks, len(extent))
        if all(may or side == 1 for may, side in zip(allowed, each, strict=True))
    ]
    most = MOST_EXCESS * prod(extent) / ranks
    even = [each for each in found if each.largest <= most]
    if even:
        return min(even, key=lambda each: (each.surface, each.largest, each.mesh))
    return min(found, key=lambda each: (each.largest, each.surface, each.mesh))


def _given(
    extent: tuple[int, ...],
    alignment: tuple[int, ...],
    mesh: tuple[int, ...],
    axes: str,
) -> Arrangement:
    text = "x".join(map(str, mesh))
    names = NAMES[-len(extent) :]
    sides = dict(zip(axes, mesh, strict=True))
    whole = tuple(sides.get(name, 1) for name in names)
    for name, side, length, step in zip(names, whole, extent, alignment, strict=True):
        if side > length // step:
            raise PlanError(
                f"--mesh {text} splits {name} into {side} parts, but the padded image has "
                f"{length // step} steps of F = {step} px along it; use fewer, or leave --mesh out"
            )
    return _cut(extent, alignment, whole)


def _cut(extent: tuple[int, ...], alignment: tuple[int, ...], mesh: tuple[int, ...]) -> Arrangement:
    cuts = (even_cuts(e, n, f) for e, n, f in zip(extent, mesh, alignment, strict=True))
    return Arrangement(mesh, tuple(cuts))


def _meshes(ranks: int, dimensions: int) -> Iterator[tuple[int, ...]]:
    """Yield every grid of so many ranks."""
    if dimensions == 1:
        yield (ranks,)
        return
    for side in range(1, ranks + 1):
        if ranks % side == 0:
            for rest in _meshes(ranks // side, dimensions - 1):
                yield (side, *rest)
