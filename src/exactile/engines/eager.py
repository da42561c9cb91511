"""PyTorch as it is, one operator after the other.

On a CPU the operators whose sums depend on the size of the window are replaced
(`exactile.fixed_order`); on a GPU TF32 is off and only deterministic algorithms run.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from exactile.devices import name_device
from exactile.engine import DTYPES, EngineName, Precision, T
from exactile.fixed_order import fixed_order

LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""The layout of tensors of so many axes: of windows, and of the weights of convolutions."""


@dataclass(frozen=True)
class EagerEngine:
    """A network that PyTorch runs in channels_last layout, of planes or of volumes."""

    network: nn.Module
    """In evaluation mode, on `device`, with weights of `precision`."""
    device: torch.device
    """Where it runs."""
    precision: Precision
    """The type of weights and feature maps."""

    @property
    def name(self) -> EngineName:
        """The engine's name."""
        return "eager"

    @property
    def agreement(self) -> None:
        """Nothing: it is what others are compared with."""

    def logits(self, windows: NDArray[np.float32]) -> Tensor:
        """Return the network's output (N, classes, ...) for `windows` (N, channels, ...)."""
        with torch.inference_mode(), fixed_order(self.device):
            x = placed(windows, self.device, DTYPES[self.precision])
            try:
                result: Tensor = self.network(x)
            except torch.jit.Error as error:
                # TorchScript has a kind of its own for what it raises.
                raise RuntimeError(str(error)) from error
            return result.to(torch.float32, memory_format=torch.contiguous_format)

    def run(self, windows: NDArray[np.float32], use: Callable[[Tensor], T]) -> T:
        """Return what `use` makes of the network's output."""
        return use(self.logits(windows))

    def describe(self) -> str:
        """Return the device's name, for people."""
        return name_device(self.device)


def placed(windows: NDArray[np.float32], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return a copy of `windows` on `device`, in channels_last layout: networks may write to it.

    A GPU gets it from page-locked memory, so that this does not wait for the work before it.
    """
    x = torch.from_numpy(windows)
    if device.type == "cuda":
        x = x.pin_memory().to(device, non_blocking=True)
    return x.to(dtype, memory_format=LAYOUTS[x.ndim], copy=device.type == "cpu")


def make_engine(network: nn.Module, device: torch.device, precision: Precision) -> EagerEngine:
    """Return an engine with its own copy of `network`, which must be in evaluation mode.

    channels_last is the faster layout (measured on CPU: 1.75 times in float32), and was as
    bit-stable as the default one in every trial.
    """
    if device.type == "cuda":
        # For the whole process: cuDNN has no setting for one network alone.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    own: nn.Module = deepcopy(network).to(device=device, dtype=DTYPES[precision])
    # A network of both kinds of weights keeps them as they are: `to` knows one layout for all.
    weights = (*own.parameters(), *own.buffers())
    kinds = {weight.ndim for weight in weights if weight.ndim in LAYOUTS}
    if len(kinds) == 1:
        own = own.to(memory_format=LAYOUTS[kinds.pop()])  # type: ignore[call-overload]
    return EagerEngine(own, device, precision)
