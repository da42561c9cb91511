"""torch.compile: the network as one program that inductor makes for one shape of window.

All windows of an image have one shape, so every shape is compiled by itself and no size stays
open. Chosen by measurement (torch 2.13, one core, benchmarks/engines.py):

- No freezing of the weights: it was not faster and took three times as long to compile.
- `exactile.fixed_order` cannot be used: it replaces operators while they run, and a compiled
  program does not hand its convolutions to it. Windows of 512 px and more were bit-stable without.
- No autotuning: it picks kernels by stopwatch, so that two runs could give different bits.
- No CUDA graphs: they keep every intermediate result of a window allocated, and a window is long
  work for a GPU, beside which launching its kernels is nothing. Not measured.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from exactile.devices import name_device
from exactile.engine import DTYPES, Agreement, EngineName, Precision, T
from exactile.engines.eager import make_engine, placed
from exactile.errors import SettingsError

MOST_SHAPES = 4096
"""Shapes that are compiled in one process, each for images of another size that are one window.
PyTorch's own limit is 8, beyond which it would go on without compiling."""


@dataclass(frozen=True)
class CompiledEngine:
    """A network that torch.compile has made a program of."""

    network: nn.Module
    """What is compiled: in evaluation mode, on `device`, with weights of `precision`."""
    device: torch.device
    """Where it runs."""
    precision: Precision
    """The type of weights and feature maps."""
    program: Callable[[Tensor], Tensor]
    """The network compiled; each shape at its first call."""
    agreement: Agreement | None = None
    """What the comparison with eager PyTorch showed."""

    @property
    def name(self) -> EngineName:
        """The engine's name."""
        return "compile"

    def logits(self, windows: NDArray[np.float32]) -> Tensor:
        """Return the network's output (N, classes, ...) for `windows` (N, channels, ...)."""
        limits = torch._dynamo.config.patch(
            recompile_limit=MOST_SHAPES, accumulated_recompile_limit=MOST_SHAPES
        )
        with torch.inference_mode(), limits:
            try:
                result = self.program(placed(windows, self.device, DTYPES[self.precision]))
            except OSError as error:
                # Of the folder for compiled programs, TORCHINDUCTOR_CACHE_DIR or in TMPDIR.
                raise RuntimeError(f"torch.compile cannot write its programs: {error}") from error
            return result.to(torch.float32, memory_format=torch.contiguous_format)

    def run(self, windows: NDArray[np.float32], use: Callable[[Tensor], T]) -> T:
        """Return what `use` makes of the network's output."""
        return use(self.logits(windows))

    def describe(self) -> str:
        """Return the compiler and the device's name, for people."""
        return f"torch.compile on {name_device(self.device)}"


def make_compiled_engine(
    network: nn.Module, device: torch.device, precision: Precision
) -> CompiledEngine:
    """Return an engine that compiles a copy of `network`, which must be in evaluation mode.

    Raises:
        SettingsError: if there is no C++ compiler here, which a CPU needs.
    """
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise SettingsError(
            f"--engine compile: needs a C++ compiler on a CPU, and there is no {compiler} here; "
            "install one, or use --engine openvino or --engine eager"
        )
    own = make_engine(network, device, precision).network
    return CompiledEngine(own, device, precision, Programs(own))


class Programs:
    """The programs of a network, one for each shape of window.

    A network is recorded first, operator by operator, on tensors without data: the compiler then
    sees ATen's operators alone, whatever Python the network is written in.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.made: dict[tuple[int, ...], Callable[[Tensor], Tensor]] = {}

    def __call__(self, window: Tensor) -> Tensor:
        """Return the network's output for `window`."""
        shape = tuple(window.shape)
        if shape not in self.made:
            pure = torch.func.functionalize(self.network)
            record = make_fx(pure, tracing_mode="fake", _allow_non_fake_inputs=True)
            with torch.no_grad():
                graph = record(window)
            self.made[shape] = torch.compile(graph, fullgraph=True, dynamic=False)
        return self.made[shape](window)
