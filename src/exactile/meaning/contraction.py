"""Operators that add up products: convolutions, and products of matrices.

Weights of both signs make features of any sign, whatever they are put on. Weights of one sign are
averages, smoothings and the like, which keep the bounds of what they are put on.
"""

from __future__ import annotations

from math import inf

import torch
from torch._subclasses.fake_tensor import FakeTensor

from exactile.locality.registry import Call
from exactile.meaning.registry import Known, rule
from exactile.meaning.values import FREE, Values, added, hull, multiplied, of_constant, point


@rule("convolution", "_convolution", "convolution_overrideable")
def convolution(call: Call, known: Known) -> Values:
    """Bound sums of products with weights, and a bias."""
    weight: torch.Tensor = call["weight"]
    if isinstance(weight, FakeTensor):
        return FREE
    transposed = bool(call.arguments.get("transposed"))
    flat = weight.detach().to(torch.float64).flatten(1)
    above, below = flat.clamp(min=0).sum(1), flat.clamp(max=0).sum(1)
    if bool(((above > 0) & (below < 0)).any()) or (transposed and of_constant(weight).signed):
        return FREE
    values = known.of(call["input"])
    if transposed or any(call["padding"]):
        # At the edges, and between the steps, some products are missing.
        values = Values(min(values.low, 0.0), max(values.high, 0.0), values.free)
    if transposed:
        ends = multiplied(values, of_constant(weight))
        sums = Values(-inf if ends.low < 0 else 0.0, inf if ends.high > 0 else 0.0, values.free)
    else:
        channels = [
            added(multiplied(values, point(a)), multiplied(values, point(b)))
            for a, b in zip(above.tolist(), below.tolist(), strict=True)
        ]
        sums = hull(*channels)
    return _with_bias(sums, call.arguments.get("bias"), known)


@rule("mm", "bmm", "addmm", "baddbmm", "matmul", "linear", "mv", "addmv", "dot")
def matrices(call: Call, known: Known) -> Values:
    """Bound sums of products of two matrices, and what is added to them."""
    plus = call.arguments.get("bias")
    if call.operator in ("aten.addmm", "aten.baddbmm", "aten.addmv"):
        plus = call["self"]
    first, second = [tensor for tensor in call.tensors if tensor is not plus][-2:]
    one, two = known.of(first), known.of(second)
    if one.signed or two.signed:
        return FREE
    product, count = multiplied(one, two), first.shape[-1]
    sums = Values(
        product.low * count if product.low else 0.0, product.high * count if product.high else 0.0
    )
    return _with_bias(sums, plus, known)


def _with_bias(sums: Values, bias: object, known: Known) -> Values:
    total = sums if bias is None else added(sums, known.of(bias))
    return Values(total.low, total.high, sums.free or total.signed)
