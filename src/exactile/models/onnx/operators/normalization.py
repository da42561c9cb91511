"""Norms, with the statistics of the file or of the image, and soft-max."""

from __future__ import annotations

from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from exactile.models.onnx.registry import Arguments, Unsupported, operator


@operator("BatchNormalization")
def batch_norm(arguments: Arguments) -> Tensor:
    """Return the image scaled and shifted for each channel, by the statistics of the file."""
    if arguments.get("training_mode", 0) or arguments.outputs > 1:
        raise Unsupported("it is in training mode; export the network in evaluation mode")
    arguments.expect("spatial", 1)
    return F.batch_norm(
        arguments.tensor(0),
        running_mean=arguments.tensor(3),
        running_var=arguments.tensor(4),
        weight=arguments.tensor(1),
        bias=arguments.tensor(2),
        eps=arguments.get("epsilon", 1e-5),
    )


@operator("InstanceNormalization")
def instance_norm(arguments: Arguments) -> Tensor:
    """Return each channel of each image normalised by its own mean and variance."""
    return F.instance_norm(
        arguments.tensor(0),
        weight=arguments.tensor(1),
        bias=arguments.tensor(2),
        eps=arguments.get("epsilon", 1e-5),
    )


@operator("GroupNormalization")
def group_norm(arguments: Arguments) -> Tensor:
    """Return groups of channels normalised together; before opset 21 they are scaled together."""
    image, scale, shift = (arguments.tensor(place) for place in range(3))
    groups = arguments.attributes["num_groups"]
    if arguments.opset < 21:
        each = image.shape[1] // groups
        scale, shift = scale.repeat_interleave(each), shift.repeat_interleave(each)
    return F.group_norm(image, groups, scale, shift, arguments.get("epsilon", 1e-5))


@operator("LayerNormalization")
def layer_norm(arguments: Arguments) -> Tensor:
    """Return the last axes, from `axis` on, normalised together."""
    if arguments.outputs > 1:
        raise Unsupported("its mean or deviation is asked for")
    image = arguments.tensor(0)
    shape = image.shape[arguments.get("axis", -1) :]
    weight, bias = arguments.optional(1), arguments.optional(2)
    return F.layer_norm(
        image,
        shape,
        None if weight is None else weight.reshape(shape),
        None if bias is None else bias.reshape(shape),
        arguments.get("epsilon", 1e-5),
    )


@operator("LpNormalization")
def vector_norm(arguments: Arguments) -> Tensor:
    """Return vectors along `axis`, divided by their length."""
    image, axis = arguments.tensor(), arguments.get("axis", -1)
    length = torch.linalg.vector_norm(image, arguments.get("p", 2), axis, keepdim=True)
    return image.div(length)


@operator("LRN")
def local_response_norm(arguments: Arguments) -> Tensor:
    """Return values divided by a power of the sum of squares of the channels beside them."""
    return F.local_response_norm(
        arguments.tensor(),
        arguments.attributes["size"],
        arguments.get("alpha", 1e-4),
        arguments.get("beta", 0.75),
        arguments.get("bias", 1.0),
    )


@operator("Softmax", "LogSoftmax")
def softmax(arguments: Arguments) -> Tensor:
    """Return the soft-max along an axis; before opset 13, over all axes from it on together."""
    image = arguments.tensor()
    run = torch.softmax if arguments.operator == "Softmax" else torch.log_softmax
    if arguments.opset >= 13:
        return run(image, arguments.get("axis", -1))
    axis = arguments.get("axis", 1) % image.ndim
    if prod(image.shape[axis + 1 :]) == 1:
        return run(image, axis)
    return run(image.flatten(axis), axis).reshape(image.shape)
