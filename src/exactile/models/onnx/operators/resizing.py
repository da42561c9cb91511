"""Resize and Upsample: which of torch's interpolations a node means, if any.

A position p of the output lies at (p + 1/2) / scale - 1/2 of the input (half_pixel), at p / scale
(asymmetric), or so that the corners fall together (align_corners). torch has the first and the
last for linear and cubic interpolation, the second for the nearest neighbour rounded down, and the
first for it rounded half up (nearest-exact). Along axes that grow by a whole number, or shrink by
one, all ways to round agree with a repetition or with a slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from exactile.models.onnx.registry import Arguments, Unsupported, operator

HALF_PIXEL = ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
ROUNDINGS = {
    "round_prefer_floor": lambda place: ceil(place - 0.5),
    "round_prefer_ceil": lambda place: floor(place + 0.5),
    "floor": floor,
    "ceil": ceil,
}
CUBIC = -0.75
"""The coefficient of torch's cubic interpolation."""


@dataclass(frozen=True, slots=True)
class Target:
    """How large the spatial axes are to be: by factors, or in pixels."""

    scales: list[float] | None
    sides: list[Any] | None

    def interpolate(self, image: Tensor, mode: str, **given: Any) -> Tensor:
        """Return the image interpolated by torch."""
        return F.interpolate(image, self.sides, self.scales, mode=mode, **given)


@operator("Resize", "Upsample")
def resize(arguments: Arguments) -> Tensor:
    """Return the image in another size."""
    image = arguments.tensor(0)
    target = _target(arguments, image)
    mode, place = arguments.get("mode", "nearest"), _placing(arguments)
    dims = image.ndim - 2
    if mode == "nearest":
        return _nearest(arguments, image, target, place)
    if mode not in ("linear", "cubic", "bilinear", "trilinear"):
        raise Unsupported(f"mode is {mode!r}")
    cubic = mode == "cubic"
    smooth = bool(arguments.get("antialias", 0))
    if cubic and (
        dims != 2
        or arguments.get("exclude_outside", 0)
        or abs(arguments.get("cubic_coeff_a", CUBIC) - CUBIC) > 1e-6
    ):
        raise Unsupported("its cubic interpolation is not that of torch")
    name = "bicubic" if cubic else LINEAR[dims]
    if place in HALF_PIXEL:
        return target.interpolate(image, name, align_corners=False, antialias=smooth)
    if place == "align_corners" and not smooth:
        return target.interpolate(image, name, align_corners=True)
    if place == "asymmetric" and not cubic and not smooth:
        return _linear_from_the_corner(image, target)
    raise Unsupported(f"coordinate_transformation_mode is {place!r} with mode {mode!r}")


def _placing(arguments: Arguments) -> str:
    """Return where output positions lie; older operators know one way."""
    usual = (
        "half_pixel" if arguments.operator == "Resize" and arguments.opset >= 11 else "asymmetric"
    )
    return str(arguments.get("coordinate_transformation_mode", usual))


def _target(arguments: Arguments, image: Tensor) -> Target:
    """Return the size that is asked for; batch and channels keep theirs."""
    arguments.expect("keep_aspect_ratio_policy", "stretch")
    modern = arguments.operator == "Resize" and arguments.opset >= 11
    axes = [axis % image.ndim for axis in arguments.get("axes", range(image.ndim))]
    spatial = range(2, image.ndim)
    if modern and arguments.has(3) and arguments.numbers(3):
        sides = dict(zip(axes, arguments.numbers(3), strict=True))
        if sides.get(1, image.shape[1]) != image.shape[1]:
            raise Unsupported("it resizes the channels")
        return Target(None, [sides.get(axis, image.shape[axis]) for axis in spatial])
    given = arguments.listed("scales", 2 if modern else 1)
    if not given:
        raise Unsupported("it has neither sizes nor scales")
    scales = dict(zip(axes, given, strict=True))
    if any(scales.get(axis, 1.0) != 1.0 for axis in (0, 1)):
        raise Unsupported("it resizes the channels")
    return Target([scales.get(axis, 1.0) for axis in spatial], None)


def _factors(image: Tensor, target: Target) -> list[float]:
    """Return by how much each spatial axis grows."""
    if target.scales is not None:
        return list(target.scales)
    return [wanted / side for wanted, side in zip(target.sides or (), image.shape[2:], strict=True)]


def _nearest(arguments: Arguments, image: Tensor, target: Target, place: str) -> Tensor:
    usual = "round_prefer_floor" if arguments.opset >= 11 else "floor"
    rounding = str(arguments.get("nearest_mode", usual))
    if rounding not in ROUNDINGS:
        raise Unsupported(f"nearest_mode is {rounding!r}")
    if place == "asymmetric" and rounding == "floor":
        return target.interpolate(image, "nearest")
    if place in HALF_PIXEL and rounding == "round_prefer_ceil":
        return target.interpolate(image, "nearest-exact")
    for axis, factor in enumerate(_factors(image, target), 2):
        image = _by_whole_number(image, axis, factor, place, rounding)
    return image


def _by_whole_number(image: Tensor, axis: int, factor: float, place: str, rounding: str) -> Tensor:
    """Return one axis repeated, or thinned out, by a whole number.

    Raises:
        Unsupported: if what the node reads is neither.
    """
    if factor == 1.0:
        return image
    shift = 0.5 if place in HALF_PIXEL else 0.0 if place == "asymmetric" else None
    if shift is not None and factor > 1 and float(factor).is_integer():
        reads = [ROUNDINGS[rounding]((p + shift) / factor - shift) for p in range(int(factor))]
        if set(reads) == {0}:
            return image.repeat_interleave(int(factor), axis)
    elif shift is not None and factor < 1 and float(1 / factor).is_integer():
        step = round(1 / factor)
        first = ROUNDINGS[rounding](shift * step - shift)
        return image[_along(axis, slice(first, image.shape[axis] // step * step, step))]
    raise Unsupported(f"nearest neighbours by {factor:g} with {place} and {rounding}")


def _along(axis: int, part: slice) -> tuple[slice, ...]:
    return (*[slice(None)] * axis, part)


def _linear_from_the_corner(image: Tensor, target: Target) -> Tensor:
    """Return the image grown by whole numbers: each position between it and the next one."""
    for axis, factor in enumerate(_factors(image, target), 2):
        if not float(factor).is_integer():
            raise Unsupported(f"linear interpolation by {factor:g} from the corner (asymmetric)")
        if factor == 1.0:
            continue
        last = image[_along(axis, slice(-1, None))]
        following = torch.cat((image[_along(axis, slice(1, None))], last), axis)
        between = [image + (following - image) * (step / factor) for step in range(int(factor))]
        image = torch.stack(between, axis + 1).flatten(axis, axis + 1)
    return image
