"""The most bytes that are alive at once in a forward pass, without computing anything.

The network runs on tensors without data, and each operator's outputs are counted from when they are
made until the last reference to them is gone, which is when the real ones are freed: by Python's
own reference counts, in TorchScript by those of its interpreter. Views share what they are views
of, and an operator that writes in place makes nothing. Weights are not counted.

What an operator needs inside itself is not to be seen here, nor what an engine other than eager
PyTorch does with memory: `exactile.memory.cost` scales this estimate by what a pass really took.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from exactile.errors import ModelError
from exactile.locality.dry_run import without_data
from exactile.locality.run import RUN_ERRORS


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors made while it is entered, and forgets those that are gone."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._alive: dict[int, weakref.finalize[Any, Any]] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the operator on fake tensors and count its outputs."""
        result = func(*args, **(kwargs or {}))
        for output in tree_leaves(result):
            if isinstance(output, torch.Tensor):
                self.count(output)
        return result

    def count(self, tensor: torch.Tensor) -> None:
        """Count the storage of `tensor` until it is freed, once for all views of it."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._alive:
            return
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        self._alive[key] = weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self.now -= size
        del self._alive[key]


def live_bytes(network: nn.Module, channels: int, extent: tuple[int, ...]) -> int:
    """Return the most bytes alive in a pass over (1, channels, *extent), the image among them.

    They are those of the type that the network's weights have.

    Raises:
        ModelError: if the network cannot be run on such an image.
    """
    counter = LiveBytes()
    with without_data(network, channels, extent) as image, counter:
        counter.count(image)
        try:
            network(image)
        except RUN_ERRORS as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            sides = " x ".join(map(str, extent))
            raise ModelError(f"the network cannot be run on {sides} px: {reason}") from error
    return counter.peak
