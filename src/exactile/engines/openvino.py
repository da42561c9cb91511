"""OpenVINO on a CPU: an optional extra, `pip install 'exactile[openvino]'`.

The float32 network is recorded and converted for each shape of window by itself, so that nothing
in it depends on a size that differs; the precision is a setting of OpenVINO. Measured (2026.4.1,
one core, benchmarks/engines.py): the fastest engine in both precisions, and for U-Nets bit-stable
in windows of 512 px and more.

It stays by itself: nothing is sent, nothing is written, and nothing is printed.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from io import StringIO
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._decomp import core_aten_decompositions
from torch._ops import OpOverload
from torch.fx.experimental.proxy_tensor import make_fx

from exactile.devices import name_device
from exactile.engine import Agreement, EngineName, Precision, T
from exactile.engines.eager import make_engine
from exactile.errors import SettingsError

MOST_MODELS = 8
"""Shapes whose converted networks are kept: they are small, for they share the weights."""

HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16"}

RECORDING_ERRORS = (
    RuntimeError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    AssertionError,
)
"""What the recording and the conversion raise on networks that they do not take."""

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
        if shape not in self.models:
            if len(self.models) >= MOST_MODELS:
                self.models.clear()
            self.models[shape] = _converted(self.source, shape, self.runtime)
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
            f"--engine openvino: OpenVINO cannot be loaded ({error}); install it with "
            "pip install 'exactile[openvino]', or use --engine eager"
        ) from error
    finally:
        del sys.modules[TELEMETRY]
        sys.modules.update(before)
    return runtime


def _converted(network: nn.Module, shape: tuple[int, ...], runtime: Any) -> Any:
    """Return OpenVINO's model of `network` for windows of `shape`.

    Raises:
        RuntimeError: if the network cannot be converted.
    """
    frontend = runtime.frontend.FrontEndManager().load_by_framework("pytorch")
    failures = (runtime.frontend.OpConversionFailure, runtime.frontend.GeneralFailure)
    try:
        with _quiet(), torch.no_grad():
            # The decoder must outlive the conversion, which only looks into it.
            decoder = _decoder(network, shape)
            model = frontend.convert(frontend.load(decoder))
            model.reshape({0: runtime.PartialShape(list(shape))})
    except (*RECORDING_ERRORS, *failures) as error:
        raise RuntimeError(f"OpenVINO cannot convert the network: {_reason(error)}") from error
    return model


def _decoder(network: nn.Module, shape: tuple[int, ...]) -> Any:
    """Return what shows `network`, recorded for windows of `shape`, to the conversion.

    The operators that it calls are recorded on tensors without data: modules, TorchScript and
    exported programs alike. `torch.export` ends at the same operators, in three times the time.
    """
    # An expanded zero has the shape without the memory.
    image = torch.zeros(1).expand(shape)
    # OpenVINO would take a change through a view for a change of the view alone.
    pure = torch.func.functionalize(network)
    record = make_fx(pure, _decompositions(), tracing_mode="fake", _allow_non_fake_inputs=True)
    decoders = import_module("openvino.frontend.pytorch.fx_decoder")
    return decoders.TorchFXPythonDecoder(record(image), dynamic_shapes=False)


@cache
def _decompositions() -> dict[OpOverload, Callable[..., Any]]:
    """Return how operators are taken apart that OpenVINO has no rule for."""
    rules = import_module("openvino.frontend.pytorch.torchdynamo.export_decompositions")
    known = set(rules.ops_to_not_decompose())
    table: Any = core_aten_decompositions()
    return {operator: parts for operator, parts in table.items() if operator not in known}


def _reason(error: Exception) -> str:
    """Return the line that says most: that on missing operators, or the first."""
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip(" -")]
    missing = [line for line in lines if line.startswith("No conversion rule")]
    return (missing or lines or [type(error).__name__])[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the recording and the conversion say to themselves from being printed.

    OpenVINO speaks through the root logger by a function that gives it a handler if it has none.
    """
    root, silent = logging.getLogger(), logging.NullHandler()
    disabled, root.disabled = root.disabled, True
    root.addHandler(silent)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeHandler(silent)
        root.disabled = disabled
