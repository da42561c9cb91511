"""What the hungriest operator of a network reads and makes, without computing anything.

Where feature maps can be put away between operators, that, and not what is alive, is what has to be
in memory at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from exactile.errors import ModelError
from exactile.locality.dry_run import without_data
from exactile.locality.run import RUN_ERRORS


class _Steps(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the bytes that each operator reads and makes, without those of weights."""

    def __init__(self, weights: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.weights = weights
        self.largest = 0
        self.total = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the operator on fake tensors, and note them."""
        result = func(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs, result))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        storages = {tensor.untyped_storage()._cdata: tensor for tensor in tensors}
        step = sum(
            tensor.untyped_storage().nbytes()
            for key, tensor in storages.items()
            if key not in self.weights
        )
        self.largest, self.total = max(self.largest, step), self.total + step
        return result


def step_bytes(network: nn.Module, channels: int, extent: tuple[int, ...]) -> tuple[int, int]:
    """Return what the hungriest operator in a pass over `extent` reads and makes, and what all do.

    In bytes, of the type that the network's weights have; weights do not count.

    Raises:
        ModelError: if the network cannot be run on such an image.
    """
    counter = _Steps({w.untyped_storage()._cdata for w in [*network.parameters()]})
    with without_data(network, channels, extent) as image, counter:
        try:
            network(image)
        except RUN_ERRORS as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            sides = " x ".join(map(str, extent))
            raise ModelError(f"the network cannot be run on {sides} px: {reason}") from error
    return counter.largest, counter.total
