"""What runs windows through a network: the interface of all engines.

An implementation promises:

- float32 means float32: TF32 stays off, and only deterministic algorithms run;
- the same window gives the same bits, whatever was run before, in this process and in another one
  on the same machine;
- what `logits` returns belongs to the caller: no later call writes to it;
- `logits` does not write to its argument;
- want of memory is a RuntimeError or a MemoryError, as it is in PyTorch, after which smaller
  windows can be run.

Whether windows of two SIZES give the same bits is not promised here: it is measured at the start
of every run (`exactile.bit_stability`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

T = TypeVar("T")

Precision = Literal["float32", "bfloat16"]
EngineName = Literal["auto", "eager", "compile", "openvino"]

DTYPES: dict[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Agreement:
    """What an engine and eager PyTorch gave for the same noise, side by side."""

    window: tuple[int, ...]
    """Sides of the window of noise, in array order."""
    compared: int
    """Number of logits compared."""
    largest_difference: float
    """Largest absolute difference, relative to the standard deviation of the eager logits."""
    labels_different: int
    """How many labels differ."""

    def sentence(self) -> str:
        """Return the finding in words."""
        window = " x ".join(map(str, self.window))
        return (
            f"{self.compared:,} logits for noise of {window} differ from those of eager PyTorch by "
            f"at most {self.largest_difference:.1e} of their standard deviation; "
            f"{self.labels_different} labels differ"
        )


class Engine(Protocol):
    """A network on a device, in one precision."""

    @property
    def name(self) -> EngineName:
        """Which engine this is: never auto."""

    @property
    def network(self) -> nn.Module:
        """The network as eager PyTorch runs it on this device in this precision: for proofs."""

    @property
    def device(self) -> torch.device:
        """Where the logits are."""

    @property
    def precision(self) -> Precision:
        """Arithmetic of the network."""

    @property
    def agreement(self) -> Agreement | None:
        """What the comparison with eager PyTorch showed; None where this is eager PyTorch."""

    def logits(self, windows: NDArray[np.float32]) -> Tensor:
        """Return the network's output (N, classes, ...) for `windows` (N, channels, ...).

        It is float32, contiguous, on the device, and the caller's own.

        Raises:
            RuntimeError, MemoryError: if the network cannot be run on such windows.
        """

    def run(self, windows: NDArray[np.float32], use: Callable[[Tensor], T]) -> T:
        """Return what `use` makes of the output that `logits` returns.

        It is lent for that call: an engine may write the next output to the same memory, which
        spares the pages of a fresh copy.

        Raises:
            RuntimeError, MemoryError: if the network cannot be run on such windows.
        """

    def describe(self) -> str:
        """Return what runs where, for people; it is the same at every run on one machine."""
