"""How a preview is drawn: the image in grey or colour, and what was found over it.

Classes are tinted and outlined, class 0 is left as it is; probabilities are a map of heat.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from exactile.report.field_picture import INFERNO

Style = Literal["classes", "heat"]

CLASS_COLOURS = (
    *((255, 196, 0), (0, 200, 255), (255, 82, 160), (120, 230, 80)),
    *((190, 130, 255), (255, 120, 40), (0, 225, 180), (235, 235, 120)),
)
"""Colours (R, G, B) of classes 1, 2, ...; after the last the first comes again."""

TINT = 0.22
"""How strongly the inside of a found object is coloured; its outline is drawn in full."""

HEAT = 0.8
"""How strongly the largest probability is coloured."""

BITS = 6
"""Of each colour; the last two would be noise, and a quarter of the file."""

CONTRAST = (1, 99.5)
"""Percentiles of the image that become black and white."""


def draw(channels: Sequence[NDArray[Any]], found: NDArray[np.uint8], style: Style) -> Image.Image:
    """Return the picture of the samples of an image, one (Y, X) or three, with `found` over them.

    `found` (Y, X) is class numbers, or probabilities from 0 to 255.
    """
    grey = [stretched(channel) for channel in channels]
    if len(channels) == 3 and all(channel.dtype == np.uint8 for channel in channels):
        grey = list(channels)  # a picture in colour already
    base = Image.merge("RGB", [Image.fromarray(grey[i % len(grey)]) for i in range(3)])
    palette, strength = _heat(found) if style == "heat" else _classes(found)
    marks = Image.fromarray(found).convert("P")
    marks.putpalette(palette.tobytes())
    picture = Image.composite(marks.convert("RGB"), base, Image.fromarray(strength))
    return ImageOps.posterize(picture, BITS)


def stretched(channel: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a channel (Y, X) as 0 to 255, contrast by percentiles; what is not finite is 0."""
    values = np.nan_to_num(channel.astype(np.float32), posinf=0, neginf=0)
    low, high = np.percentile(values[::2, ::2], CONTRAST)
    values -= low
    values *= 255 / max(high - low, 1e-6)
    return np.clip(values, 0, 255).astype(np.uint8)


def _classes(found: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the colour of each class, and how strongly it is laid over each sample."""
    palette = np.resize(np.array(CLASS_COLOURS, np.uint8), (255, 3))
    strength = np.where(found > 0, np.uint8(TINT * 255), np.uint8(0))
    strength[outline(found)] = 255
    return np.concatenate([np.zeros((1, 3), np.uint8), palette]), strength


def _heat(found: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    levels = np.arange(256)
    at = np.linspace(0, 255, len(INFERNO))
    palette = np.stack([np.interp(levels, at, INFERNO[:, i]) for i in range(3)], -1)
    return palette.astype(np.uint8), (found * HEAT).astype(np.uint8)


def outline(found: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where `found` (Y, X) is a class other than 0, or True, beside another."""
    edge = np.zeros(found.shape, bool)
    down = found[1:] != found[:-1]
    across = found[:, 1:] != found[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    result: NDArray[np.bool_] = edge & (found > 0)
    return result
