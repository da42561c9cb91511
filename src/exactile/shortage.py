"""Want of memory: how to tell it from other errors, and the next plan, which needs less of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from math import prod

import torch

from exactile.geometry import Box, Interval
from exactile.tiling import AxisPlan, Plan, least_window, zone_length

SIGNS = (
    *("can't allocate memory", "failed to allocate", "bad_alloc", "not enough memory"),
    *("alloc_failed", "out of memory", "could not create a primitive"),
)
"""What errors of PyTorch, oneDNN, OpenVINO, cuDNN and cuBLAS say of it, in lower case. oneDNN says
the last one of other things too: smaller windows do not help there, and its words are passed on."""

LEAST_SAVING = 0.9
"""A plan is smaller if its windows have at most this share of the pixels."""


def is_shortage(error: BaseException) -> bool:
    """Return whether `error` says that there is not enough memory, of the device or of the host."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in SIGNS)


def smaller(tiling: Plan) -> Plan | None:
    """Return the plan with zones about half as long on one axis, or None where nothing is smaller.

    It is the axis that leaves the fewest pixels to compute. All windows have one shape again.
    """
    most = LEAST_SAVING * prod(tiling.window)
    plans = [
        replace(tiling, axes=(*tiling.axes[:index], shorter, *tiling.axes[index + 1 :]))
        for index, axis in enumerate(tiling.axes)
        for shorter in [_shorter(axis, most * axis.window / prod(tiling.window))]
        if shorter is not None
    ]
    return min(plans, key=lambda plan: plan.count * prod(plan.window), default=None)


def _shorter(axis: AxisPlan, longest: float) -> AxisPlan | None:
    """Return the axis with zones of at most half the length and windows of at most `longest`."""
    locality = axis.locality
    periods = min(
        axis.zone // 2 // locality.step,
        int(longest - locality.halo.total) // locality.alignment,
    )
    if periods < 1:
        return None
    zone = zone_length(periods * locality.step, locality.step, axis.writer_tile)
    window = max(
        zone // locality.step * locality.alignment + locality.halo.total, least_window(locality)
    )
    return replace(axis, zone=zone, window=window) if window <= longest else None


def cut(zones: list[Box], tiling: Plan) -> list[Box]:
    """Return `zones`, each cut where a zone of `tiling` ends, so that each fits its windows.

    The cuts lie on the grid of that plan's zones, counted from the image's origin.
    """
    return [
        Box(sides)
        for zone in zones
        for sides in product(
            *(
                tuple(_pieces(side, length))
                for side, length in zip(zone.axes, tiling.zone, strict=True)
            )
        )
    ]


def _pieces(side: Interval, length: int) -> Iterator[Interval]:
    for start in range(side.start // length * length, side.stop, length):
        yield side & Interval(start, start + length)
