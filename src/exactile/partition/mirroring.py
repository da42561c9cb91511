"""Mirror images and quarter turns, also of split axes: a rank fetches what it shows mirrored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from exactile.geometry import Interval
from exactile.partition.exchange import fetch
from exactile.partition.layout import Wanted
from exactile.partition.registry import rule
from exactile.partition.shape import transpose
from exactile.partition.tensor import SplitTensor, wrap


@rule("flip")
def flip(func: Any, input: Tensor, dim: Sequence[int] | int) -> Tensor:
    """Reverse the positions of dimensions; position p reads n - 1 - p."""
    assert isinstance(input, SplitTensor), "the first argument of a function of one is split"
    dims = [dim] if isinstance(dim, int) else list(dim)
    local = input.local
    for at in dims:
        split = input.splits[at]
        if split is None:
            continue
        mirrored = [Interval(split.extent - p.stop, split.extent - p.start) for p in split.parts]
        wanted = [Wanted((part,) if part.length else ()) for part in mirrored]
        local = fetch(local, at % input.dim(), input.mesh, split, wanted)
    return wrap(local.flip(dims), input.splits, input.mesh)


@rule("fliplr")
def flip_second(func: Any, input: Tensor) -> Tensor:
    """Reverse the second dimension."""
    return flip(func, input, 1)


@rule("flipud")
def flip_first(func: Any, input: Tensor) -> Tensor:
    """Reverse the first dimension."""
    return flip(func, input, 0)


@rule("rot90")
def quarter_turns(func: Any, input: Tensor, k: int = 1, dim: Sequence[int] = (0, 1)) -> Tensor:
    """Turn from the first of two dimensions towards the second."""
    assert isinstance(input, SplitTensor), "the first argument of a function of one is split"
    first, second = dim
    if k % 4 == 0:
        return wrap(input.local.clone(), input.splits, input.mesh)
    if k % 4 == 2:
        return flip(func, input, [first, second])
    if k % 4 == 1:
        return transpose(func, flip(func, input, second), first, second)
    return flip(func, transpose(func, input, first, second), second)
