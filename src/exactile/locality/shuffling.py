"""Moves between channels and positions: pixel shuffle and its inverse, channel shuffle.

With factor r, pixel shuffle makes output position p from position p // r, with a channel that
depends on p mod r, so that each phase is a function of its own. Pixel unshuffle makes position p
from the positions p * r .. p * r + r - 1.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from exactile.locality.reach import Reach, fold, mix, salted, take, windows
from exactile.locality.registry import Call, rule


@rule("pixel_shuffle")
def pixel_shuffle(call: Call) -> Reach:
    """Spread r * r channels over r x r positions: output p reads p // r, each phase its own."""
    reach = shuffled_channels(call)
    for dim in (call.output.ndim - 2, call.output.ndim - 1):
        if reach.tracked(dim):
            position = np.arange(call.output.shape[dim], dtype=np.int64)
            factor = call["upscale_factor"]
            reach = take(reach, dim, position // factor)
            sides = [-1 if d == dim else 1 for d in range(call.output.ndim)]
            reach = replace(reach, mark=mix(reach.mark, (position % factor).reshape(sides)))
    return salted(reach, call.salt)


@rule("pixel_unshuffle")
def pixel_unshuffle(call: Call) -> Reach:
    """Gather r x r positions into channels: output p reads p * r .. p * r + r - 1."""
    reach = shuffled_channels(call)
    factor = call["downscale_factor"]
    for dim in (call.output.ndim - 2, call.output.ndim - 1):
        position = np.arange(call.output.shape[dim], dtype=np.int64)[:, None]
        reach = windows(reach, dim, position * factor + np.arange(factor, dtype=np.int64))
    return salted(reach, call.salt)


@rule("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(call: Call) -> Reach:
    """Reorder channels."""
    return salted(shuffled_channels(call), call.salt)


def shuffled_channels(call: Call) -> Reach:
    """Return the reach with its channels joined: which of them goes where does not matter."""
    reach = fold(call.reach(next(iter(call.arguments))), [1])
    return replace(reach, even=(False,) * reach.low.ndim)
