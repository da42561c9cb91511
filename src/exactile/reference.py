"""The reference: one pass over the whole image, which tiled results must equal.

crop(model(pad(normalize(image)))), all of it in memory: for tests, benchmarks and proofs on images
that fit.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from exactile.engine import Engine, OutputType, finish
from exactile.geometry import Box, Interval, Locality
from exactile.normalization import normalize, statistics_of_blocks
from exactile.padding import reflect


def whole_image_pass(
    engine: Engine, locality: Locality, image: NDArray[Any], output_type: OutputType
) -> NDArray[Any]:
    """Return the output (C, Y, X) for `image` (channels, Y, X) from a single forward pass."""
    statistics = tuple(statistics_of_blocks(iter([channel])) for channel in image)
    shape = image.shape[1:]
    y, x = (
        reflect(Interval(0, padded), side)
        for padded, side in zip(locality.pad(shape), shape, strict=True)
    )
    padded = normalize(image, statistics)[:, y[:, None], x[None, :]]
    logits = engine.logits(padded[None])[0]
    return finish(logits[Box.of_shape(shape).slices], output_type)
