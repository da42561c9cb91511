"""Operators that are known to give a value the same bits wherever it lies, by engine.

Claims of bits rest on these lists. An operator that is in none of them may be just as stable, but
nobody has looked: then the claim is "to rounding", with what the check measured.

    moved        values are handed on, compared or chosen: no arithmetic at all
    rounded      one rounded operation for each value, or one of a fixed number in a fixed order
    functions    approximations; whether a vector's lanes and its remainder agree is measured
    sums         of a fixed order, for the parameters that `_is_known` admits

Measured on random offsets, sizes, layouts and numbers of threads, with neighbours that are huge,
infinite or NaN, on a CPU with AVX-512. Eager PyTorch on a CPU computes in `exactile.fixed_order`; a
GPU computes element by element, and its sums were not measured: they are listed with eager's, and
the check of two windows is what is known of them. torch.compile makes loops of its own, whose
remainders approximate otherwise. OpenVINO was seen to add in another order in transposed
convolutions whose kernel is not their stride, and in a network with dilated ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from exactile.engine import EngineName
from exactile.locality.dry_run import without_data

TYPES = (torch.float32, torch.bfloat16)
"""Floating types that were measured."""

MOVED = frozenset(
    (
        *("alias", "as_strided", "cat", "chunk", "clone", "constant_pad_nd", "contiguous", "copy"),
        *("detach", "expand", "flip", "im2col", "index", "index_select", "lift_fresh", "permute"),
        *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle", "pad"),
        *("reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "repeat", "reshape", "roll"),
        *("replication_pad1d", "replication_pad2d", "replication_pad3d", "select", "slice", "t"),
        *("select_scatter", "slice_scatter", "split", "split_with_sizes", "squeeze", "stack"),
        *("transpose", "unbind", "unfold", "unsafe_split", "unsafe_split_with_sizes", "unsqueeze"),
        *("view", "_reshape_alias", "_to_copy", "_unsafe_view", "unsafe_chunk", "numpy_T"),
        *("empty_like", "fill", "full_like", "new_empty", "new_full", "new_ones", "new_zeros"),
        *("ones_like", "zero", "zeros_like", "dropout", "feature_dropout", "native_dropout"),
        *("abs", "neg", "sign", "sgn", "relu", "relu6", "hardtanh", "threshold", "hardshrink"),
        *("clamp", "clamp_max", "clamp_min", "maximum", "minimum", "fmax", "fmin", "nan_to_num"),
        *("amax", "amin", "argmax", "argmin", "max", "min", "where", "masked_fill", "copysign"),
        *("eq", "ge", "gt", "le", "lt", "ne", "isfinite", "isinf", "isnan", "isneginf"),
        *("isposinf", "logical_and", "logical_not", "logical_or", "logical_xor", "any", "all"),
        *("bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "ceil", "floor", "round"),
        *("trunc", "heaviside", "signbit"),
        *("max_pool1d", "max_pool2d", "max_pool3d", "max_unpool2d", "max_unpool3d"),
        *("max_pool2d_with_indices", "max_pool3d_with_indices"),
        *("adaptive_max_pool2d", "adaptive_max_pool3d"),
        *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"),
        *(f"_upsample_nearest_exact{axes}d" for axes in (1, 2, 3)),
    )
)
ROUNDED = frozenset(
    (
        *("add", "sub", "mul", "div", "rsub", "true_divide", "reciprocal", "square", "sqrt"),
        *("leaky_relu", "_prelu_kernel", "prelu", "hardswish", "hardsigmoid", "softshrink"),
        *("native_batch_norm", "_native_batch_norm_legit_no_training", "frac"),
    )
)
MEASURED_FUNCTIONS = frozenset(
    (
        *("elu", "erf", "exp", "gelu", "log", "log_sigmoid_forward", "mish", "rsqrt", "sigmoid"),
        *("silu", "softplus", "sin", "cos", "tanh"),
    )
)
"""Functions that both eager PyTorch and OpenVINO were measured with."""

EAGER_FUNCTIONS = MEASURED_FUNCTIONS | frozenset(
    (
        *("acos", "acosh", "addcdiv", "addcmul", "asin", "asinh", "atan", "atan2", "atanh", "celu"),
        *("cosh", "erfc", "erfinv", "exp2", "expm1", "fmod", "glu", "hypot", "i0", "lerp", "log10"),
        *("log1p", "log2", "logaddexp", "logaddexp2", "logit", "pow", "remainder", "selu", "sinc"),
        *("sinh", "tan", "xlogy"),
    )
)
SUMS = frozenset(
    (
        *("convolution", "_convolution", "_softmax", "_log_softmax", "sum", "mean", "addmm", "mm"),
        *("avg_pool1d", "avg_pool2d", "avg_pool3d", "native_layer_norm"),
        *("_adaptive_avg_pool2d", "_adaptive_avg_pool3d"),
        *("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"),
        "upsample_bicubic2d",
    )
)
COMPILED_SUMS = SUMS - {"_softmax", "_log_softmax", "native_layer_norm"}

KNOWN: Mapping[EngineName, frozenset[str]] = {
    "eager": MOVED | ROUNDED | EAGER_FUNCTIONS | SUMS | {"col2im"},
    "openvino": MOVED | ROUNDED | MEASURED_FUNCTIONS | SUMS,
    "compile": MOVED | ROUNDED | COMPILED_SUMS,
}


class _Orders(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the operators on what comes from the image whose order is not known."""

    def __init__(self, engine: EngineName) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.engine = engine
        self.unknown: dict[str, None] = {}
        self.derived: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the operator on fake tensors, and note it."""
        result = func(*args, **(kwargs or {}))
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if not any(tensor in self.derived for tensor in given):
            return result
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        for tensor in (*made, *(given[:1] if func._schema.is_mutable else ())):
            self.derived[tensor] = True
        name = str(func.overloadpacket).removeprefix("aten.")
        plain = name.removesuffix("_") if func._schema.is_mutable else name
        if plain in MOVED or name.startswith(("prim.", "sym_")) or not made:
            return result
        others = {t.dtype for t in (*given, *made) if t.is_floating_point()}.difference(TYPES)
        if others or not _is_known(self.engine, plain, args, given):
            self.unknown[f"aten.{plain}"] = None
        return result


def _is_known(engine: EngineName, name: str, args: Sequence[Any], given: Sequence[Tensor]) -> bool:
    """Whether a call of operator `name` adds and rounds alike wherever a value lies."""
    if name not in KNOWN[engine]:
        return False
    if name in ("mm", "addmm"):
        # One row goes through another kernel than several.
        return given[-2].shape[0] > 1
    if name not in ("convolution", "_convolution") or engine == "eager":
        return True
    weight, stride, dilation, transposed = args[1], args[3], args[5], args[6]
    return max(dilation) == 1 and (not transposed or list(weight.shape[2:]) == list(stride))


def unknown_order(
    engine: EngineName, network: nn.Module, channels: int, sides: tuple[int, ...]
) -> tuple[str, ...]:
    """Return the operators of `network` whose order of arithmetic on `engine` is not known.

    It runs on a window (1, channels, *sides) without data: nothing is computed.
    """
    orders = _Orders(engine)
    with without_data(network, channels, sides) as image:
        orders.derived[image] = True
        with orders:
            network(image)
    return tuple(orders.unknown)
