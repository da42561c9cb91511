"""A PyTorch network as OpenVINO's model, for one shape of window.

Each shape is converted by itself, so that nothing in the model depends on a size that differs. The
weights are not copied.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from functools import cache
from importlib import import_module
from io import StringIO
from typing import Any

import torch
from torch import Tensor, nn
from torch._decomp import core_aten_decompositions
from torch._ops import OpOverload
from torch.fx.experimental.proxy_tensor import make_fx

from exactile.locality.run import RUN_ERRORS


def convert(network: nn.Module, shape: tuple[int, ...], runtime: Any) -> Any:
    """Return OpenVINO's model of `network`, float32, for windows of `shape`, (1, channels, ...).

    What cannot be converted as it is recorded is exported: some operators stay whole there, such as
    trilinear interpolation, and OpenVINO has rules for those.

    Raises:
        RuntimeError: if the network cannot be converted.
    """
    frontend = runtime.frontend.FrontEndManager().load_by_framework("pytorch")
    failures = (runtime.frontend.OpConversionFailure, runtime.frontend.GeneralFailure)
    reasons: list[Exception] = []
    for program_of in (_recorded, _exported):
        try:
            with _quiet(), torch.no_grad():
                # The decoder must outlive the conversion, which only looks into it.
                decoder = program_of(network, shape)
                model = frontend.convert(frontend.load(decoder))
                model.reshape({0: runtime.PartialShape(list(shape))})
                return model
        except (*RUN_ERRORS, *failures) as error:
            reasons.append(error)
    first = reasons[0]
    raise RuntimeError(f"OpenVINO cannot convert the network: {_reason(first)}") from first


def _recorded(network: nn.Module, shape: tuple[int, ...]) -> Any:
    """Return what shows `network`, recorded for windows of `shape`, to the conversion.

    The operators that it calls are recorded on tensors without data: modules, TorchScript and
    exported programs alike. `torch.export` ends at the same operators, in three times the time.
    """
    # OpenVINO would take a change through a view for a change of the view alone.
    pure = torch.func.functionalize(network)
    record = make_fx(pure, _decompositions(), tracing_mode="fake", _allow_non_fake_inputs=True)
    decoders = import_module("openvino.frontend.pytorch.fx_decoder")
    return decoders.TorchFXPythonDecoder(record(_image(shape)), dynamic_shapes=False)


def _exported(network: nn.Module, shape: tuple[int, ...]) -> Any:
    """Return the same through `torch.export`, which does not take TorchScript."""
    program = torch.export.export(network, (_image(shape),), strict=False)
    decoders = import_module("openvino.frontend.pytorch.fx_decoder")
    return decoders.TorchFXPythonDecoder.from_exported_program(program, dynamic_shapes=False)


def _image(shape: tuple[int, ...]) -> Tensor:
    """Return an image of `shape` without its memory: an expanded zero."""
    return torch.zeros(1).expand(shape)


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

    OpenVINO speaks through the root logger by a function that gives it a handler if it has none;
    torch.export prints the whole program that it could not export.
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
