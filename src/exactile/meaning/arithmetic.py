"""Operators that compute a value of each value, or of two, or that add some of them up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import erf, inf, prod

import numpy as np
import torch

from exactile.locality.registry import Call
from exactile.meaning.moving import NAMED
from exactile.meaning.registry import RULES, Known, rule
from exactile.meaning.values import (
    FREE,
    SHARES,
    UNKNOWN,
    Values,
    added,
    hull,
    inverted,
    multiplied,
    negated,
    point,
    rising,
)

DEEPEST = 6
"""How many calls two tensors are followed back to see that they are made alike."""


def _logistic(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


RISING: dict[str, Callable[[float], float]] = {
    "sigmoid": _logistic,
    "special_expit": _logistic,
    "tanh": np.tanh,
    "atan": np.arctan,
    "arctan": np.arctan,
    "exp": np.exp,
    "exp2": np.exp2,
    "special_exp2": np.exp2,
    "expm1": np.expm1,
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "erf": erf,
    "special_ndtr": lambda x: (1 + erf(x / 2**0.5)) / 2,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.round,
    "trunc": np.trunc,
    "sign": np.sign,
    "softplus": lambda x: float(np.logaddexp(0, x)),
    "log_sigmoid": lambda x: float(-np.logaddexp(0, -x)),
    "log_sigmoid_forward": lambda x: float(-np.logaddexp(0, -x)),
    "hardsigmoid": lambda x: min(max(x / 6 + 0.5, 0.0), 1.0),
}
"""Functions that never fall, by their operators. What has no value somewhere is unbounded there."""

KEEP_SIGN = {
    "leaky_relu": -inf,
    "prelu": -inf,
    "_prelu_kernel": -inf,
    "elu": -inf,
    "celu": -inf,
    "selu": -inf,
    "asinh": -inf,
    "silu": -0.3,
    "gelu": -0.2,
    "mish": -0.4,
    "hardswish": -0.4,
}
"""Functions of the sign of their argument and no bound above, with a bound below."""


def _rising(function: Callable[[float], float]) -> Callable[[Call, Known], tuple[Values, ...]]:
    def apply(call: Call, known: Known) -> tuple[Values, ...]:
        values = known.of(call.tensors[0])
        return (rising(values, function), *(UNKNOWN,) * (len(call.outputs) - 1))

    return apply


for _name, _function in RISING.items():
    RULES[f"aten.{_name}"] = _rising(_function)


@rule(*KEEP_SIGN)
def sign_kept(call: Call, known: Known) -> Values:
    """Both signs stay, and large values stay large."""
    values = known.of(call.tensors[0])
    slope = call.arguments.get("negative_slope", call.arguments.get("weight"))
    if slope is not None and known.of(slope).low < 0:
        return UNKNOWN
    if values.low >= 0:
        return Values(0.0, inf)
    return Values(KEEP_SIGN[call.operator.removeprefix("aten.")], inf, values.free)


@rule("add", "sub", "rsub")
def sum_of_two(call: Call, known: Known) -> Values:
    """Bound self + alpha * other, and its turns."""
    alpha = point(float(call.arguments.get("alpha") or 1))
    first, second = known.of(call["self"]), known.of(call["other"])
    if call.operator == "aten.rsub":
        first, second = second, first
    second = multiplied(second, alpha)
    return added(first, second if call.operator == "aten.add" else negated(second))


@rule("neg")
def other_sign(call: Call, known: Known) -> Values:
    """-x."""
    return negated(known.of(call["self"]))


@rule("mul")
def product(call: Call, known: Known) -> Values:
    """Bound the product of two, or the square of one."""
    if _alike(call["self"], call["other"], known):
        return _square(known.of(call["self"]))
    return multiplied(known.of(call["self"]), known.of(call["other"]))


@rule("div", "true_divide")
def quotient(call: Call, known: Known) -> Values:
    """One by another; a part of a sum of what is not negative lies from 0 to 1."""
    first = known.of(call["self"])
    if call.arguments.get("rounding_mode") is not None:
        return UNKNOWN
    if first.low >= 0 and _adds_up(call["other"], call["self"], known):
        return SHARES
    second = known.of(call["other"])
    if second.low <= 0 <= second.high and (second.low, second.high) != (0, second.high):
        return UNKNOWN
    found = multiplied(first, inverted(second))
    return replace(found, free=first.free and found.signed)


@rule("reciprocal")
def reciprocal(call: Call, known: Known) -> Values:
    """1 / x."""
    return inverted(known.of(call["self"]))


@rule("rsqrt")
def inverse_root(call: Call, known: Known) -> Values:
    """1 / sqrt(x)."""
    return inverted(rising(known.of(call["self"]), np.sqrt))


@rule("abs", "linalg_vector_norm", "norm", "var", "std", "cosh")
def not_negative(call: Call, known: Known) -> Values:
    """Nothing below 0."""
    values = known.of(call["self"])
    most = max(abs(values.low), abs(values.high)) if call.operator == "aten.abs" else inf
    return Values(0.0, most)


@rule("square")
def squared(call: Call, known: Known) -> Values:
    """Bound x * x."""
    return _square(known.of(call["self"]))


def _square(values: Values) -> Values:
    ends = [values.low * values.low, values.high * values.high]
    return Values(0.0 if values.signed else min(ends), max(ends))


@rule("pow")
def power(call: Call, known: Known) -> Values:
    """Bound x ** n for numbers n."""
    base, exponent = call.arguments.get("self"), call.arguments.get("exponent")
    if not isinstance(exponent, (int, float)) or not isinstance(base, torch.Tensor):
        return UNKNOWN
    values = known.of(base)
    if values.low >= 0 and exponent > 0:
        return rising(values, lambda x: float(x**exponent))
    if values.low >= 0 and exponent < 0:
        return inverted(rising(values, lambda x: float(x**-exponent)))
    return _square(values) if exponent == 2 else UNKNOWN


@rule("_softmax", "softmax", "_safe_softmax")
def softmax(call: Call, known: Known) -> Values:
    """Shares of 1."""
    return SHARES


@rule("_log_softmax", "log_softmax")
def log_softmax(call: Call, known: Known) -> Values:
    """Logarithms of shares of 1."""
    dim = call.arguments["dim"]
    return Values(-inf, 0.0, logarithms=int(call["self"].shape[dim]))


@rule("sum", "nansum", "cumsum")
def total(call: Call, known: Known) -> Values:
    """Bound sums over some axes: of so many values, along channels, at every size."""
    values = known.of(call["self"])
    if call.operator == "aten.cumsum":
        count = call["self"].shape[call["dim"]]
        return hull(values, _times(values, count)).bounds()
    return _times(values, call["self"].numel() // max(call.output.numel(), 1))


def _times(values: Values, count: int) -> Values:
    return Values(
        values.low * count if values.low else 0.0,
        values.high * count if values.high else 0.0,
        values.free,
    )


@rule("prod", "cumprod")
def product_of_all(call: Call, known: Known) -> Values:
    """Products of shares are shares."""
    values = known.of(call["self"])
    return SHARES if values.low >= 0 and values.high <= 1 else UNKNOWN


@rule("lerp")
def mixed(call: Call, known: Known) -> Values:
    """Bound self + weight * (end - self)."""
    first, second = known.of(call["self"]), known.of(call["end"])
    weight = known.of(call["weight"])
    return hull(first, second).bounds() if weight.within_one else UNKNOWN


@rule("addcmul")
def added_product(call: Call, known: Known) -> Values:
    """Bound self + value * tensor1 * tensor2."""
    value = point(float(call.arguments.get("value", 1)))
    two = multiplied(known.of(call["tensor1"]), known.of(call["tensor2"]))
    return added(known.of(call["self"]), multiplied(two, value))


@rule("threshold")
def above(call: Call, known: Known) -> Values:
    """Bound values above a threshold, and the number that stands for the others."""
    return hull(known.of(call["self"]), point(float(call["value"]))).bounds()


@rule("sin", "cos")
def waves(call: Call, known: Known) -> Values:
    """From -1 to 1."""
    return Values(-1.0, 1.0)


@rule("native_batch_norm", "_native_batch_norm_legit_no_training", "native_group_norm")
@rule("_native_batch_norm_legit", "native_layer_norm", "instance_norm", "layer_norm")
@rule("cudnn_batch_norm", "batch_norm", "group_norm", "_batch_norm_no_update")
def normalized(call: Call, known: Known) -> tuple[Values, ...]:
    """Features about a mean."""
    return (FREE, *(UNKNOWN,) * (len(call.outputs) - 1))


def _alike(first: object, second: object, known: Known, depth: int = DEEPEST) -> bool:
    """Whether two arguments are one: the same tensor, or made alike of the same."""
    if first is second:
        return True
    if not isinstance(first, torch.Tensor) or not isinstance(second, torch.Tensor):
        return not isinstance(first, torch.Tensor) and first == second and first is not None
    one, two = known.maker(first), known.maker(second)
    if one is None or two is None or depth == 0 or one.operator != two.operator:
        return False
    if [t is first for t in one.outputs] != [t is second for t in two.outputs]:
        return False
    return all(
        one.arguments[name] is two.arguments[name]
        or _alike(one.arguments[name], two.arguments[name], known, depth - 1)
        for name in one.arguments
    )


def _adds_up(whole: object, part: object, known: Known) -> bool:
    """Whether `whole` is a sum that `part`, which is not negative, is among, or a little more."""
    for _ in range(DEEPEST):
        if not isinstance(whole, torch.Tensor) or (call := known.maker(whole)) is None:
            return False
        if call.operator == "aten.sum":
            return prod(call.output.shape) > 0 and _alike(call["self"], part, known)
        more = call.operator == "aten.add" and known.of(call.arguments.get("other")).low >= 0
        least = call.operator in ("aten.clamp_min", "aten.clamp") and (
            call.arguments.get("max") is None
        )
        if not (call.operator in NAMED or more or least):
            return False
        whole = call.tensors[0]
    return False
