"""Matrix products and attention: sums over a contracted dimension.

In (n, k) x (k, m) every output joins a row and a column over all k. A linear layer contracts
channels and keeps positions; attention contracts channels into scores of position by position, and
then all positions. Windows of a fixed size make that local; the whole image does not.
"""

from __future__ import annotations

from math import prod

from exactile.locality.reach import Reach, fold, merge, salted
from exactile.locality.reduction import refuse_growing
from exactile.locality.refusal import Refused
from exactile.locality.registry import Call, rule

LIMIT = 1 << 23
"""Most elements that are told apart for one tensor: more only come from all pairs of positions."""

MATRICES = {
    "aten.mm": ("self", "mat2"),
    "aten.addmm": ("mat1", "mat2"),
    "aten.bmm": ("self", "mat2"),
    "aten.baddbmm": ("batch1", "batch2"),
    "aten.mv": ("self", "vec"),
    "aten.addmv": ("mat", "vec"),
}
FUSED_ATTENTION = (
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_attention_math",
)
GLOBAL_ATTENTION = (
    "it is attention over all positions, so every output depends on the whole image; use "
    "convolutions, or attention inside windows of fixed size"
)
FLATTENED = (
    "a linear layer takes the flattened image, so every output depends on all positions and only "
    "one image size fits; use convolutions"
)


@rule("mm", "addmm", "bmm", "baddbmm")
def matrix_product(call: Call) -> Reach:
    """Join row and column over the contracted dimension."""
    first, second = MATRICES[call.operator]
    left, right = call.reach(first), call.reach(second)
    for name, reach, dim in ((first, left, -1), (second, right, -2)):
        if reach.tracked(dim) and call.grows(name, dim % reach.low.ndim):
            raise Refused(
                "its matrix product sums over all positions of the image (attention, or a linear "
                "layer on the flattened image); use convolutions or windows of fixed size"
            )
    if left.tracked(-2) and right.tracked(-1) and prod(call.output.shape) > LIMIT:
        if any(left.tracked(dim) for dim in range(left.low.ndim - 2)):
            raise Refused(
                "it multiplies position by position in windows too large to be followed; use "
                "smaller windows, or convolutions"
            )
        raise Refused(GLOBAL_ATTENTION)
    rows, columns = call.shape(first), call.shape(second)
    parts = [
        (fold(left, [-1]), (*rows[:-1], 1)),
        (fold(right, [-2]), (*columns[:-2], 1, columns[-1])),
    ]
    if call.operator in ("aten.addmm", "aten.baddbmm"):
        parts.append((call.reach("self"), call.shape("self")))
    return salted(merge(parts, call.output.ndim), call.salt)


@rule(*FUSED_ATTENTION)
def attention(call: Call) -> tuple[Reach, ...]:
    """Join each query with all keys and values of its window."""
    query, key, value = (call.reach(name) for name in ("query", "key", "value"))
    for name, reach in (("key", key), ("value", value)):
        if reach.tracked(-2) and call.grows(name, reach.low.ndim - 2):
            raise Refused(GLOBAL_ATTENTION)
    keys, values, queries = call.shape("key"), call.shape("value"), call.shape("query")
    parts = [
        (fold(query, [-1]), (*queries[:-1], 1)),
        (fold(key, [-1, -2]), (*keys[:-2], 1, 1)),
        (fold(value, [-1, -2]), (*values[:-2], 1, 1)),
    ]
    for name in ("attn_mask", "attn_bias"):
        if call.arguments.get(name) is not None:
            mask = call.reach(name)
            if mask.tracked(-1):
                refuse_growing(call, name, mask, [mask.low.ndim - 1])
            parts.append((fold(mask, [-1]), (*call.shape(name)[:-1], 1)))
    ndim = call.output.ndim
    output = salted(merge(parts, ndim), call.salt)
    uneven = Reach(output.low, output.high, output.mark, (False,) * ndim)
    collapsed = fold(uneven, list(range(ndim)))
    others = [
        Reach(
            collapsed.low.reshape((1,) * other.ndim),
            collapsed.high.reshape((1,) * other.ndim),
            collapsed.mark.reshape((1,) * other.ndim),
            (False,) * other.ndim,
        )
        for other in call.outputs[1:]
    ]
    return uneven, *others


def flattened(call: Call) -> bool:
    """Whether a failed product met the flattened image: its sides fit one image size only."""
    first, _ = MATRICES[call.operator]
    return call.reaches[call.index(call[first])].tracked(-1)
