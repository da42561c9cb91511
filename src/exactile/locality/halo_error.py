"""What tiles get wrong with another halo than the network's own, measured on one zone."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import nn

from exactile.finishing import Finishing, finish, finishing_for
from exactile.geometry import Box, Halo, Interval, Locality, ceil_to
from exactile.locality.analysis import Analysis
from exactile.locality.modulepath import evaluation, kind_of

MAX_ERROR_PIXELS = 1 << 20
"""Most pixels of the image on which the error is measured."""

ZONE = 128
"""Least side of the zone on which the error is measured, in pixels."""


@dataclass(frozen=True, slots=True)
class HaloError:
    """What an interior zone of a noise image gets wrong with another halo than the network's."""

    halo: tuple[Halo, ...]
    """The halo that was tried, on every axis."""
    rmse: float
    """Root mean square error of the declared result, such as the softmax."""
    labels: int
    """Labels that differ."""
    positions: int
    """Output positions of the zone: all labels."""


def error_at(
    module: nn.Module,
    channels: int,
    analysis: Analysis,
    halo: tuple[Halo, ...],
    *,
    seed: int = 0,
    max_pixels: int = MAX_ERROR_PIXELS,
    finishing: Finishing | None = None,
) -> HaloError | None:
    """Measure what an interior zone gets wrong that is run with `halo` instead of its own.

    An image of N(0, 1) noise, as large as the zone with the network's own halo, is run whole, and
    once more as a window of the zone with `halo`: a tile inside a large image. `halo` is in pixels,
    multiples of F, in array order. It is taken no smaller than what valid convolutions take away,
    for no tile can do without that. The module is left as it was.

    Returns None where the image would have more than `max_pixels` pixels.
    """
    axes = analysis.locality.axes
    halo = tuple(
        Halo(h.low, max(h.high, ceil_to(axis.crop.total, axis.alignment)))
        for axis, h in zip(axes, halo, strict=True)
    )
    zones, windows, shape = [], [], []
    for axis, tried in zip(axes, halo, strict=True):
        length = ceil_to(max(ZONE, axis.least - tried.total), axis.alignment)
        start = max(axis.halo.low, tried.low)
        zones.append(Interval(start, start + length))
        windows.append(zones[-1].grow(tried))
        shape.append(zones[-1].stop + max(axis.halo.high, tried.high))
    if prod(shape) > max_pixels:
        return None
    zone = in_output(analysis.locality, Box(tuple(zones)))
    window = Box(tuple(windows))
    crop = zone.relative_to(in_output(analysis.locality, window))
    finishing = finishing or finishing_for("logits", analysis.outputs)
    dtype, device = kind_of(module)
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn((1, channels, *shape), generator=generator).to(device, dtype)
    with evaluation(module), torch.inference_mode():
        whole = module(image.clone())[0][zone.slices].float()
        part = module(image[window.slices].clone())[0][crop.slices].float()
    expected, found = (
        finish(output, "probabilities", finishing).astype(np.float64) for output in (whole, part)
    )
    labels, others = (finish(output, "labels", finishing) for output in (whole, part))
    return HaloError(
        halo=halo,
        rmse=float(np.sqrt(np.mean((expected - found) ** 2))),
        labels=int(np.count_nonzero(labels != others)),
        positions=zone.size,
    )


def in_output(locality: Locality, box: Box) -> Box:
    """Return the output positions of a box on the F grid."""
    return Box(
        tuple(
            Interval(int(inside.start * axis.scale), int(inside.stop * axis.scale))
            for axis, inside in zip(locality.axes, box.axes, strict=True)
        )
    )
