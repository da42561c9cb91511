"""The reference: one pass over the whole image, which tiled results must equal.

crop(model(pad(normalize(image)))), all of it in memory: for tests, benchmarks and proofs on images
that fit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from exactile.engine import Engine
from exactile.finishing import OutputType
from exactile.forward import ForwardPass
from exactile.geometry import Box, Interval
from exactile.models.model import Model
from exactile.normalization import fit_array, normalize
from exactile.padding import reflect


def whole_image_pass(
    engine: Engine,
    model: Model,
    image: NDArray[Any],
    output_type: OutputType,
    chunk: tuple[int, ...] | None = None,
) -> NDArray[Any]:
    """Return the output (C, ...) for `image` (channels, ...) from a single forward pass.

    It is a plane (Y, X) or a volume (Z, Y, X). `chunk` is that of the image's file, whose blocks
    decide on the last bits of the statistics of floating pixels; by default all is one block.
    """
    shape = image.shape[1:]
    indices = (
        reflect(Interval(0, padded), side)
        for padded, side in zip(model.locality.pad(shape), shape, strict=True)
    )
    place: tuple[Any, ...] = (slice(None), *np.ix_(*indices))
    padded = normalize(image, fit_array(model.before, image, chunk))[place]
    run = ForwardPass(engine, output_type, model.finishing)
    return run(np.ascontiguousarray(padded), Box.of_shape(model.locality.output_shape(shape)))
