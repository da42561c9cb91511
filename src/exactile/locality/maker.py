"""Which operator made a tensor's values: the one before all that only move them.

A network that ends in a sigmoid gives probabilities, also where a slice, a view or an up-sampling
follows, and where other branches are computed after it.
"""

from __future__ import annotations

from collections.abc import Sequence

MOVING = frozenset(
    f"aten.{name}"
    for name in (
        *("_reshape_alias", "_to_copy", "_unsafe_view", "alias", "as_strided", "as_strided_"),
        *("clamp", "clamp_max", "clamp_min"),
        *("cat", "chunk", "clone", "constant_pad_nd", "contiguous", "copy", "detach", "expand"),
        *("flatten", "flip", "index_select", "permute", "pixel_shuffle", "reshape", "roll"),
        *("select", "select_scatter", "slice", "slice_scatter", "split", "split_with_sizes"),
        *("squeeze", "stack", "transpose", "unbind", "unflatten", "unsqueeze", "view"),
        *("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d"),
        *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"),
        *("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"),
    )
)
"""Operators that hand values on as they are, values between them, or the nearest in a range."""

UNKNOWN = "none"
"""The maker of weights, and of the image itself."""


def maker(operator: str, makers: Sequence[str]) -> str:
    """Return what made the values of a call's output; `makers` made those of its tensors.

    Where several tensors are put together, that is their common maker, if they have one.
    """
    if operator not in MOVING or not makers:
        return operator
    # A copy takes nothing but the shape from the tensor that it overwrites.
    moved = set(makers[1:] if operator == "aten.copy" else makers)
    return moved.pop() if len(moved) == 1 else operator
