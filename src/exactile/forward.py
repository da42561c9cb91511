"""One forward pass: from the pixels of a window to what is written for its zone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exactile.engine import Engine
from exactile.finishing import Finishing, OutputType, finish
from exactile.geometry import Box


@dataclass(frozen=True)
class ForwardPass:
    """The engine, and what becomes of the network's output."""

    engine: Engine
    output_type: OutputType
    finishing: Finishing

    def __call__(self, window: NDArray[np.float32], crop: Box) -> NDArray[Any]:
        """Return what is written (C, Y, X) for the part `crop` of the output of `window` (C, Y, X).

        Raises:
            RuntimeError: if the network cannot be run on such a window.
        """
        output = self.engine.logits(window[None])[0]
        return finish(output[crop.slices], self.output_type, self.finishing)
