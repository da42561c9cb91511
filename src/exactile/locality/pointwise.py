"""Element-wise operators: each position depends on the same position of every operand.

Operands broadcast. PyTorch tags these operators itself (`torch.Tag.pointwise`), so activations,
arithmetic, comparisons and selections need no list here. Scalars are part of the function: one that
was computed from the image's size shows up as a function that changes with the size.
"""

from __future__ import annotations

from exactile.locality.reach import Reach, constant, merge, number, salted
from exactile.locality.refusal import Refused
from exactile.locality.registry import Call, rule

UNTAGGED = (
    "_prelu_kernel",
    "prelu",
    "hardswish",
    "log_sigmoid_forward",
    "log_sigmoid",
    "masked_fill",
    "where",
    "copy",
    "dropout",
    "feature_dropout",
    "clamp",
    "pow",
    "bitwise_not",
    "softplus",
    "rrelu_with_noise",
    "rrelu_with_noise_functional",
)
FILLED = (
    *("zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full", "new_empty", "zero"),
    *("zeros_like", "ones_like", "full_like", "empty_like", "scalar_tensor", "empty_strided"),
)


@rule(*UNTAGGED)
def pointwise(call: Call) -> tuple[Reach, ...]:
    """Join the operands position by position; refuse what varies along the image by itself."""
    parts = []
    for reach, tensor in zip(call.reaches, call.tensors, strict=True):
        if reach.pooled is not None:
            raise Refused(
                "it computes with the indices of a max-pooling, which count from the image's "
                "origin; use them for max-unpooling only"
            )
        parts.append((reach, tuple(tensor.shape)))
    refuse_grids(call, parts)
    scalars = [
        value for value in call.arguments.values() if isinstance(value, (bool, int, float, str))
    ]
    salt = number(int(call.salt), scalars)
    reach = salted(merge(parts, call.output.ndim), salt)
    return (reach,) * len(call.outputs)


def refuse_grids(call: Call, parts: list[tuple[Reach, tuple[int, ...]]]) -> None:
    """Refuse a constant whose values vary along a dimension that grows with the image."""
    ndim = call.output.ndim
    for dim in range(1, ndim + 1):
        if not any(dim <= len(shape) and reach.tracked(-dim) for reach, shape in parts):
            continue
        for reach, shape in parts:
            if dim > len(shape) or not reach.constant or reach.even[-dim] or reach.tracked(-dim):
                continue
            if call.output_grows(-dim):
                raise Refused(
                    "it combines the image with a tensor whose values vary with the absolute "
                    "position (a coordinate grid or a positional embedding), so a tile gets other "
                    "values than the whole image; drop it, or make it periodic"
                )


@rule(*FILLED)
def filled(call: Call) -> Reach:
    """Make a tensor with one value everywhere, which depends on nothing."""
    mark = number(call.operator, call.arguments.get("fill_value"), call.arguments.get("s"))
    return constant(tuple(call.output.shape), mark, even=True)


@rule("fill")
def fill(call: Call) -> Reach:
    """Overwrite every position with one value."""
    value = call["value"]
    if not call.reaches[1:]:
        mark = number(call.operator, value)
        return constant(tuple(call.output.shape), mark, even=True)
    expanded = merge([(call.reaches[1], ())], call.output.ndim)
    return salted(expanded, call.salt)
