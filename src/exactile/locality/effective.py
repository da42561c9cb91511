"""The effective receptive field, where an output's gradient shows: an estimate, never a bound.

Majurski and Bajcsy (2021) look at the gradient of an output pixel by the input, on an image of
N(0, 1) noise, and take what exceeds an absolute threshold as what a zone depends on. That varies
with the scale of the weights and with the image, it cannot exceed the window that it is measured
in, and for FC-DenseNet-56 it gave them 160 px where 192 were needed. It shows how a network spends
its reach; what tiles are cut by is the halo.

    +----------------------------+   The window: a zone of F pixels and its halo, outside which the
    | window   . : : : .         |   gradient is 0. Each sample takes another output pixel of the
    |        : +------+ :        |   zone; the estimate is how far beyond the zone their mean
    |        : | zone | :        |   magnitude exceeds the threshold, rounded up to F.
    |        : +------+ :        |
    |          . : : .           |
    +----------------------------+

What tiles with that estimate for a halo would get wrong is measured next to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from exactile.errors import ModelError
from exactile.finishing import Finishing
from exactile.geometry import Box, Halo, Interval, Locality, ceil_to
from exactile.locality.analysis import Analysis
from exactile.locality.halo_error import HaloError, error_at, in_output
from exactile.locality.modulepath import evaluation, kind_of
from exactile.locality.run import RUN_ERRORS

THRESHOLD = 1e-8
"""Gradient magnitude above which a pixel counts, as in the papers' code."""

MAX_GRADIENT_PIXELS = 1 << 18
"""Most pixels of a window: a gradient takes all of the network's feature maps in memory."""


@dataclass(frozen=True, slots=True)
class Window:
    """What the gradient is taken of."""

    shape: tuple[int, ...]
    """Sides (Y, X)."""
    zone: Box
    """The zone in it; it starts on the F grid."""
    cut: bool
    """It is smaller than the zone with its halo."""


@dataclass(frozen=True, slots=True, eq=False)
class EffectiveField:
    """The gradient of a zone's output pixels by the input, and the estimate that it gives."""

    radius: tuple[Halo, ...]
    """How far beyond the zone the gradient exceeds the threshold, rounded up to F: an estimate."""
    gradient: NDArray[np.float32] = field(repr=False)
    """Mean magnitude over the samples, of the input channels the largest: (Y, X) of the window."""
    zone: Box
    """The zone in the window."""
    samples: int
    """Noise images."""
    threshold: float
    """Gradient magnitude above which a pixel counts."""
    cut: bool
    """The window is smaller than the zone with its halo, and the estimate cannot exceed it."""
    halo: tuple[Halo, ...]
    """The halo of the analysis, on every axis."""
    alignment: tuple[int, ...]
    """F on every axis."""
    error: HaloError | None
    """What a zone gets wrong with the estimate for a halo. None where the estimate is the halo, and
    where showing it would take too large an image."""

    @property
    def window(self) -> tuple[int, ...]:
        """Sides (Y, X) of the window, in pixels."""
        return self.gradient.shape

    def __str__(self) -> str:
        """Return one line for people."""
        text = (
            f"{halo_text(self.radius)} px (an estimate, never a bound: gradient above "
            f"{self.threshold:g}, {self.samples} noise images); the halo is "
            f"{halo_text(self.halo)} px"
        )
        if self.cut:
            text += f"; it cannot exceed its window of {' x '.join(map(str, self.window))} px"
        if self.error is not None:
            text += (
                f"; at the estimate instead of the halo: RMSE {self.error.rmse:.1e}, "
                f"{self.error.labels:,} of {self.error.positions:,} labels differ"
            )
        return text


def halo_text(halo: tuple[Halo, ...]) -> str:
    """Return a halo by axis, as short as it can be told.

    >>> halo_text((Halo(96, 96), Halo(96, 96)))
    '96'
    >>> halo_text((Halo(384, 416), Halo(96, 96)))
    '384 and 416 x 96'
    """
    sides = [str(h.low) if h.low == h.high else f"{h.low} and {h.high}" for h in halo]
    return " x ".join(sides if len(set(sides)) > 1 else sides[:1])


def effective_receptive_field(
    module: nn.Module,
    channels: int,
    analysis: Analysis,
    *,
    samples: int = 16,
    seed: int = 0,
    threshold: float = THRESHOLD,
    max_pixels: int = MAX_GRADIENT_PIXELS,
    finishing: Finishing | None = None,
) -> EffectiveField:
    """Estimate the receptive field of `module` from gradients, and measure the error it makes.

    The module takes (1, channels, Y, X) and returns one tensor; its modes, weights and gradients
    are left as they were. The window is cut down where the zone and its halo have more than
    `max_pixels` pixels. `finishing` makes labels of the output; the usual one unless given.

    Raises `ValueError` for volumes, and `ModelError` where no gradient can be taken: the output is
    of whole numbers, or the network cuts its gradient off.

    Source: Majurski and Bajcsy (2021), effective receptive fields.
    """
    locality = analysis.locality
    if len(locality.axes) != 2:
        raise ValueError(
            f"an effective receptive field is of planes, but this network takes images of "
            f"{len(locality.axes)} axes; use the halo of its analysis"
        )
    window = gradient_window(locality, max_pixels)
    generator = torch.Generator().manual_seed(seed)
    dtype, device = kind_of(module)
    mean = np.zeros(window.shape, np.float64)
    with evaluation(module):
        for position in positions(locality, window.zone, samples, generator):
            image = torch.randn((1, channels, *window.shape), generator=generator)
            mean += gradient(module, image.to(device, dtype), position) / samples
    magnitude = mean.astype(np.float32)
    radius = tuple(
        beyond(magnitude, axis, inside, threshold).round_up(inside.length)
        for axis, inside in enumerate(window.zone.axes)
    )
    error = None
    if any(r.low < h.low or r.high < h.high for r, h in zip(radius, locality.halo, strict=True)):
        error = error_at(module, channels, analysis, radius, seed=seed, finishing=finishing)
    return EffectiveField(
        radius=radius,
        gradient=magnitude,
        zone=window.zone,
        samples=samples,
        threshold=threshold,
        cut=window.cut,
        halo=locality.halo,
        alignment=locality.alignment,
        error=error,
    )


def gradient_window(locality: Locality, max_pixels: int) -> Window:
    """Return a zone with its halo, cut down to `max_pixels` pixels if that is possible.

    The longest axis loses F of its larger side, again and again. What valid convolutions take away
    stays, for without it the zone has no output.
    """
    sides = [[axis.halo.low, axis.halo.high] for axis in locality.axes]
    kept = [[0, ceil_to(axis.crop.total, axis.alignment)] for axis in locality.axes]
    lengths = [axis.alignment + axis.halo.total for axis in locality.axes]
    cut = False
    while prod(lengths) > max_pixels:
        spare = [
            (lengths[axis], sides[axis][end], axis, end)
            for axis, end in product(range(len(lengths)), (0, 1))
            if sides[axis][end] > kept[axis][end]
        ]
        if not spare:
            break
        *_, axis, end = max(spare)
        sides[axis][end] -= locality.alignment[axis]
        lengths[axis] -= locality.alignment[axis]
        cut = True
    zone = Box(
        tuple(
            Interval(low, low + axis.alignment)
            for axis, (low, _) in zip(locality.axes, sides, strict=True)
        )
    )
    if not cut:
        lengths = [max(n, a.pad(a.least)) for n, a in zip(lengths, locality.axes, strict=True)]
    return Window(tuple(lengths), zone, cut)


def positions(
    locality: Locality, zone: Box, samples: int, generator: torch.Generator
) -> Iterator[tuple[int, ...]]:
    """Yield output positions of the zone at `zone`, in pixels of the window.

    The centre comes first, then the corners, from which the zone reaches furthest, then any.
    """
    steps = [axis.step for axis in locality.axes]
    first = in_output(locality, zone).start
    phases = [
        tuple(step // 2 for step in steps),
        *product(*((0, step - 1) for step in steps)),
    ]
    for sample in range(samples):
        drawn = tuple(int(torch.randint(step, (), generator=generator)) for step in steps)
        phase = phases[sample] if sample < len(phases) else drawn
        yield tuple(a + b for a, b in zip(first, phase, strict=True))


def gradient(
    module: nn.Module, image: torch.Tensor, position: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return the magnitude (Y, X) of the gradient of the output's sum over channels at a position.

    Only the image gets a gradient. Raises `ModelError` where there is none.
    """
    with torch.enable_grad():
        image.requires_grad_()
        try:
            # A network may write into its input, which autograd allows for no leaf.
            output = module(image.clone())
            (found,) = torch.autograd.grad(output[0, :, *position].sum(), image)
        except RUN_ERRORS as error:
            raise ModelError(
                "an effective receptive field needs the gradient of the output, and there is none: "
                f"{str(error).strip().partition(chr(10))[0]}"
            ) from error
    magnitude: NDArray[np.float64] = found[0].abs().amax(0).double().cpu().numpy()
    return magnitude


def beyond(magnitude: NDArray[np.float32], axis: int, zone: Interval, threshold: float) -> Halo:
    """Return how far `magnitude` (Y, X) exceeds the threshold beyond `zone` along an axis."""
    # What is not a number might be anything.
    exceeds = ~(magnitude <= threshold)
    places = np.flatnonzero(exceeds.any(1 - axis))
    if not places.size:
        return Halo(0, 0)
    return Halo(max(0, zone.start - int(places[0])), max(0, int(places[-1]) + 1 - zone.stop))
