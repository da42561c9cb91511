"""Choosing the rule for one operator call, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._pytree import tree_leaves

from exactile.locality import (  # noqa: F401 - importing a family registers its rules
    convolution,
    indexing,
    joining,
    normalization,
    padding,
    pooling,
    reduction,
    shape,
    shuffling,
    upsampling,
)
from exactile.locality.constants import SIZELESS
from exactile.locality.contraction import MATRICES
from exactile.locality.maker import MOVING
from exactile.locality.pointwise import FILLED, pointwise
from exactile.locality.reach import Reach, constant, fold, merge, mix, number, salted
from exactile.locality.refusal import Refused
from exactile.locality.registry import RULES, Call, Reaches, Rule
from exactile.locality.run import Record

WRITES_IN_TRAINING = (
    torch.ops.aten.rrelu_with_noise.default,
    torch.ops.aten._native_batch_norm_legit.default,
)
"""Operators that write into an argument in training only."""

OVERWRITING = frozenset(f"aten.{name}" for name in (*FILLED, "fill"))
"""Operators that take the shape of a tensor and none of its values."""

NORMALIZATIONS = (normalization.batch_norm, normalization.group_norm)
"""Rules that refuse statistics of the image: those of weights are constants, whatever they are of.
"""

KNOWN_GLOBAL = {
    "aten._fft": (
        "it is a Fourier transform, and every frequency depends on all positions of the image; use "
        "convolutions"
    ),
    "aten.grid_sampler": (
        "it reads the image wherever a grid of coordinates says, so there is no bound on its "
        "reach; use a fixed up-sampling"
    ),
    "aten._native_multi_head_attention": (
        "it is attention over all positions, so every output depends on the whole image; use "
        "convolutions"
    ),
}
"""Operators without a rule that have a reason of their own."""


def bind(func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return all arguments of a call by name, with the schema's defaults."""
    bound: dict[str, Any] = {}
    for place, argument in enumerate(func._schema.arguments):
        if place < len(args):
            bound[argument.name] = args[place]
        else:
            bound[argument.name] = kwargs.get(argument.name, argument.default_value)
    return bound


def unusable(
    func: OpOverload, arguments: Mapping[str, Any], reaches: Sequence[Reach]
) -> str | None:
    """Return why an operator cannot be followed at all, where that is so."""
    # Operators with a dropout inside draw nothing where it is switched off.
    quiet = arguments.get("dropout_p") == 0.0 or arguments.get("training") is False
    if torch.Tag.nondeterministic_seeded in func.tags and not quiet:
        return "it draws random numbers, so no two runs agree; remove it in eval mode"
    reads = torch.Tag.data_dependent_output in func.tags or (
        torch.Tag.dynamic_output_shape in func.tags
    )
    if func is torch.ops.aten.index.Tensor:
        # Whole numbers select without a look at the image; only a mask decides the shape.
        reads = any(t is not None and t.dtype is torch.bool for t in arguments["indices"])
    if reads and not all(reach.constant for reach in reaches):
        return (
            "it reads values of the image (a decision or a shape that depends on the data), so "
            "what it does for a tile need not be what it does for the image; compute without it"
        )
    if reads and any(isinstance(tensor, FakeTensor) for tensor in tree_leaves(dict(arguments))):
        return (
            "it reads values that are computed from the image's size, so what it does for a tile "
            "need not be what it does for the image; compute without it"
        )
    return None


def circular(call: Call, before: Sequence[Record]) -> bool:
    """Whether a copy is a part of circular padding, which arrives as its parts only.

    Those are a new tensor, slices of it and of the image, and copies from slice to slice.
    """
    parts = [record.operator for record in before]
    while parts and parts[-1] in ("aten.slice", "aten.copy_"):
        parts.pop()
    return call.operator == "aten.copy_" and parts[-1:] == ["aten.new_empty"]


def rule_for(func: OpOverload, call: Call, before: Sequence[Record], harmless: bool) -> Rule:
    """Return the rule of an operator after the calls `before`; raise `Refused` without one."""
    if func._schema.is_mutable and not harmless:
        if circular(call, before):
            raise Refused(
                "circular padding reads the opposite edge of the image, so a tile gets other "
                "values there than the whole image; use padding with zeros, or padding_mode="
                "'reflect' or 'replicate'",
                operator="aten._pad_circular",
            )
        raise Refused(
            "it writes into a tensor out of sight of the tracing, so what that depends on is not "
            "known; compute a new tensor instead"
        )
    if torch.Tag.pointwise in func.tags:
        return pointwise
    known = RULES.get(call.operator)
    for prefix, reason in KNOWN_GLOBAL.items():
        if known is None and call.operator.startswith(prefix):
            raise Refused(reason)
    if all(reach.constant and not reach.positional for reach in call.reaches) and (
        known is None or call.operator in MATRICES or known in NORMALIZATIONS
    ):
        return constants
    if known is None:
        raise Refused(
            "this operator has no rule, so what it depends on is not known; replace it by one that "
            "has, or ask for a rule"
        )
    return known


def ruled(rule: Rule, call: Call) -> tuple[Reach, ...]:
    """Return what `rule` says of `call`, once it has looked at all that depends on the image.

    Raises `Refused` where the rule does, and where a tensor that it takes for a weight or a
    statistic depends on the image.
    """
    watched = replace(call, reaches=Reaches(call.reaches))
    made = rule(watched)
    unread = watched.reaches.unread()
    if unread and call.operator not in OVERWRITING:
        names = ", ".join(dict.fromkeys(call.name_of(place) for place in unread))
        raise Refused(
            f"its {names} depends on the image, so every output depends on all that it was "
            "computed from; use numbers that do not depend on the input"
        )
    return made if isinstance(made, tuple) else (made,)


def refuse_counts(func: OpOverload, call: Call) -> None:
    """Refuse to compute over a dimension that grows with the image but holds no positions of it.

    Such a dimension has as many entries as the size says: their sum would be the size.
    """
    if torch.Tag.pointwise in func.tags or call.operator in (*SIZELESS, *MOVING):
        return
    assert call.earlier is not None, "it is compared with an earlier run"
    for place, (tensor, before) in enumerate(zip(call.tensors, call.earlier, strict=True)):
        reach = call.reaches[place]
        if reach.constant or len(before) != tensor.ndim:
            continue
        if any(
            tensor.shape[dim] != side and not reach.tracked(dim) for dim, side in enumerate(before)
        ):
            raise Refused(
                f"it computes over as many entries of its {call.name_of(place)} as the image's "
                "size says, so a tile gets another value than the whole image; use a number of "
                "entries that does not depend on the size"
            )


def shapes_only(func: OpOverload, arguments: Mapping[str, Any]) -> Any:
    """Return an operator's fake result where its shapes are plain, else None.

    Fake tensors take a batch norm apart into a dozen operators, which is half of the time of a
    whole analysis; in evaluation its output has its input's shape.
    """
    if func is not torch.ops.aten.native_batch_norm.default or arguments["training"]:
        return None
    image, mean = arguments["input"], arguments["running_mean"]
    if mean is None or mean.shape[0] != image.shape[1]:
        return None
    return torch.empty_like(image), image.new_empty(0), image.new_empty(0)


def writes_nothing(func: OpOverload, arguments: Mapping[str, Any]) -> bool:
    """Whether an operator that may write in place leaves all values where they are."""
    if func is torch.ops.aten.as_strided_.default:
        tensor = arguments["self"]
        kept = [
            side == now and (side == 1 or stride == before)
            for side, now, stride, before in zip(
                arguments["size"], tensor.shape, arguments["stride"], tensor.stride(), strict=False
            )
        ]
        return (
            len(arguments["size"]) == tensor.ndim and all(kept) and not arguments["storage_offset"]
        )
    return func in WRITES_IN_TRAINING and arguments["training"] is False


def constants(call: Call) -> tuple[Reach, ...]:
    """Compute a constant from constants and scalars: its values may vary along any dimension."""
    scalars = [
        v for v in tree_leaves(dict(call.arguments)) if isinstance(v, (bool, int, float, str))
    ]
    mark = np.full(1, number(int(call.salt), scalars), np.uint64)
    for reach in call.reaches:
        mark = mix(mark, reach.mark.ravel())
    return tuple(constant(tuple(output.shape), mark[0], even=False) for output in call.outputs)


def joined(call: Call, output: torch.Tensor) -> Reach:
    """Return a reach to go on with after a refusal, so that later offenders are named, too.

    The verdict stands already. An output of an argument's shape takes the argument's place; any
    other depends on all that any argument depends on.
    """
    for tensor, reach in zip(call.tensors, call.reaches, strict=True):
        if tensor.shape == output.shape:
            return salted(reach, call.salt)
    if not call.tensors:
        return constant(tuple(output.shape), number("refused"), even=False)
    flat = []
    for reach in call.reaches:
        whole = fold(reach, list(range(reach.low.ndim)))
        flat.append(
            (Reach(whole.low.reshape(()), whole.high.reshape(()), whole.mark.reshape(()), ()), ())
        )
    merged = merge(flat, output.ndim)
    return Reach(merged.low, merged.high, merged.mark, (False,) * output.ndim)
