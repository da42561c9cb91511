"""From the operations of a bioimage.io description to the steps that are streamed here.

An operation that cannot be computed exactly over an image of any size is refused by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exactile.errors import ModelError
from exactile.models.formats.bioimageio_tensor import Tensor, letters_of
from exactile.processing import (
    After,
    Before,
    Clip,
    Linear,
    ScaleRange,
    Scope,
    Sigmoid,
    Softmax,
    Standardize,
    Threshold,
    ZScore,
)

EPSILON = 1e-6
"""Of both formats, where a description names none."""

FLOATS = ("float32", "float64")

REMOVE = "take the step out of the description, and do it before or after the run"

NOT_STREAMED = {
    "scale_mean_variance": "matches the statistics of another tensor",
    "stardist_postprocessing": "finds objects in the whole image",
    "cellpose_flow_dynamics": "follows flows through the whole image",
    "custom": "is code that comes with the description, which is never executed here",
}
"""Operations without a step, and why."""

MEASURED = ("zero_mean_unit_variance", "scale_range")
"""Operations that need statistics of a whole tensor."""


def steps_before(tensor: Tensor) -> tuple[Before, ...]:
    """Return the pre-processing of an input.

    A first ensure_dtype that names the type of the images themselves changes nothing: images of
    another type are taken as they are.

    Raises:
        ModelError: if an operation cannot be streamed exactly, or the network takes integers.
    """
    steps: list[Before] = []
    dtype = tensor.dtype
    for place, (name, arguments) in enumerate(tensor.steps):
        if name == "softmax":
            raise refused(tensor, name, "comes before the network; use it after", REMOVE)
        if name == "ensure_dtype":
            dtype = str(arguments["dtype"])
            if dtype not in FLOATS and (place > 0 or dtype != tensor.dtype):
                raise refused(
                    tensor,
                    name,
                    f"rounds to {dtype}, but networks of float32 are run here",
                    "describe a network that takes float32",
                )
            continue
        step = _step(name, arguments, tensor, first=not steps)
        steps.append(step)  # type: ignore[arg-type]
        dtype = "float32"
    if dtype not in FLOATS:
        raise ModelError(
            f"{tensor.what}: gives the network {dtype}, but networks of float32 are run here; "
            "describe a network that takes float32"
        )
    return tuple(steps)


def steps_after(tensor: Tensor) -> tuple[After, ...]:
    """Return the post-processing of an output.

    Raises:
        ModelError: if an operation cannot be streamed exactly.
    """
    steps: list[After] = []
    for name, arguments in tensor.steps:
        if name in MEASURED and arguments.get("mode") != "fixed":
            raise refused(
                tensor, name, "needs statistics of the network's whole output before it", REMOVE
            )
        if name == "ensure_dtype":
            dtype = str(arguments["dtype"])
            # 0 and 1 are the same in all types.
            if dtype not in FLOATS and not (steps and isinstance(steps[-1], Threshold)):
                raise refused(tensor, name, f"rounds to {dtype}", REMOVE)
            continue
        if name == "softmax":
            axis = arguments.get("axis", "channel")
            if letters_of([axis], tensor) != "c":
                raise refused(tensor, name, f"goes along {axis}", "use it along the channels")
            steps.append(Softmax())
            continue
        steps.append(_step(name, arguments, tensor, first=not steps))  # type: ignore[arg-type]
    return tuple(steps)


def refused(tensor: Tensor, name: str, reason: str, advice: str) -> ModelError:
    """Return the refusal of an operation."""
    return ModelError(f"{tensor.what}: its step {name} {reason}; {advice}")


def _step(name: str, arguments: dict[str, Any], tensor: Tensor, first: bool) -> Before | After:
    """Return the step of an operation; `first` where nothing was computed before it."""
    if name in NOT_STREAMED or name not in STEPS:
        reason = NOT_STREAMED.get(name, "is not known")
        raise refused(tensor, name, reason, REMOVE)
    if arguments.get("mode") == "per_dataset":
        raise refused(
            tensor,
            name,
            "needs statistics of a whole data set (mode per_dataset)",
            "describe it with mode per_sample, or with fixed numbers",
        )
    reference = arguments.get("reference_tensor")
    if reference is not None and not (first and reference == tensor.name):
        raise refused(
            tensor,
            name,
            f"takes its statistics from the unprocessed tensor {reference}",
            "use it as the first step, on the tensor itself",
        )
    return STEPS[name](name, arguments, tensor)


def _scope(name: str, axes: Any, tensor: Tensor) -> Scope:
    """Return what statistics are taken over: each channel of the image, or all channels.

    Every image is a sample of its own, so the batch axis makes no difference.
    """
    if axes is None:
        return "image"
    letters = set(letters_of(axes, tensor)) - {"b"}
    if letters == set(tensor.space):
        return "channel"
    if letters == {"c", *tensor.space}:
        return "image"
    named = ", ".join(sorted(letters)) or "no axis"
    raise refused(
        tensor,
        name,
        f"takes statistics over {named} only",
        f"use all spatial axes ({', '.join(tensor.space)}), with or without channels",
    )


def _numbers(
    name: str, arguments: dict[str, Any], tensor: Tensor, *keys: str
) -> tuple[tuple[float, ...], ...]:
    """Return arguments that are one number each, or one for each channel; all of one length."""
    axis = arguments.get("axis")
    if axis is not None and letters_of([axis], tensor) != "c":
        raise refused(
            tensor, name, f"has numbers along {axis}", "use one number, or one for each channel"
        )
    values = [
        tuple(map(float, value)) if isinstance(value, (list, tuple)) else (float(value),)
        for value in (arguments[key] for key in keys)
    ]
    length = max(map(len, values))
    axes = arguments.get("axes")
    over = None if axes is None else set(letters_of(axes, tensor)) - {"b"}
    by_channel = axis is not None or over == set(tensor.space)
    if any(len(value) not in (1, length) for value in values) or (
        length > 1 and (not by_channel or tensor.channels not in (None, length))
    ):
        raise refused(
            tensor,
            name,
            f"has {length} numbers for {tensor.channels or 'an unknown number of'} channel(s)",
            "use one number, or one for each channel",
        )
    return tuple(value if len(value) == length else value * length for value in values)


def _zero_mean(name: str, arguments: dict[str, Any], tensor: Tensor) -> ZScore | Standardize:
    epsilon = float(arguments.get("eps", EPSILON))
    if arguments.get("mode") != "fixed":
        return ZScore(_scope(name, arguments.get("axes"), tensor), epsilon=epsilon)
    mean, deviation = _numbers(name, arguments, tensor, "mean", "std")
    return Standardize(mean, tuple(value + epsilon for value in deviation))


def _fixed_zero_mean(name: str, arguments: dict[str, Any], tensor: Tensor) -> Standardize:
    return Standardize(*_numbers(name, arguments, tensor, "mean", "std"))


def _scale_range(name: str, arguments: dict[str, Any], tensor: Tensor) -> ScaleRange:
    return ScaleRange(
        float(arguments.get("min_percentile", 0.0)),
        float(arguments.get("max_percentile", 100.0)),
        _scope(name, arguments.get("axes"), tensor),
        float(arguments.get("eps", EPSILON)),
    )


def _scale_linear(name: str, arguments: dict[str, Any], tensor: Tensor) -> Linear:
    numbers = {"gain": 1.0, "offset": 0.0} | arguments
    return Linear(*_numbers(name, numbers, tensor, "gain", "offset"))


def _clip(name: str, arguments: dict[str, Any], tensor: Tensor) -> Clip:
    if any(arguments.get(f"{end}_percentile") is not None for end in ("min", "max")):
        raise refused(
            tensor,
            name,
            "clips at percentiles",
            "use scale_range with these percentiles, and clip to 0 and 1 after it",
        )
    return Clip(arguments.get("min"), arguments.get("max"))


def _binarize(name: str, arguments: dict[str, Any], tensor: Tensor) -> Threshold:
    return Threshold(*_numbers(name, arguments, tensor, "threshold"))


def _sigmoid(_name: str, _arguments: dict[str, Any], _tensor: Tensor) -> Sigmoid:
    return Sigmoid()


STEPS: dict[str, Callable[[str, dict[str, Any], Tensor], Before | After]] = {
    "binarize": _binarize,
    "clip": _clip,
    "fixed_zero_mean_unit_variance": _fixed_zero_mean,
    "scale_linear": _scale_linear,
    "scale_range": _scale_range,
    "sigmoid": _sigmoid,
    "zero_mean_unit_variance": _zero_mean,
}
"""How each operation is made a step."""
