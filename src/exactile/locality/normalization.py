"""Normalisations: local where their statistics are stored, or taken over channels only.

Batch norm in evaluation is a linear map per channel. Layer norm joins the normalised (last)
dimensions. Group norm, and batch norm with statistics of the batch (instance norm lowers to it),
take their statistics over all positions.
"""

from __future__ import annotations

from exactile.locality.reach import Reach, constant, fold, number, salted
from exactile.locality.reduction import refuse_growing
from exactile.locality.refusal import Refused
from exactile.locality.registry import Call, rule

BATCH = (
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_functional",
    "_native_batch_norm_legit_no_training",
    "cudnn_batch_norm",
    "miopen_batch_norm",
    "_batch_norm_no_update",
    "_batch_norm_with_update",
    "_batch_norm_with_update_functional",
    "batch_norm",
)
WITH_BATCH_STATISTICS = ("aten._batch_norm_with_update", "aten._batch_norm_with_update_functional")


def rest(call: Call) -> tuple[Reach, ...]:
    """Return the reach of the saved statistics, which evaluation never reads."""
    return tuple(
        constant(tuple(output.shape), number("statistics"), even=False)
        for output in call.outputs[1:]
    )


@rule(*BATCH)
def batch_norm(call: Call) -> tuple[Reach, ...]:
    """Scale and shift each channel by stored numbers."""
    if call.arguments.get("training") or call.operator in WITH_BATCH_STATISTICS:
        raise Refused(
            "it normalises with statistics of the image itself (instance norm, or batch norm "
            "without stored statistics); use batch norm with running statistics, in eval mode"
        )
    return salted(call.reach("input"), call.salt), *rest(call)


@rule("native_layer_norm", "layer_norm", "_fused_rms_norm", "rms_norm")
def layer_norm(call: Call) -> tuple[Reach, ...]:
    """Join the normalised dimensions, the last ones."""
    reach = call.reach("input")
    count = len(call["normalized_shape"])
    dims = list(range(call.output.ndim - count, call.output.ndim))
    refuse_growing(call, "input", reach, dims)
    normalised = salted(fold(reach, dims), call.salt)
    even = tuple(flag and dim not in dims for dim, flag in enumerate(normalised.even))
    output = Reach(normalised.low, normalised.high, normalised.mark, even)
    return output, *(output for _ in call.outputs[1:])


@rule("native_group_norm", "group_norm")
def group_norm(call: Call) -> tuple[Reach, ...]:
    """Refuse statistics over positions."""
    reach = call.reach("input")
    if any(reach.tracked(dim) for dim in range(1, reach.low.ndim)):
        raise Refused(
            "group norm takes its statistics over all positions; use batch norm, or a layer norm "
            "over channels only"
        )
    return salted(reach, call.salt), *rest(call)
