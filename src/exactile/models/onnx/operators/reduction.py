"""Sums, means, extrema and norms along axes, products of matrices."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from exactile.models.onnx.registry import Arguments, Unsupported, operator

Reduction = Callable[[Tensor, list[int], bool], Tensor]

REDUCTIONS: dict[str, Reduction] = {
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep),
    "ReduceL2": lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keepdim=keep),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keepdim=keep).log(),
    "ReduceLogSumExp": lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep),
    "ReduceMax": lambda x, axes, keep: x.amax(axes, keepdim=keep),
    "ReduceMean": lambda x, axes, keep: x.mean(axes, keepdim=keep),
    "ReduceMin": lambda x, axes, keep: x.amin(axes, keepdim=keep),
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keepdim=keep, dtype=x.dtype),
    "ReduceSumSquare": lambda x, axes, keep: x.square().sum(axes, keepdim=keep),
}
"""By the operator's name: of a tensor, along axes, which stay with one position or go."""


def _of(reduction: Reduction) -> Callable[[Arguments], Tensor]:
    def run(arguments: Arguments) -> Tensor:
        image = arguments.tensor()
        axes = arguments.listed("axes", 1)
        if not axes:
            if arguments.get("noop_with_empty_axes", 0):
                return image
            axes = list(range(image.ndim))
        return reduction(image, [int(axis) for axis in axes], bool(arguments.get("keepdims", 1)))

    return run


for _name, _reduction in REDUCTIONS.items():
    operator(_name)(_of(_reduction))


@operator("ReduceProd")
def product(arguments: Arguments) -> Tensor:
    """Return the product along axes, one after the other."""
    image = arguments.tensor()
    axes = arguments.listed("axes", 1) or range(image.ndim)
    for axis in sorted((axis % image.ndim for axis in axes), reverse=True):
        image = image.prod(axis, keepdim=bool(arguments.get("keepdims", 1)), dtype=image.dtype)
    return image


@operator("ArgMax", "ArgMin")
def place_of_extremum(arguments: Arguments) -> Tensor:
    """Return where the first largest or smallest value along an axis lies."""
    arguments.expect("select_last_index", 0)
    run = torch.argmax if arguments.operator == "ArgMax" else torch.argmin
    return run(
        arguments.tensor(),
        arguments.get("axis", 0),
        keepdim=bool(arguments.get("keepdims", 1)),
    )


@operator("TopK")
def largest_few(arguments: Arguments) -> tuple[Tensor, Tensor]:
    """Return the k largest or smallest values along an axis, and where they lie."""
    count = arguments.numbers(1)[0] if arguments.has(1) else arguments.attributes["k"]
    values, places = torch.topk(
        arguments.tensor(0),
        int(count),
        arguments.get("axis", -1),
        bool(arguments.get("largest", 1)),
        True,
    )
    return values, places


@operator("CumSum")
def running_sum(arguments: Arguments) -> Tensor:
    """Return the sums of all values up to each along an axis."""
    arguments.expect("exclusive", 0)
    arguments.expect("reverse", 0)
    return arguments.tensor(0).cumsum(int(arguments.numbers(1)[0]))


@operator("MatMul")
def matrix_product(arguments: Arguments) -> Tensor:
    """Return the product of matrices, or of stacks of them."""
    return torch.matmul(arguments.tensor(0), arguments.tensor(1))


@operator("Gemm")
def general_product(arguments: Arguments) -> Tensor:
    """Return alpha A B + beta C, with A and B transposed where the node says so."""
    first, second = arguments.tensor(0), arguments.tensor(1)
    first = first.transpose(0, 1) if arguments.get("transA", 0) else first
    second = second.transpose(0, 1) if arguments.get("transB", 0) else second
    alpha, beta = arguments.get("alpha", 1.0), arguments.get("beta", 1.0)
    result = torch.matmul(first, second)
    result = result if alpha == 1.0 else result * alpha
    if not arguments.has(2):
        return result
    return result + (arguments.tensor(2) if beta == 1.0 else arguments.tensor(2) * beta)


@operator("Einsum")
def einstein_sum(arguments: Arguments) -> Tensor:
    """Return a sum of products, as the equation says."""
    tensors = [arguments.tensor(place) for place in range(len(arguments.values))]
    if "." in arguments.attributes["equation"]:
        raise Unsupported("its equation leaves axes out")
    return torch.einsum(arguments.attributes["equation"].replace(" ", ""), *tensors)
