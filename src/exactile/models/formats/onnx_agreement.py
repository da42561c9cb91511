"""Whether a converted network computes what its ONNX model does: both are run on noise.

ONNX Runtime says what is right. (onnx's own reference evaluator is wrong for batch norms of the
opsets below 14: it takes their momentum for a sign of training.)
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from exactile.errors import ModelError
from exactile.models.formats.content import LOADING_ERRORS, first_line

EXTENTS: dict[int, tuple[tuple[int, ...], ...]] = {
    2: ((64, 96), (128, 64), (77, 61), (256, 320)),
    3: ((32, 48, 32), (64, 32, 48), (33, 25, 39), (64, 96, 128)),
}
"""Sides of the noise images: at every one that the model takes, both must agree. The last is for
models that take none of the others."""

CHANNELS = (1, 3, 2, 4, 5, 6, 7, 8)
"""Numbers of channels that are tried where the model declares none."""

TOLERANCE = 1e-4
"""Largest difference, as a part of the largest value: the rounding of float32 stays far below,
another interpolation, padding or epsilon far above."""

DYNAMIC = (
    "export it again with dynamic axes for height and width (torch.onnx.export: dynamic_shapes), "
    "as TorchScript, or with torch.export"
)


@dataclass(frozen=True, slots=True)
class Trial:
    """What the model made of a noise image."""

    noise: NDArray[np.float32]
    expected: NDArray[Any]


def compare(
    model: Any,
    network: nn.Module,
    image: str,
    output: str,
    shape: tuple[int | None, ...],
    axes: str,
    what: str,
) -> None:
    """Refuse a network that computes something else than `model` from `image` to `output`.

    `shape` is that of the input as declared, with None for sides that are free, and `axes` has a
    letter for each of them; `what` names the file in a refusal.

    Raises:
        ModelError: if the two differ, or if the model runs at one size only.
    """
    session = _session(model, image, output, what)
    tried, failure = 0, ""
    for trial in _trials(session, image, output, shape, axes):
        if isinstance(trial, str):
            failure = failure or trial
            continue
        tried += 1
        try:
            found = run_on(network, trial.noise)
        except LOADING_ERRORS as error:
            raise ModelError(
                f"{what}: cannot be converted to torch: {first_line(error)}; export the network "
                "as TorchScript or with torch.export"
            ) from error
        largest = float(np.abs(trial.expected).max(initial=0.0))
        if found.shape != trial.expected.shape or not np.allclose(
            found, trial.expected, rtol=0.0, atol=TOLERANCE * max(largest, 1e-30), equal_nan=True
        ):
            raise ModelError(
                f"{what}: its conversion to torch is another network: on noise of "
                f"{' x '.join(map(str, trial.noise.shape))} its results differ from those of ONNX "
                "Runtime; export the network as TorchScript or with torch.export"
            )
    if not tried:
        raise ModelError(f"{what}: {_only_size(model, image) or failure}; {DYNAMIC}")


def run_on(network: nn.Module, noise: NDArray[np.float32]) -> NDArray[Any]:
    """Return what the network makes of an image, in its own axes."""
    with torch.inference_mode():
        result: NDArray[Any] = network.eval()(torch.from_numpy(noise)).numpy()
    return result


def _session(model: Any, image: str, output: str, what: str) -> Any:
    """Return a session of ONNX Runtime that takes images of any size."""
    runtime = importlib.import_module("onnxruntime")
    free = type(model)()
    free.CopyFrom(model)
    del free.graph.value_info[:]
    for value in (*free.graph.input, *free.graph.output):
        if value.name == image:
            for place, side in enumerate(value.type.tensor_type.shape.dim):
                side.dim_param = f"side{place}"
        elif value.name == output:
            value.type.tensor_type.ClearField("shape")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return runtime.InferenceSession(
            free.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise ModelError(
            f"{what}: ONNX Runtime cannot run it, so its conversion could not be checked "
            f"({first_line(error)}); export it again, or as TorchScript"
        ) from error


def _trials(
    session: Any, image: str, output: str, shape: tuple[int | None, ...], axes: str
) -> Iterator[Trial | str]:
    """Yield what the model makes of noise, or why it makes nothing of it."""
    *extents, last = EXTENTS[len(axes) - 2]
    runs = False
    for seed, extent in enumerate([*extents, last]):
        if runs and extent == last:
            return
        for sides in _shapes(shape, axes, extent):
            noise = np.random.default_rng(seed).standard_normal(sides, dtype=np.float32)
            try:
                expected = session.run([output], {image: noise})[0]
            except _refusals() as error:
                yield first_line(error)
                continue
            runs = True
            yield Trial(noise, expected)
            break


def _shapes(
    shape: tuple[int | None, ...], axes: str, extent: tuple[int, ...]
) -> Iterator[tuple[int, ...]]:
    """Yield shapes of images of `extent`, of the channels declared or of several numbers."""
    declared = dict(zip(axes, shape, strict=True))
    spatial = dict(zip((axis for axis in axes if axis not in "bc"), extent, strict=True))
    for count in CHANNELS if declared["c"] is None else (declared["c"],):
        sides = {"b": declared["b"] or 1, "c": count, **spatial}
        yield tuple(sides[axis] for axis in axes)


def _refusals() -> tuple[type[Exception], ...]:
    """Return what ONNX Runtime raises on an image that a model does not take."""
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    return (state.Fail, state.InvalidArgument, state.RuntimeException, state.NotImplemented)


def _only_size(model: Any, image: str) -> str:
    """Return that the model takes the one size that it declares, if it declares one."""
    declared = next(value for value in model.graph.input if value.name == image)
    sides = [side.dim_value for side in declared.type.tensor_type.shape.dim][2:]
    return f"this export only takes {' x '.join(map(str, sides))} pixels" if all(sides) else ""
