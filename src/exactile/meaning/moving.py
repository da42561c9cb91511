"""Operators that hand values on: as they are, values between them, or some of several."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from exactile.locality.registry import Call
from exactile.meaning.registry import Known, rule
from exactile.meaning.values import (
    SHARES,
    UNKNOWN,
    Values,
    clipped,
    hull,
    in_type,
    point,
)

MOVED = (
    *("_reshape_alias", "_unsafe_view", "alias", "as_strided", "chunk", "clone", "contiguous"),
    *("detach", "diagonal", "expand", "expand_as", "flatten", "flip", "lift_fresh_copy"),
    *("movedim", "permute", "pixel_shuffle", "pixel_unshuffle", "repeat", "repeat_interleave"),
    *("reshape", "roll", "rot90", "select", "slice", "split", "split_with_sizes", "squeeze", "t"),
    *("tile", "transpose", "unbind", "unflatten", "unsqueeze", "view", "narrow", "channel_shuffle"),
    *("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d"),
    *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "channel_shuffle"),
    *("reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "unfold"),
    *("replication_pad1d", "replication_pad2d", "replication_pad3d", "sort"),
    *("gather", "index", "index_select", "take", "take_along_dim", "_unsafe_index"),
)
"""Operators of which each value is one of their first argument's."""

NAMED = frozenset(f"aten.{name}" for name in MOVED)


def _first(call: Call, known: Known) -> Values:
    return known.of(call.tensors[0])


@rule(*(name for name in MOVED if name != "sort"))
def moved(call: Call, known: Known) -> tuple[Values, ...]:
    """Each value is one of the first argument's."""
    return (_first(call, known),) * len(call.outputs)


@rule("embedding")
def looked_up(call: Call, known: Known) -> Values:
    """Each value is one of the table's: numbers that stand for something else."""
    return known.of(call["weight"]).bounds()


@rule("_to_copy")
def cast(call: Call, known: Known) -> Values:
    """Hand the values on in another type."""
    tensor = call.tensors[0]
    return in_type(known.of(tensor), tensor.dtype, call.output.dtype)


@rule(
    *(
        "upsample_linear1d",
        "upsample_bilinear2d",
        "upsample_trilinear3d",
        "_upsample_bilinear2d_aa",
    ),
    *("mean", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_avg_pool1d"),
    *("adaptive_avg_pool2d", "adaptive_avg_pool3d"),
)
def between(call: Call, known: Known) -> Values:
    """Each value lies between some of the argument's."""
    return replace(_first(call, known), numbers=False)


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d", "grid_sampler_2d", "grid_sampler_3d")
def between_with_zeros(call: Call, known: Known) -> Values:
    """Do the same with zeros at the edges."""
    if call.arguments.get("divisor_override") is not None or call.arguments.get(
        "interpolation_mode"
    ) not in (None, 0, 1):
        return UNKNOWN
    values = replace(_first(call, known), numbers=False)
    return replace(hull(values, point(0)), free=values.free, logarithms=values.logarithms)


@rule("constant_pad_nd")
def padded(call: Call, known: Known) -> Values:
    """Join the argument's values and the one that is put around them."""
    values = known.of(call["self"])
    mixed = hull(values, point(float(call["value"])))
    return replace(mixed, free=values.free, numbers=values.numbers, logarithms=values.logarithms)


@rule("im2col", "max_unpool2d", "max_unpool3d", "tril", "triu")
def with_zeros(call: Call, known: Known) -> Values:
    """Join the argument's values and zeros."""
    return replace(hull(_first(call, known), point(0)), logarithms=0)


@rule("cat", "stack")
def joined(call: Call, known: Known) -> Values:
    """Join the values of all arguments; logarithms of parts are not those of a whole."""
    return replace(hull(*(known.of(tensor) for tensor in call.tensors)), logarithms=0)


@rule("where")
def chosen(call: Call, known: Known) -> Values:
    """Join the values of two arguments."""
    if call.arguments.get("self") is None or call.arguments.get("other") is None:
        return UNKNOWN
    return hull(known.of(call["self"]), known.of(call["other"]))


@rule("masked_fill", "index_fill", "fill")
def filled(call: Call, known: Known) -> Values:
    """Join the argument's values and another one."""
    if call.operator == "aten.fill":
        return known.of(call["value"])
    return hull(known.of(call["self"]), known.of(call["value"])).bounds()


@rule("copy", "copy_")
def copied(call: Call, known: Known) -> Values:
    """Hand on the values of the source, in the type of what they are written over."""
    source = call["src"]
    before = getattr(source, "dtype", None)
    return in_type(known.of(source), before, call.output.dtype)


@rule("slice_scatter", "select_scatter", "diagonal_scatter", "as_strided_scatter")
def put(call: Call, known: Known) -> Values:
    """Join the values of both arguments."""
    return hull(known.of(call["self"]), known.of(call["src"]))


@rule("scatter", "masked_scatter", "index_put", "index_copy")
def put_at(call: Call, known: Known) -> Values:
    """Join the argument's values and those put among them; sums and products are not known."""
    if call.arguments.get("reduce") is not None or call.arguments.get("accumulate"):
        return UNKNOWN
    names = ("src", "value", "source", "values")
    given = [call.arguments[name] for name in names if call.arguments.get(name) is not None]
    return hull(known.of(call["self"]), *(known.of(each) for each in given)).bounds()


@rule("max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool2d")
def largest_around(call: Call, known: Known) -> tuple[Values, ...]:
    """Values of the argument; and places in the image, which mean nothing of a class."""
    return replace(_first(call, known), logarithms=0), UNKNOWN


@rule("amax", "amin", "maximum", "minimum", "fmax", "fmin")
def largest(call: Call, known: Known) -> Values:
    """Bound the largest, or the least, of some of the values."""
    parts = [known.of(tensor) for tensor in call.tensors]
    return _largest_of(parts, call.operator in ("aten.amax", "aten.maximum", "aten.fmax"))


def _largest_of(parts: list[Values], greatest: bool) -> Values:
    if len(parts) == 1:
        return replace(parts[0], logarithms=0)
    pick = max if greatest else min
    return Values(
        pick(part.low for part in parts),
        pick(part.high for part in parts),
        all(part.free for part in parts),
    )


@rule("max", "min", "topk", "sort", "mode", "median", "kthvalue", "cummax", "cummin")
def with_places(call: Call, known: Known) -> tuple[Values, ...]:
    """Hand on some of the values, and the places that they had."""
    if len(call.outputs) == 1:
        parts = [known.of(tensor) for tensor in call.tensors]
        return (_largest_of(parts, call.operator == "aten.max"),)
    kept = replace(_first(call, known), logarithms=0)
    return kept, _places(call, call.outputs[0].ndim)


@rule("argmax", "argmin", "argsort")
def places(call: Call, known: Known) -> Values:
    """Which channel is the largest, the least, or so."""
    return _places(call, call["self"].ndim)


def _places(call: Call, rank: int) -> Values:
    dim: Any = call.arguments.get("dim")
    if not isinstance(dim, int) or call["self"].ndim == 0:
        return UNKNOWN
    return Values(0.0, float(call["self"].shape[dim] - 1), numbers=True)


@rule("full", "full_like", "new_full", "scalar_tensor")
def one_value(call: Call, known: Known) -> Values:
    """Give the number that is everywhere."""
    value = call.arguments.get("fill_value", call.arguments.get("s"))
    return known.of(value)


@rule("zeros", "zeros_like", "new_zeros")
def zeros(call: Call, known: Known) -> Values:
    """Zero, everywhere."""
    return point(0)


@rule("ones", "ones_like", "new_ones")
def ones(call: Call, known: Known) -> Values:
    """One, everywhere."""
    return point(1)


@rule("clamp", "clamp_min", "clamp_max", "hardtanh", "relu", "relu6", "clip")
def clamped(call: Call, known: Known) -> Values:
    """Values kept within bounds, which may be tensors."""
    values = _first(call, known)
    low, high = {
        "aten.relu": (0.0, None),
        "aten.relu6": (0.0, 6.0),
        "aten.hardtanh": (call.arguments.get("min_val"), call.arguments.get("max_val")),
    }.get(call.operator, (call.arguments.get("min"), call.arguments.get("max")))
    if low is None and high is None:
        return values
    least = UNKNOWN if low is None else known.of(low)
    most = UNKNOWN if high is None else known.of(high)
    low_end = least.low if low is not None else -float("inf")
    high_end = most.high if high is not None else float("inf")
    result = clipped(values, low_end, high_end)
    # What is cut far from 0 on one side keeps its sign and its meaning.
    return replace(result, free=values.free and result.low < -1 and result.high > 1)


@rule("heaviside")
def step(call: Call, known: Known) -> Values:
    """0, 1, or the value at 0."""
    return hull(SHARES, known.of(call["values"]))


@rule("nan_to_num")
def without_nan(call: Call, known: Known) -> Values:
    """Join the values and what stands for NaN."""
    values = known.of(call["self"])
    nan = call.arguments.get("nan")
    return replace(hull(values, point(0.0 if nan is None else nan)), free=values.free)


@rule("dropout", "alpha_dropout", "feature_dropout", "native_dropout", "rrelu_with_noise")
def quiet(call: Call, known: Known) -> tuple[Values, ...]:
    """In evaluation nothing is done; only what does nothing is traced this far."""
    values = _first(call, known)
    others = (UNKNOWN,) * (len(call.outputs) - 1)
    return (values if call.operator != "aten.rrelu_with_noise" else UNKNOWN, *others)
