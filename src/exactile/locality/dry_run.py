"""A pass without data: the operators are called with shapes and types alone, at any size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from exactile.locality.modulepath import evaluation, kind_of
from exactile.locality.run import quiet_logs
from exactile.locality.shapes import Shapes


@contextmanager
def without_data(network: nn.Module, channels: int, sides: tuple[int, ...]) -> Iterator[Tensor]:
    """Yield an image (1, channels, *sides) without data, for `network` to be run on in the block.

    The image has the type of the network's weights; the network is in evaluation mode.
    """
    with ExitStack() as stack:
        stack.enter_context(evaluation(network))
        stack.enter_context(torch.no_grad())
        stack.enter_context(quiet_logs())
        # Fusion would hide the operators.
        stack.enter_context(torch.jit.optimized_execution(False))  # type: ignore[attr-defined]
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        # Traced networks compute with sizes, which would lose their values.
        stack.enter_context(Shapes())
        dtype, device = kind_of(network)
        yield torch.empty((1, channels, *sides), dtype=dtype, device=device)
