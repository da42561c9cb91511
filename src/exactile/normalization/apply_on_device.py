"""The steps of `apply` on a device that is not a CPU, in PyTorch's element-wise kernels.

One thread of a GPU computes one pixel, wherever it lies, so that a pixel gets the same bits in any
array there; they are not the bits of a CPU, whose exponential is another one.
"""

from __future__ import annotations

from typing import assert_never

import torch
from torch import Tensor

from exactile.processing import After, Clip, Linear, Sigmoid, Softmax, Standardize, Threshold


def apply_on_device(steps: tuple[After, ...], output: Tensor) -> Tensor:
    """Return what `steps`, in their order, make of `output` (C, ...): a fresh float32 tensor."""
    values = output.clone(memory_format=torch.contiguous_format)
    for step in steps:
        values = _applied(values, step)
    return values


def _applied(values: Tensor, step: After) -> Tensor:
    """Return what `step` makes of `values` (C, ...), which it may write to."""
    match step:
        case Standardize(mean, deviation):
            return values.sub_(_by_channel(mean, values)).div_(_by_channel(deviation, values))
        case Linear(gain, offset):
            return values.mul_(_by_channel(gain, values)).add_(_by_channel(offset, values))
        case Clip(low, high):
            return values if low is None and high is None else values.clamp_(low, high)
        case Threshold(thresholds):
            return (values > _by_channel(thresholds, values)).to(values.dtype)
        case Sigmoid():
            return values.neg_().exp_().add_(1).reciprocal_()
        case Softmax():
            return _softmax(values)
        case _:
            assert_never(step)


def _by_channel(numbers: tuple[float, ...], values: Tensor) -> Tensor:
    """Return `numbers`, one for all channels or one for each, to be combined with (C, ...)."""
    shape = (-1,) + (1,) * (values.ndim - 1)
    return torch.tensor(numbers, dtype=values.dtype, device=values.device).reshape(shape)


def _softmax(values: Tensor) -> Tensor:
    """Softmax over the first axis, each sum from the first channel to the last."""
    largest = values[0].clone()
    for channel in values[1:]:
        torch.maximum(largest, channel, out=largest)
    values.sub_(largest).exp_()
    total = values[0].clone()
    for channel in values[1:]:
        total.add_(channel)
    return values.div_(total)
