"""Which numbers of an operator call may follow from the image's size, and which may not.

Sizes say where an operator takes its values: where a slice ends, what a view looks like, how far a
pad goes, to which size a map is brought. The reach of the call shows whether that is alike in a
window and in the whole image. Every other number is a part of the function that the operator
computes: it must be the same number in every run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

PADS = (
    *("constant_pad_nd", "pad"),
    *("reflection_pad1d", "reflection_pad2d", "reflection_pad3d"),
    *("replication_pad1d", "replication_pad2d", "replication_pad3d"),
)
VIEWS = ("view", "_unsafe_view", "reshape", "_reshape_alias", "expand", "as_strided", "as_strided_")
MADE = (
    *("zeros", "ones", "full", "empty", "empty_strided"),
    *("new_zeros", "new_ones", "new_full", "new_empty", "new_empty_strided"),
)
RESIZED = (
    *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"),
    *("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d"),
    *("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d"),
    *("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
    *("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_avg_pool1d"),
    *("adaptive_max_pool2d", "adaptive_max_pool3d"),
    *("max_unpool2d", "max_unpool3d", "col2im"),
)

FROM_SIZES: Mapping[str, frozenset[str]] = {
    f"aten.{operator}": frozenset(names)
    for operators, names in (
        (("slice", "slice_scatter"), ("start", "end")),
        (("select", "select_scatter"), ("index",)),
        (("split", "unsafe_split"), ("split_size",)),
        (("split_with_sizes", "unsafe_split_with_sizes"), ("split_sizes",)),
        (PADS, ("pad", "padding")),
        (VIEWS, ("size", "shape", "stride", "storage_offset")),
        (MADE, ("size", "stride")),
        (("repeat",), ("repeats",)),
        (RESIZED, ("output_size",)),
        (("native_group_norm",), ("N", "HxW")),
        (("arange",), ("end",)),
        (("linspace", "logspace"), ("steps",)),
    )
    for operator in operators
}
"""The arguments, by operator, that say where values lie and may therefore follow from sizes.

The entries of a grid of coordinates are told apart by the grid's length."""


def numbers(operator: str, arguments: Mapping[str, Any]) -> tuple[object, ...]:
    """Return all that a call is given beside tensors and sizes, in the order of its schema.

    Lists of tensors are known by their length.
    """
    sizes = FROM_SIZES.get(operator, frozenset())
    return tuple(tuple(_plain(value)) for name, value in arguments.items() if name not in sizes)


def _plain(value: object) -> Iterator[object]:
    if isinstance(value, (list, tuple)):
        yield len(value)
        for item in value:
            yield from _plain(item)
    elif isinstance(value, torch.Tensor):
        yield "tensor"
    else:
        yield repr(value)
