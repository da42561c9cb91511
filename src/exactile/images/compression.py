"""How tiles are compressed: deflate, as libdeflate does it at level 1.

On 1024 x 1024 tiles, one core, against zlib's level 1: noisy float32 154 MB/s (zlib 46), smooth
float32 200 (74), masks and labels 460 to 640 (720 to 800). Float probabilities are what a run would
wait for, so this wins, and it wins at the same size (masks 44 : 1 against 34 : 1).

The bytes are zlib's form of it, which is TIFF's `adobe_deflate` and the `zlib` of Zarr 2, or
gzip's, which is the `gzip` of Zarr 3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import imagecodecs
import numpy as np
from numpy.typing import NDArray

Form = Literal["zlib", "gzip"]

LEVEL = 1


def compress(pixels: NDArray[Any], form: Form = "zlib") -> bytes:
    """Return the pixels of a tile (Y, X), as little-endian numbers, compressed."""
    data = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    # It takes any buffer, which its annotations do not say.
    encode: Callable[..., Any] = (
        imagecodecs.deflate_encode if form == "zlib" else imagecodecs.gzip_encode
    )
    return bytes(encode(data, level=LEVEL))


def decompress(data: bytes, dtype: np.dtype[Any], side: int, form: Form = "zlib") -> NDArray[Any]:
    """Return the pixels (side, side), of `dtype`, that were compressed to `data`."""
    size = side * side * dtype.itemsize
    decode = imagecodecs.deflate_decode if form == "zlib" else imagecodecs.gzip_decode
    pixels = np.frombuffer(decode(data, out=size), dtype.newbyteorder("<"))
    return pixels.reshape(side, side).astype(dtype, copy=False)
