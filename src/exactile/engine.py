"""Runs windows through a network on a device.

Float32 means float32: TF32 stays off, and only deterministic algorithms run on a GPU. On a CPU the
operators whose sums depend on the size of the window are replaced (`exactile.fixed_order`).
"""

from __future__ import annotations

import os
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from exactile.errors import SettingsError
from exactile.fixed_order import fixed_order

Precision = Literal["float32", "bfloat16"]
EngineName = Literal["auto", "eager", "compile", "openvino"]

DTYPES: dict[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}

MOST_THREADS = 1024
"""More are a mistake; far more end the process."""


@dataclass(frozen=True)
class Engine:
    """A network on a device, in one precision and one memory layout."""

    network: nn.Module
    device: torch.device
    precision: Precision

    def logits(self, windows: NDArray[np.float32]) -> Tensor:
        """Return the network's float32 output (N, classes, Y, X) on the device for `windows`."""
        with torch.inference_mode(), fixed_order(self.device):
            x = torch.from_numpy(windows).to(self.device, DTYPES[self.precision])
            try:
                result: Tensor = self.network(x.contiguous(memory_format=torch.channels_last))
            except torch.jit.Error as error:
                # TorchScript has a kind of its own for what it raises.
                raise RuntimeError(str(error)) from error
            return result.to(torch.float32, memory_format=torch.contiguous_format)

    def describe(self) -> str:
        """Return the device's name, for people."""
        if self.device.type == "cuda":
            return f"{self.device} ({torch.cuda.get_device_name(self.device)})"
        return f"cpu ({torch.get_num_threads()} threads)"


def make_engine(network: nn.Module, device: torch.device, precision: Precision) -> Engine:
    """Return an engine with its own copy of `network`, which must be in evaluation mode.

    channels_last is the faster layout (measured on CPU: 1.75 times in float32), and was as
    bit-stable as the default one in every trial.
    """
    if device.type == "cuda":
        # For the whole process: cuDNN has no setting for one network alone.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    placed: nn.Module = deepcopy(network).to(device=device, dtype=DTYPES[precision])
    placed = placed.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Engine(placed, device, precision)


def choose_device(name: str) -> torch.device:
    """Return the device called `name`: auto, cpu, cuda, or cuda:N.

    Raises:
        SettingsError: if there is no such device here.
    """
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and available == 0):
        return torch.device("cpu")
    index = int(name.partition(":")[2] or 0)
    if index >= available:
        found = f"{available} CUDA devices" if available else "no CUDA device"
        raise SettingsError(
            f"--device {name}: this machine has {found}; use --device auto to take what there is"
        )
    return torch.device("cuda", index)


def limit_threads(value: str | None) -> None:
    """Give PyTorch `value` threads (environment NUM_THREADS); else those this process may use.

    Raises:
        SettingsError: if `value` is not a number from 1 to MOST_THREADS.
    """
    if not value:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        return
    if not value.isdecimal() or not 1 <= int(value) <= MOST_THREADS:
        raise SettingsError(
            f"NUM_THREADS={value}: is not a number of threads; use 1 to {MOST_THREADS}"
        )
    torch.set_num_threads(int(value))
