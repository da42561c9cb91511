"""One forward pass: from the pixels of a window to what is written for its zone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from exactile.engine import Engine
from exactile.finishing import Arriving, Finishing, OutputType, begin_to_finish
from exactile.geometry import Box


@dataclass(frozen=True)
class ForwardPass:
    """The engine, and what becomes of the network's output."""

    engine: Engine
    output_type: OutputType
    finishing: Finishing

    @property
    def reads_on(self) -> bool:
        """Whether the device may still be reading a window when `start` has returned."""
        return self.engine.device.type != "cpu"

    def start(self, window: NDArray[np.float32], crop: Box) -> Arriving:
        """Run `window` (C, ...); what is returned gives the part `crop` of its output when called.

        A GPU may still be computing when this returns, so that the next window can be handed over
        meanwhile; want of memory is raised here.

        Raises:
            RuntimeError, MemoryError: if the network cannot be run on such a window.
        """

        def finish(output: Tensor) -> Arriving:
            return begin_to_finish(output[0][crop.slices], self.output_type, self.finishing)

        return self.engine.run(window[None], finish)

    def __call__(self, window: NDArray[np.float32], crop: Box) -> NDArray[Any]:
        """Return what is written (C, ...) for the part `crop` of the output of `window` (C, ...).

        Raises:
            RuntimeError, MemoryError: if the network cannot be run on such a window.
        """
        return self.start(window, crop)()
