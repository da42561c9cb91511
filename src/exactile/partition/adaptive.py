"""Average pooling to a given size, and over windows that are as large as the map.

Small windows that divide the extent are those of any pooling. Others are added up by all ranks in
float64, axis by axis, since a window may lie in many parts: of n positions pooled to m, window p
has those from floor(p n / m) to ceil((p + 1) n / m). Such an axis is not split afterwards.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from exactile.geometry import Interval
from exactile.partition.exchange import total
from exactile.partition.pooling import average_pool, axes_of, sizes_of_pool
from exactile.partition.reduced import FEW
from exactile.partition.reduction import mean
from exactile.partition.registry import rule
from exactile.partition.sums import added
from exactile.partition.tensor import SplitTensor, own_part, wrap


@rule("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", statistic=True)
def adaptive_average(func: Any, input: SplitTensor, size: Any) -> Tensor:
    """Average over windows that cover the extent."""
    axes = axes_of(func)
    sizes, sides = sizes_of_pool(input, size, axes), input.shape[input.dim() - axes :]
    if prod(sizes) == 1:
        return mean(torch.mean, input, tuple(range(-axes, 0)), True)
    even = not any(side % many for side, many in zip(sides, sizes, strict=True))
    windows = [side // many for side, many in zip(sides, sizes, strict=True)]
    if even and prod(windows) <= FEW:
        pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[axes - 1]
        return average_pool(pool, input, windows)
    local, layout = input.local, list(input.splits)
    for dim, many in enumerate(sizes, input.dim() - axes):
        if many != input.shape[dim]:
            local, layout[dim] = _pooled(local, dim, many, input), None
    return wrap(local.to(input.dtype), layout, input.mesh)


def _pooled(local: Tensor, dim: int, many: int, input: SplitTensor) -> Tensor:
    """Return the averages along `dim` over `many` windows of all ranks, in float64."""
    side, split = input.shape[dim], input.splits[dim]
    own = Interval(0, side) if split is None else own_part(split, input.mesh)
    sums, counts = [], []
    for place in range(many):
        window = Interval(place * side // many, -(-(place + 1) * side // many))
        mine = window & own
        start = mine.start - own.start if mine.length else 0
        sums.append(added(local.narrow(dim, start, mine.length), [dim]))
        counts.append(window.length)
    made = torch.cat(sums, dim)
    if split is not None:
        made = total(made, input.mesh, (split.axis,))
    lengths = made.new_tensor(counts).reshape(-1, *(1,) * (local.dim() - 1 - dim))
    return made / lengths
