"""Reductions and scans over dimensions: sums, means, norms, extrema, softmax.

Along a reduced dimension every output depends on every position. That is local over channels, and
over the inside of a window of fixed size; over a dimension that grows with the image it is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from exactile.locality.reach import Reach, fold, salted
from exactile.locality.refusal import Refused
from exactile.locality.registry import Call, rule
from exactile.locality.reshaping import reshape

REDUCTIONS = (
    "sum",
    "mean",
    "nansum",
    "prod",
    "amax",
    "amin",
    "aminmax",
    "max",
    "min",
    "argmax",
    "argmin",
    "any",
    "all",
    "var",
    "std",
    "var_mean",
    "std_mean",
    "norm",
    "linalg_vector_norm",
    "logsumexp",
    "median",
)
ALONG = (
    "_softmax",
    "_log_softmax",
    "_safe_softmax",
    "softmax",
    "log_softmax",
    "cumsum",
    "cumprod",
    "sort",
    "topk",
    "glu",
)
GLOBAL = {
    "aten.mean": "it averages over all positions (global pooling, squeeze-and-excitation)",
    "aten.amax": "it takes the maximum over all positions (global pooling)",
    "aten.max": "it takes the maximum over all positions (global pooling)",
    "aten._softmax": "it is a softmax over all positions (attention over the image)",
    "aten._safe_softmax": "it is a softmax over all positions (attention over the image)",
    "aten._log_softmax": "it is a softmax over all positions (attention over the image)",
}


def reduced_dims(call: Call, ndim: int) -> list[int]:
    """Return the dimensions that the call reduces; all where it names none."""
    given = call.arguments.get("dim")
    if given is None or (not isinstance(given, int) and len(given) == 0):
        return list(range(ndim))
    dims: Sequence[int] = [given] if isinstance(given, int) else given
    return [dim % ndim for dim in dims] if ndim else []


def refuse_growing(call: Call, name: str, reach: Reach, dims: Sequence[int]) -> None:
    """Refuse to join positions along a dimension that grows with the image."""
    if any(reach.tracked(dim) and call.grows(name, dim) for dim in dims):
        what = GLOBAL.get(call.operator, "it reduces over all positions of the image")
        raise Refused(
            f"{what}, so every output depends on the whole image; use a reduction over channels "
            "or over a window of fixed size"
        )


@rule(*REDUCTIONS)
def reduction(call: Call) -> tuple[Reach, ...]:
    """Join all positions along the reduced dimensions."""
    reach, sizes = call.reach("self"), call.shape("self")
    dims = reduced_dims(call, len(sizes))
    refuse_growing(call, "self", reach, dims)
    folded = salted(fold(reach, dims), call.salt)
    single = tuple(1 if dim in dims else side for dim, side in enumerate(sizes))
    return tuple(reshape(folded, single, output.shape) for output in call.outputs)


@rule(*ALONG)
def along(call: Call) -> tuple[Reach, ...]:
    """Every position along the dimension depends on all positions along it."""
    reach, sizes = call.reach("self"), call.shape("self")
    dims = reduced_dims(call, len(sizes))
    refuse_growing(call, "self", reach, dims)
    folded = salted(fold(reach, dims), call.salt)
    even = tuple(flag and dim not in dims for dim, flag in enumerate(folded.even))
    return tuple(replace(folded, even=even) for _ in call.outputs)
