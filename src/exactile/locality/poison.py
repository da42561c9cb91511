"""The proof on the very weights: poison what a zone must not depend on, and see it stay clean.

    +-----------------------------------+
    | poison                            |     The input outside the claimed dependency of a zone
    |      +--------------------+       |     (the zone and its halo) is replaced by NaN. The zone's
    |      | halo               |       |     output must be free of NaN and have the very bits of
    |      |      +------+      |       |     the pass without poison. This is done for zones inside
    |      |      | zone |      |       |     the image, at its edges and in its corners; inside,
    |      |      +------+      |       |     other finite numbers are tried as well, because some
    |      +--------------------+       |     operators hide NaN, and some look only at what lies
    |                                   |     above a threshold: see `finite_poisons`.
    +-----------------------------------+

The same with one F less of halo, on each side by itself, tells whether the halo is the least: there
the poison should show.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from time import perf_counter
from types import EllipsisType

import torch
from torch import nn

from exactile.errors import ModelError
from exactile.geometry import Box, Halo, Interval, ceil_to
from exactile.locality.analysis import Analysis
from exactile.locality.modulepath import evaluation

MAX_PIXELS = 1 << 19
"""Most pixels of a test image; where the halo needs more, strips along each axis are used."""

SCALES = (-3.0, 6.0)
"""Least and greatest decimal exponent of the finite numbers: pixels of 16 bits lie inside."""

BEYOND = 100.0
"""How many times larger than the image the noise around it is."""

WIDE = 3000.0
"""Range of a second image, as of raw pixels: what is switched on inside a zone by its own bright
pixels does not show in noise of deviation 1."""

STRIP_WIDTH = 64
"""Least side of a strip across its axis, in pixels."""


@dataclass(frozen=True, slots=True)
class ZoneProof:
    """What poisoning showed for one zone."""

    extent: tuple[int, ...]
    """Sides of the test image, in array order."""
    zone: Box
    """The zone, in output positions."""
    dependency: Box
    """The input that was left as it was."""
    place: str
    """`interior`, `edge` or `corner` of the image; `whole` if nothing is left to poison."""
    clean: bool
    """No NaN came through."""
    equal_nan: bool
    """Bit-equal to the pass without poison when the rest is NaN."""
    equal_finite: bool | None
    """Bit-equal to the pass without poison when the rest is other finite numbers, of all kinds;
    tried where there is poison on all sides, so None at edges and in corners."""

    @property
    def holds(self) -> bool:
        """Whether the zone depends on nothing outside its claim, as far as poison can tell."""
        return self.clean and self.equal_nan and self.equal_finite is not False


@dataclass(frozen=True, slots=True)
class Proof:
    """What poisoning showed for a network: numbers for the certificate of a run."""

    zones: tuple[ZoneProof, ...]
    """Every zone that was tried."""
    minimal: tuple[tuple[bool | None, bool | None], ...]
    """Per axis, for the low and the high side: whether one F less of halo already shows the
    poison. None where there is no halo to take away."""
    passes: int
    """Forward passes made."""
    seconds: float
    """Time they took."""

    @property
    def holds(self) -> bool:
        """Whether every zone stayed clean and bit-equal."""
        return all(zone.holds for zone in self.zones)


@dataclass
class Subject:
    """The network on one test image, with the clean output to compare with."""

    module: nn.Module
    image: torch.Tensor
    poisons: tuple[torch.Tensor, ...]
    """Finite numbers to put in the place of the image's, of all kinds."""
    clean: torch.Tensor
    passes: int = 1

    def poisoned(self, kept: Box, poison: torch.Tensor) -> torch.Tensor:
        """Return the output when everything but `kept` is taken from `poison`."""
        image = poison.clone()
        inside = pixels(kept)
        image[inside] = self.image[inside]
        self.passes += 1
        output: torch.Tensor = self.module(image)
        return output

    def under_nan(self, zone: Box, kept: Box) -> tuple[bool, bool]:
        """Return whether the zone is free of NaN, and bit-equal, when the rest is NaN."""
        at = pixels(zone)
        found = self.poisoned(kept, torch.full_like(self.image, torch.nan))[at]
        return not bool(torch.isnan(found).any()), same_bits(found, self.clean[at])

    def under_finite(self, zone: Box, kept: Box, kinds: slice = slice(None)) -> bool:
        """Return whether the zone is bit-equal when the rest is other finite numbers of `kinds`."""
        at = pixels(zone)
        return all(
            same_bits(self.poisoned(kept, poison)[at], self.clean[at])
            for poison in self.poisons[kinds]
        )


def pixels(box: Box) -> tuple[EllipsisType | slice, ...]:
    """Return the index of a box in a tensor whose last axes are the image's."""
    return (..., *(slice(axis.start, axis.stop) for axis in box.axes))


def finite_poisons(shape: tuple[int, ...], generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """Return finite numbers that an operator cannot all hide: each of `shape`.

    Noise beyond the image's range; numbers of all scales side by side, and the same with the other
    sign and without their fractions (so that many are zero), for what compares pixels with a
    threshold or counts in whole numbers; and one huge number everywhere, or its negative, which
    averages do not hide.
    """
    noise = torch.randn(shape, generator=generator)
    low, high = SCALES
    scales = 10 ** (low + (high - low) * torch.rand(shape, generator=generator))
    mixed = torch.randn(shape, generator=generator).sign() * scales
    huge = torch.full(shape, 10.0**high)
    return noise * BEYOND, mixed, -mixed.round(), huge, -huge


def same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two tensors hold the same bits: NaN equals NaN, and -0 differs from 0."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    return torch.equal(
        # Of a single value any stride counts as contiguous, but bytes need that of 1.
        first.clone(memory_format=torch.contiguous_format).view(-1).view(torch.uint8),
        second.clone(memory_format=torch.contiguous_format).view(-1).view(torch.uint8),
    )


def prove(
    module: nn.Module,
    analysis: Analysis,
    channels: int,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    max_pixels: int = MAX_PIXELS,
) -> Proof:
    """Poison what each of several zones of `module` must not depend on, and compare.

    The module must be on `device` with floating weights of `dtype`; it takes (1, channels, *extent)
    and returns one tensor. Its training flags are left as they were. The test image is noise, large
    enough for an interior zone with poison all around; where that takes more than `max_pixels`,
    a strip along each axis is used instead, which shows each axis by itself and no corners.

    Raises `ModelError` where even the unpoisoned output holds NaN.
    """
    started = perf_counter()
    generator = torch.Generator().manual_seed(seed)
    zones: list[ZoneProof] = []
    minimal: dict[tuple[int, int], bool] = {}
    passes = 0
    with evaluation(module), torch.inference_mode():
        for extent, axes in test_images(analysis, max_pixels):
            shape = (1, channels, *extent)
            image = torch.randn(shape, generator=generator).to(device, dtype)
            poisons = tuple(p.to(device, dtype) for p in finite_poisons(shape, generator))
            bright = (image.abs() * WIDE).to(dtype)
            # A network may write into its input.
            subject = Subject(module, image, poisons, module(image.clone()))
            if bool(torch.isnan(subject.clean).any()):
                raise ModelError(
                    "the network returns NaN for a noise image, so poison would prove nothing; "
                    "check its weights"
                )
            for zone in chosen_zones(analysis, extent, axes):
                zones.append(judge(subject, analysis, axes, zone))
                if zone == inner_zone(analysis, extent, axes):
                    raw = Subject(module, bright, poisons[1:2], module(bright.clone()))
                    equal = raw.under_finite(*boxes(analysis, extent, zone))
                    zones[-1] = replace(zones[-1], equal_finite=equal and zones[-1].equal_finite)
                    passes += raw.passes
            for axis in axes:
                for side in (0, 1):
                    if halo_sides(analysis.locality.halo[axis])[side] > 0:
                        minimal[axis, side] = too_little(subject, analysis, axes, axis, side)
            passes += subject.passes
    return Proof(
        zones=tuple(zones),
        minimal=tuple(
            (minimal.get((axis, 0)), minimal.get((axis, 1)))
            for axis in range(len(analysis.locality.axes))
        ),
        passes=passes,
        seconds=perf_counter() - started,
    )


def halo_sides(halo: Halo) -> tuple[int, int]:
    """Return the two sides of a halo in order."""
    return halo.low, halo.high


def test_images(
    analysis: Analysis, max_pixels: int
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Yield the sides of each test image, with the axes along which it shows zones."""
    alignments = analysis.locality.alignment
    # One zone with its halo, and one period of poison on both sides of it.
    full = tuple(3 * axis.alignment + axis.halo.total for axis in analysis.locality.axes)
    if prod(full) <= max_pixels:
        yield full, tuple(range(len(full)))
        return
    narrow = tuple(ceil_to(STRIP_WIDTH, alignment) for alignment in alignments)
    for axis, side in enumerate(full):
        yield tuple(side if other == axis else narrow[other] for other in range(len(full))), (axis,)


def zone_counts(analysis: Analysis, extent: tuple[int, ...]) -> tuple[int, ...]:
    """Return how many whole zones of one period the output has on each axis."""
    counts = []
    for axis, side in enumerate(extent):
        crop = analysis.crop_total[axis]
        counts.append((side - crop) // analysis.locality.axes[axis].alignment)
    return tuple(counts)


def interior_zone(analysis: Analysis, axis: int) -> int:
    """Return the index of the zone that has a period of poison below its halo."""
    located = analysis.locality.axes[axis]
    return located.halo.low // located.alignment + 1


def chosen_zones(
    analysis: Analysis, extent: tuple[int, ...], axes: tuple[int, ...]
) -> Iterator[tuple[Interval, ...]]:
    """Yield zones as intervals of zone indices: inside, at every edge and in every corner."""
    choices = []
    for axis, count in enumerate(zone_counts(analysis, extent)):
        if axis in axes:
            single = sorted({0, min(interior_zone(analysis, axis), count - 1), count - 1})
            choices.append([Interval(index, index + 1) for index in single])
        else:
            choices.append([Interval(0, count)])
    yield from product(*choices)


def boxes(
    analysis: Analysis, extent: tuple[int, ...], zone: tuple[Interval, ...]
) -> tuple[Box, Box]:
    """Return the zone in output positions and its dependency in input pixels."""
    outputs, inputs = [], []
    for axis, indices in enumerate(zone):
        located = analysis.locality.axes[axis]
        step = int(located.alignment * analysis.scale[axis])
        outputs.append(Interval(indices.start * step, indices.stop * step))
        pixels = Interval(indices.start * located.alignment, indices.stop * located.alignment)
        inputs.append(pixels.grow(located.halo) & Interval(0, extent[axis]))
    return Box(tuple(outputs)), Box(tuple(inputs))


def inner_zone(
    analysis: Analysis, extent: tuple[int, ...], axes: tuple[int, ...]
) -> tuple[Interval, ...]:
    """Return the zone with a period of poison around its halo, along `axes`."""
    counts = zone_counts(analysis, extent)
    inner = [min(interior_zone(analysis, axis), n - 1) for axis, n in enumerate(counts)]
    return tuple(
        Interval(inner[axis], inner[axis] + 1) if axis in axes else Interval(0, counts[axis])
        for axis in range(len(extent))
    )


def judge(
    subject: Subject, analysis: Analysis, axes: tuple[int, ...], zone: tuple[Interval, ...]
) -> ZoneProof:
    """Poison everything outside the zone's dependency and compare."""
    extent = tuple(subject.image.shape[2:])
    outputs, kept = boxes(analysis, extent, zone)
    borders = sum(kept.axes[a].start == 0 or kept.axes[a].stop == extent[a] for a in axes)
    place = "interior" if borders == 0 else "corner" if borders == len(extent) else "edge"
    if kept == Box.of_shape(extent):
        place = "whole"
    kinds = slice(None) if place == "interior" else slice(1)
    inside = place in ("interior", "whole")
    finite = subject.under_finite(outputs, kept, kinds) if inside else None
    return ZoneProof(extent, outputs, kept, place, *subject.under_nan(outputs, kept), finite)


def too_little(
    subject: Subject, analysis: Analysis, axes: tuple[int, ...], axis: int, side: int
) -> bool:
    """Whether the interior zone shows the poison with one F less of halo on one side."""
    extent = tuple(subject.image.shape[2:])
    outputs, kept = boxes(analysis, extent, inner_zone(analysis, extent, axes))
    alignment = analysis.locality.axes[axis].alignment
    less = list(kept.axes)
    less[axis] = (
        Interval(less[axis].start + alignment, less[axis].stop)
        if side == 0
        else Interval(less[axis].start, less[axis].stop - alignment)
    )
    kept = Box(tuple(less))
    shown = not all(subject.under_nan(outputs, kept))
    return shown or not subject.under_finite(outputs, kept, slice(1))
