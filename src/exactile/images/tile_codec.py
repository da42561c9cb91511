"""Tiles as they are stored: little-endian, deflate."""

from __future__ import annotations

from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

_LEVEL = 1
"""Of libdeflate; `exactile.images.ome_tiff_sink` says why."""


def compress(pixels: NDArray[Any]) -> bytes:
    """Return the stored form of a tile of any shape."""
    little_endian = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    return bytes(imagecodecs.deflate_encode(little_endian.tobytes(), level=_LEVEL))


def decompress(data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the tile of `shape` and `dtype` whose stored form is `data`; read-only.

    Raises ValueError where the tile is of another size, and RuntimeError where `data` is damaged.
    """
    size = int(np.prod(shape)) * dtype.itemsize
    pixels = np.frombuffer(imagecodecs.deflate_decode(data, out=size), dtype.newbyteorder("<"))
    return pixels.reshape(shape).astype(dtype, copy=False)
