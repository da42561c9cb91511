"""ONNX, through onnx2torch: the graph becomes torch modules, which are traced as any others.

onnx2torch knows the operators of opset 17; newer models are first brought down to it by onnx's own
converter. Neither is believed: the result must agree with onnx's reference evaluator on noise.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from exactile.errors import ModelError
from exactile.models.formats.content import (
    LOADING_ERRORS,
    digest_of,
    first_line,
    prepared,
    read_content,
)
from exactile.models.network_file import NetworkFile

OPSET = 17
"""The newest set of operators that onnx2torch knows whole."""

CHECKED_EXTENTS = (64, 128, 256)
"""Sides of the noise image on which the result is compared; the first that the model takes."""

DYNAMIC = (
    "export it again with dynamic axes for height and width (torch.onnx.export: dynamic_shapes), "
    "as TorchScript, or with torch.export"
)

TOLERANCE = 1e-3
"""Largest difference from the reference, as a part of the largest value: float32 rounding stays
far below, another interpolation or padding far above."""

UNUSED = {"torchvision": (), "torchvision.ops": ("roi_align",)}
"""What onnx2torch imports for two operators of object detection alone."""


@dataclass(frozen=True, slots=True)
class _Image:
    """The one input of a model."""

    name: str
    shape: tuple[int | None, ...]
    """As declared; None for sizes that are free."""


def load_onnx(path: Path) -> NetworkFile:
    """Load the ONNX model at `path`; tensors in files beside it are read as well.

    Raises:
        ModelError: if it cannot be loaded or converted, has not one input and one output, or if
            the packages of the extra `onnx` are missing.
    """
    content = read_content(path)
    network, channels, dimensions, digest = onnx_network(content, str(path), path.parent)
    return NetworkFile(
        name=path.stem,
        version="",
        format="ONNX",
        network=network,
        sha256=digest,
        channels=channels,
        dimensions=dimensions,
    )


def onnx_network(
    content: bytes, what: str, folder: Path | None
) -> tuple[nn.Module, int | None, int | None, str]:
    """Return network, channels, dimensions and digest of the model in `content`.

    `what` names the file in a refusal; `folder` is where files with tensors lie, if anywhere.

    Raises:
        ModelError: as `load_onnx` does.
    """
    try:
        onnx = importlib.import_module("onnx")
        with _without_torchvision():
            onnx2torch = importlib.import_module("onnx2torch")
    except ImportError as error:
        raise ModelError(
            f"{what}: is an ONNX model, which needs packages that are not installed "
            f"({first_line(error)}); run: pip install 'exactile[onnx]'"
        ) from error
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:
        raise ModelError(
            f"{what}: is not an ONNX model, or a damaged one ({first_line(error)}); copy or "
            "export it again"
        ) from error
    parts = _load_external(onnx, model, what, folder)
    image = _input_of(model, what)
    network = _convert(onnx, onnx2torch, model, what)
    _compare(model, network, image, what)
    return prepared(network, what), image.shape[1], len(image.shape) - 2, digest_of(content, *parts)


def _load_external(onnx: Any, model: Any, what: str, folder: Path | None) -> list[bytes]:
    """Read the tensors that lie in other files; return the bytes of these files."""
    names = sorted(
        {
            entry.value
            for tensor in model.graph.initializer
            if tensor.data_location == onnx.TensorProto.EXTERNAL
            for entry in tensor.external_data
            if entry.key == "location"
        }
    )
    if not names:
        return []
    if folder is None:
        raise ModelError(
            f"{what}: its weights lie in other files ({', '.join(names)}); unpack the archive "
            "and name the unpacked folder"
        )
    for name in names:
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise ModelError(f"{what}: names weights outside its folder ({name}); move them there")
    parts = [read_content(folder / name) for name in names]
    try:
        onnx.load_external_data_for_model(model, str(folder))
    except Exception as error:
        raise ModelError(
            f"{what}: its weights in {', '.join(names)} cannot be read ({first_line(error)}); "
            "save it as one file"
        ) from error
    return parts


def _input_of(model: Any, what: str) -> _Image:
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise ModelError(
            f"{what}: takes {len(inputs)} inputs ({names}), but networks of one image are run "
            "here; export it so that it takes the image alone"
        )
    if len(model.graph.output) != 1:
        names = ", ".join(value.name for value in model.graph.output)
        raise ModelError(
            f"{what}: returns {len(model.graph.output)} tensors ({names}), but one is segmented; "
            "export it so that it returns the one you want"
        )
    sides = inputs[0].type.tensor_type.shape.dim
    if len(sides) not in (4, 5):
        raise ModelError(
            f"{what}: takes {len(sides)} dimensions; export a network that takes (N, channels, Y, "
            "X), or (N, channels, Z, Y, X)"
        )
    return _Image(inputs[0].name, tuple(side.dim_value or None for side in sides))


def _convert(onnx: Any, onnx2torch: Any, model: Any, what: str) -> nn.Module:
    converter = importlib.import_module("onnx.version_converter")
    opset = max((entry.version for entry in model.opset_import if not entry.domain), default=0)
    try:
        lowered = converter.convert_version(model, OPSET) if opset > OPSET else model
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            network: nn.Module = onnx2torch.convert(lowered)
    except (*LOADING_ERRORS, onnx.onnx_cpp2py_export.shape_inference.InferenceError) as error:
        raise ModelError(
            f"{what}: cannot be converted to torch: {first_line(error)}; export the network as "
            "TorchScript or with torch.export, or to ONNX with opset 17"
        ) from error
    doubts = [str(entry.message) for entry in said if "might differ" in str(entry.message)]
    if doubts:
        raise ModelError(
            f"{what}: cannot be converted to torch exactly: {doubts[0]} Export the network as "
            "TorchScript or with torch.export"
        )
    return network


def _compare(model: Any, network: nn.Module, image: _Image, what: str) -> None:
    """Refuse a conversion that computes something else than the model."""
    reference = importlib.import_module("onnx.reference")
    evaluator = reference.ReferenceEvaluator(model)
    failure = ""
    for side in CHECKED_EXTENTS:
        noise = _noise(image, (side,) * (len(image.shape) - 2))
        try:
            found = _run(network, noise)
            expected = evaluator.run(None, {image.name: noise})[0]
        except LOADING_ERRORS as error:
            failure = failure or first_line(error)
            continue
        largest = float(np.abs(expected).max(initial=0.0))
        if found.shape == expected.shape and np.allclose(
            found, expected, rtol=0.0, atol=TOLERANCE * max(largest, 1e-30)
        ):
            return
        raise ModelError(
            f"{what}: onnx2torch makes another network of it: its results on noise differ from "
            "those of onnx's reference; export the network as TorchScript or with torch.export"
        )
    raise ModelError(f"{what}: {_only_size(network, image) or failure}; {DYNAMIC}")


def _only_size(network: nn.Module, image: _Image) -> str:
    """Return that the network runs at the declared size, if it does; else nothing."""
    declared = tuple(side for side in image.shape[2:] if side is not None)
    if len(declared) < len(image.shape) - 2:
        return ""
    try:
        _run(network, _noise(image, declared))
    except LOADING_ERRORS:
        return ""
    return f"this export only takes {' x '.join(map(str, declared))} pixels"


def _noise(image: _Image, extent: tuple[int, ...]) -> NDArray[np.float32]:
    shape = (1, image.shape[1] or 1, *extent)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _run(network: nn.Module, noise: NDArray[np.float32]) -> NDArray[Any]:
    with torch.inference_mode():
        result: NDArray[Any] = network.eval()(torch.from_numpy(noise)).numpy()
    return result


@contextmanager
def _without_torchvision() -> Iterator[None]:
    """Stand in for torchvision where it does not fit the installed torch."""
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
    else:
        yield
        return
    for name, attributes in UNUSED.items():
        module = ModuleType(name)
        for attribute in attributes:
            setattr(module, attribute, None)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in UNUSED:
            del sys.modules[name]
