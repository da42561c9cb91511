"""Normalisations: local where their statistics are stored, or taken over channels only.

Batch norm in evaluation is a linear map per channel: each channel's is another function, which
counts where channels are told apart because they carry the phases of a finer map. Layer norm joins
the normalised (last) dimensions. Group norm, and batch norm with statistics of the batch (instance
norm lowers to it), take their statistics over all positions.
"""

from __future__ import annotations

from collections.abc import Sequence

from exactile.locality.reach import Reach, constant, fold, merge, number, salted
from exactile.locality.reduction import refuse_growing
from exactile.locality.refusal import Refused
from exactile.locality.registry import Call, rule
from exactile.locality.reshaping import reshape

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


STORED = ("weight", "bias", "running_mean", "running_var")
"""What batch norm has for each channel, where it has it."""


def with_parameters(call: Call, image: Reach, dims: Sequence[int], names: Sequence[str]) -> Reach:
    """Join `image` with the parameters `names`, whose axes are the dimensions `dims` of the image.

    What varies along those dimensions is another function at each position of them.
    """
    shape = tuple(call.output.shape)
    sides = tuple(side if dim in dims else 1 for dim, side in enumerate(shape))
    given = [name for name in names if call.arguments.get(name) is not None]
    parts = [(image, shape)]
    parts += [(reshape(call.reach(name), call.shape(name), sides), sides) for name in given]
    return salted(merge(parts, len(shape)), call.salt)


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
    return with_parameters(call, call.reach("input"), [1], STORED), *rest(call)


@rule("native_layer_norm", "layer_norm", "_fused_rms_norm", "rms_norm")
def layer_norm(call: Call) -> tuple[Reach, ...]:
    """Join the normalised dimensions, the last ones."""
    reach = call.reach("input")
    count = len(call["normalized_shape"])
    dims = list(range(call.output.ndim - count, call.output.ndim))
    refuse_growing(call, "input", reach, dims)
    normalised = with_parameters(call, fold(reach, dims), dims, STORED[:2])
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
    return with_parameters(call, reach, [1], STORED[:2]), *rest(call)
