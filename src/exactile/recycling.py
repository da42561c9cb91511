"""Windows of pixels whose memory is used again.

Windows of a plan have one shape. Fresh memory for each would cost the system a fault for every page
of it, in the middle of the forward pass that runs beside.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]


class Recycled:
    """Arrays that are free; one thread takes them, any thread gives them back."""

    def __init__(self) -> None:
        self._free: deque[Values] = deque()

    def take(self, shape: tuple[int, ...]) -> Values:
        """Return an array of `shape` with any values; free ones of other shapes are dropped."""
        while self._free:
            array = self._free.popleft()
            if array.shape == shape:
                return array
        return np.empty(shape, np.float32)

    def give(self, array: Values) -> None:
        """Take back an array that nobody reads or writes any more."""
        self._free.append(array)
