"""Padding: by a constant, by reflection, by repetition of the edge.

With b positions added before, output position p stands for q = p - b of the input, n long:

    constant       q where 0 <= q < n, else nothing
    reflection     |q|, and 2 (n - 1) - q beyond the end
    replication    q clipped to 0 .. n - 1

Circular padding lowers to copies from the opposite edge, which the tracer refuses.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from exactile.locality.reach import PADDING, Reach, number, salted, spread, windows
from exactile.locality.registry import Call, rule
from exactile.locality.shape import cut


def pad_pairs(call: Call, name: str) -> list[tuple[int, int, int]]:
    """Return (dimension, low, high) for each padded dimension; pads are listed from the last."""
    pads, ndim = call[name], call.output.ndim
    return [(ndim - 1 - i, pads[2 * i], pads[2 * i + 1]) for i in range(len(pads) // 2)]


@rule("constant_pad_nd")
def constant_pad(call: Call) -> Reach:
    """Put a constant around; negative pads cut off."""
    reach, sizes = call.reach("self"), call.shape("self")
    for dim, before, after in pad_pairs(call, "pad"):
        if before == after == 0:
            continue
        if reach.even[dim]:
            reach = spread(reach, dim, sizes[dim])
        index = np.arange(-before, sizes[dim] + after, dtype=np.int64)
        inside = (index >= 0) & (index < sizes[dim])
        reach = windows(reach, dim, np.where(inside, index, PADDING)[:, None])
        reach = replace(reach, even=tuple(e and d != dim for d, e in enumerate(reach.even)))
        reach = salted(reach, number(int(call.salt), call["value"]))
    return reach


@rule("reflection_pad1d", "reflection_pad2d", "reflection_pad3d")
def reflection_pad(call: Call) -> Reach:
    """Mirror the image at its first and last position."""
    reach, sizes = call.reach("self"), call.shape("self")
    for dim, before, after in pad_pairs(call, "padding"):
        index = np.abs(np.arange(-before, sizes[dim] + after, dtype=np.int64))
        index = np.where(index >= sizes[dim], 2 * sizes[dim] - 2 - index, index)
        reach = cut(reach, dim, sizes[dim], index, call.salt)
    return reach


@rule("replication_pad1d", "replication_pad2d", "replication_pad3d")
def replication_pad(call: Call) -> Reach:
    """Repeat the first and the last position."""
    reach, sizes = call.reach("self"), call.shape("self")
    for dim, before, after in pad_pairs(call, "padding"):
        index = np.clip(np.arange(-before, sizes[dim] + after, dtype=np.int64), 0, sizes[dim] - 1)
        reach = cut(reach, dim, sizes[dim], index, call.salt)
    return reach
