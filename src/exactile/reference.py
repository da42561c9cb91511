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
    engine: Engine, model: Model, image: NDArray[Any], output_type: OutputType
) -> NDArray[Any]:
    """Return the output (C, Y, X) for `image` (channels, Y, X) from a single forward pass."""
    shape = image.shape[1:]
    y, x = (
        reflect(Interval(0, padded), side)
        for padded, side in zip(model.locality.pad(shape), shape, strict=True)
    )
    padded = normalize(image, fit_array(model.before, image))[:, y[:, None], x[None, :]]
    run = ForwardPass(engine, output_type, model.finishing)
    return run(np.ascontiguousarray(padded), Box.of_shape(model.locality.output_shape(shape)))
