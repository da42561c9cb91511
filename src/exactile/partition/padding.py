"""Padding of any mode, and cropping, at the outer border."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from operator import add
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from exactile.geometry import Interval
from exactile.partition.convolution import positive
from exactile.partition.exchange import fetch
from exactile.partition.layout import Wanted, within
from exactile.partition.refusal import Refused
from exactile.partition.registry import rule
from exactile.partition.tensor import SplitTensor, wrap


def mirrored(interval: Interval, extent: int, mode: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the positions of 0 .. extent that `interval`, which may reach beyond, stands for."""
    places = np.arange(interval.start, interval.stop, dtype=np.int64)
    if mode == "replicate":
        return places.clip(0, extent - 1)
    places = np.abs(places)
    return np.where(places < extent, places, 2 * (extent - 1) - places)


def hull(places: np.ndarray[Any, np.dtype[np.int64]]) -> Wanted:
    """Return the shortest run that has all of `places`."""
    if not places.size:
        return Wanted(())
    return Wanted((Interval(int(places.min()), int(places.max()) + 1),))


def turns(interval: Interval, extent: int) -> Wanted:
    """Return the runs of 0 .. extent, repeated without end, that `interval` stands for.

    >>> turns(Interval(-1, 3), 9).runs
    (Interval(start=8, stop=9), Interval(start=0, stop=3))
    """
    if not interval.length:
        return Wanted(())
    first, last = interval.start // extent, (interval.stop - 1) // extent
    periods = (Interval(i * extent, (i + 1) * extent) for i in range(first, last + 1))
    return Wanted(tuple((interval & p).shift(-p.start) for p in periods))


@rule("pad", "constant_pad_nd")
def pad(
    func: Any,
    input: SplitTensor,
    pad: Sequence[int],
    mode: Any = "constant",
    value: float | None = None,
) -> Tensor:
    """Let each rank fetch what its part of the padded axis stands for."""
    if not isinstance(mode, str):
        mode, value = "constant", mode
    local, layout, mesh = input.local, list(input.splits), input.mesh
    rest = list(pad)
    for axis in range(len(pad) // 2):
        dim = input.dim() - 1 - axis
        split, low, high = layout[dim], pad[2 * axis], pad[2 * axis + 1]
        if split is None or (low == 0 and high == 0):
            continue
        extent = split.extent
        limit = {"reflect": extent - 1, "circular": extent}.get(mode)
        if limit is not None and max(low, high) > limit:
            raise Refused(f"its {mode} padding of {max(low, high)} is more than {limit}")
        target = split.moved(positive(extent + low + high), partial(add, low))
        reads = [part.shift(-low) for part in target.parts]
        if mode in ("constant", "circular"):
            wanted = [within(r, extent) if mode == "constant" else turns(r, extent) for r in reads]
            local = fetch(local, dim, mesh, split, wanted, value or 0)
        elif mode in ("reflect", "replicate"):
            places = [mirrored(read, extent, mode) for read in reads]
            wanted = [hull(place) for place in places]
            local = fetch(local, dim, mesh, split, wanted)
            mine = places[mesh.coordinate[split.axis]]
            if mine.size and (np.diff(mine) != 1).any():
                index = torch.from_numpy(mine - mine.min()).to(local.device)
                local = local.index_select(dim, index)
        else:
            raise Refused(f"padding of mode {mode} has no rule; use constant, reflect or replicate")
        layout[dim] = target
        rest[2 * axis] = rest[2 * axis + 1] = 0
    if any(rest):
        # An empty part has nothing to mirror, and PyTorch refuses to; it only gets longer.
        local = F.pad(local, rest, mode, value) if local.numel() else F.pad(local, rest)
    return wrap(local, layout, mesh)
