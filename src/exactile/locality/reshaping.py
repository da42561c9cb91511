"""Reshaping a reach: which dimensions of a view belong together, and what moves between them.

The two shapes are cut into the smallest blocks of neighbouring dimensions with equal products:

    (2, 6, 8, 8) -> (2, 2, 3, 64)      blocks  (2)->(2)   (6)->(2, 3)   (8, 8)->(64)

A block whose positions are not told apart stays as it is, under a mark of its own where its
elements get other places. In any other block every element is told apart, reshaped, and dimensions
along which all elements turn out to be the same are closed again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod

from exactile.locality.reach import Reach, number, salted, spread


def blocks(old: Sequence[int], new: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the dimensions of `old` and of `new` that make up one block, in order."""
    taken, made = 0, 0
    while taken < len(old) or made < len(new):
        before: list[int] = []
        after: list[int] = []
        left = right = 1
        while True:
            if taken < len(old) and (not before or left < right):
                left *= old[taken]
                before.append(taken)
                taken += 1
            elif made < len(new) and (not after or right < left):
                right *= new[made]
                after.append(made)
                made += 1
            else:
                break
        yield before, after


def reshape(reach: Reach, old: Sequence[int], new: Sequence[int]) -> Reach:
    """Return the reach of a tensor of shape `old` viewed in shape `new` (same element order)."""
    sides: list[int] = []
    even: list[bool] = []
    opened: list[int] = []
    moved: list[tuple[int, list[int], list[int]]] = []
    for before, after in blocks(old, new):
        same = all(reach.even[dim] or old[dim] == 1 for dim in before)
        if any(reach.tracked(dim) for dim in before):
            for dim in before:
                reach = spread(reach, dim, old[dim])
            opened += after
            sides += [new[dim] for dim in after]
            even += [new[dim] == 1 for dim in after]
        else:
            sides += [1] * len(after)
            even += [same or new[dim] == 1 for dim in after]
            inner = inside([old[d] for d in before]), inside([new[d] for d in after])
            if not same and inner[0] != inner[1]:
                moved.append((len(sides), *inner))
    assert prod(sides) == reach.low.size, "blocks have equal products"
    viewed = replace(
        reach,
        low=reach.low.reshape(sides),
        high=reach.high.reshape(sides),
        mark=reach.mark.reshape(sides),
        even=tuple(even),
    )
    for dim in opened:
        viewed = closed(viewed, dim)
    return salted(viewed, number("viewed", moved)) if moved else viewed


def inside(sides: Sequence[int]) -> list[int]:
    """Return the sides but the first, which may grow with the image, and those that are 1."""
    return [side for side in sides if side > 1][1:]


def closed(reach: Reach, dim: int) -> Reach:
    """Describe `dim` as one fibre again if all positions along it hold the same value."""
    if not reach.tracked(dim):
        return reach
    first = (slice(None),) * dim + (slice(0, 1),)
    if not all(
        bool((array == array[first]).all()) for array in (reach.low, reach.high, reach.mark)
    ):
        return reach
    return replace(
        reach,
        low=reach.low[first],
        high=reach.high[first],
        mark=reach.mark[first],
        even=tuple(flag or d == dim for d, flag in enumerate(reach.even)),
    )
