"""OpenVINO on a CPU: installed with exactile where there are wheels of it, else not there.

The float32 network is converted for each shape of window by itself (`exactile.engines.conversion`);
the precision is a setting of OpenVINO. Measured (2026.4.1, one core, benchmarks/engines.py): the
fastest engine in both precisions, and for U-Nets bit-stable in windows of 512 px and more.

It stays by itself: nothing is sent, nothing is written, and nothing is printed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from exactile.devices import name_device
from exactile.engine import Agreement, EngineName, Precision, T
from exactile.engines.conversion import convert
from exactile.engines.eager import make_engine
from exactile.errors import SettingsError

MOST_MODELS = 16
"""Shapes whose converted networks are kept, the latest: they are small, for they share the weights.
A conversion takes a second, many times a small image's pass, and collections mix a few sizes."""

HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16"}

TELEMETRY = "openvino_telemetry"
"""The package that reports each use of OpenVINO to its makers; without it OpenVINO reports nothing.
"""


@dataclass(frozen=True)
class OpenVINOEngine:
    """A network that OpenVINO runs."""

    network: nn.Module
    """The network as eager PyTorch runs it in this precision."""
    source: nn.Module
    """The float32 network that is converted."""
    device: torch.device
    """Always a CPU."""
    precision: Precision
    """The type of weights and feature maps."""
    runtime: Any
    """The package `openvino`."""
    agreement: Agreement | None = None
    """What the comparison with eager PyTorch showed."""
    models: dict[tuple[int, ...], Any] = field(default_factory=dict, repr=False, compare=False)
    """The network converted, by the shape of the windows."""
    ready: dict[tuple[object, ...], Any] = field(default_factory=dict, repr=False, compare=False)
    """What is ready to run, by the shape of the windows, rehearsals apart. One at most: it holds
    the memory of a whole pass, and is made again from a model in a fraction of a second."""

    @property
    def name(self) -> EngineName:
        """The engine's name."""
        return "openvino"

    def logits(self, windows: NDArray[np.float32]) -> Tensor:
        """Return the network's output (N, classes, ...) for `windows` (N, channels, ...)."""
        return self.run(windows, torch.clone)

    def run(self, windows: NDArray[np.float32], use: Callable[[Tensor], T]) -> T:
        """Return what `use` makes of the output, in memory that the next call writes to."""
        return self._run(windows, windows.shape, self._model, use)

    def rehearse(self, windows: NDArray[np.float32]) -> Tensor:
        """Run `windows` for the time and the memory that it takes; the numbers are not to be used.

        What was converted for another shape is stretched to this one, which takes a fraction of the
        time of a conversion, and might compute something else.
        """
        return self._run(windows, ("rehearsed", *windows.shape), self._stretched, torch.clone)

    def _run(
        self,
        windows: NDArray[np.float32],
        key: tuple[object, ...],
        model_for: Callable[[tuple[int, ...]], Any],
        use: Callable[[Tensor], T],
    ) -> T:
        windows = np.ascontiguousarray(windows)
        try:
            if key not in self.ready:
                self.ready.clear()
                self.ready[key] = self._request(model_for(windows.shape))
            result = self.ready[key].infer({0: windows}, share_inputs=True, share_outputs=True)[0]
        except (RuntimeError, MemoryError):
            # What it holds may be what a smaller window needs.
            self.ready.clear()
            raise
        return use(torch.from_numpy(result).to(torch.float32))

    def release(self) -> None:
        """Give back the memory that is held for the latest shape."""
        self.ready.clear()

    def describe(self) -> str:
        """Return OpenVINO's version and the device's name, for people."""
        version = str(self.runtime.__version__).partition("-")[0]
        return f"openvino {version} on {name_device(self.device)}"

    def _model(self, shape: tuple[int, ...]) -> Any:
        """Return the network converted for windows of `shape`."""
        known = self.models.pop(shape, None)
        while len(self.models) >= MOST_MODELS:
            del self.models[next(iter(self.models))]
        self.models[shape] = known or convert(self.source, shape, self.runtime)
        return self.models[shape]

    def _stretched(self, shape: tuple[int, ...]) -> Any:
        """Return a network converted for some shape, for windows of `shape`."""
        for model in self.models.values():
            other = model.clone()
            try:
                other.reshape({0: self.runtime.PartialShape(list(shape))})
            except RuntimeError:
                break
            return other
        return self._model(shape)

    def _request(self, model: Any) -> Any:
        """Return what runs `model`, with its memory."""
        hint = HINTS[self.precision]
        compiled = self.runtime.Core().compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": hint,
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                "NUM_STREAMS": 1,
                # Two processes on one machine would be bound to the same cores.
                "ENABLE_CPU_PINNING": False,
            },
        )
        used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if used != hint:
            raise RuntimeError(f"OpenVINO computes in {used} on this CPU, not in {hint}")
        return compiled.create_infer_request()


def make_openvino_engine(
    network: nn.Module, device: torch.device, precision: Precision
) -> OpenVINOEngine:
    """Return an engine for `network`, float32 and in evaluation mode, which must not change later.

    Raises:
        SettingsError: if OpenVINO is not installed, or `device` is not a CPU.
    """
    if device.type != "cpu":
        raise SettingsError(
            f"--engine openvino: runs on a CPU, not on {device}; use --device cpu, or --engine "
            "eager"
        )
    runtime = load_openvino()
    own = make_engine(network, device, precision).network
    return OpenVINOEngine(own, network, device, precision, runtime)


def load_openvino() -> Any:
    """Return the package `openvino`, which reports nothing of its use.

    Raises:
        SettingsError: if it is not installed, or cannot be loaded.
    """
    before = {TELEMETRY: sys.modules[TELEMETRY]} if TELEMETRY in sys.modules else {}
    # None is how Python is told that a package is not there; OpenVINO has a stand-in for it.
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]
    try:
        runtime = import_module("openvino")
        import_module("openvino.frontend.pytorch")
    except ImportError as error:
        raise SettingsError(
            f"--engine openvino: OpenVINO, the faster one on a CPU, cannot be loaded ({error}): "
            "pip install 'exactile[openvino]' installs it where there are wheels of it"
        ) from error
    finally:
        del sys.modules[TELEMETRY]
        sys.modules.update(before)
    return runtime
