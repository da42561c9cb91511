"""Brute force: what a network really depends on, found by running it on tiny images.

All arithmetic is on small whole numbers in float64, where every sum is exact in any order. Results
can be compared for equality, whatever kernel computes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from exactile.locality import Analysis
from exactile.locality.reach import NOTHING, fold
from exactile.locality.tracer import trace


@pytest.fixture(autouse=True)
def single_thread() -> Iterator[None]:
    """Use one thread in every test of a module that imports this: the tensors are tiny."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Function(nn.Module):
    """A function as a module, with submodules that it may call."""

    def __init__(self, function: Callable[..., torch.Tensor], *parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.parts = nn.ModuleList(parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x, *self.parts)


def whole_numbers(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every weight a value of -1, 1 or 2, in float64, and batch norms the identity."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.tensor([-1.0, 1.0, 1.0, 2.0], dtype=torch.float64)
    module = module.double().eval()
    with torch.no_grad():
        for weight in module.parameters():
            picks = torch.randint(0, 4, weight.shape, generator=generator)
            weight.copy_(values[picks])
    return module


def image(channels: int, extent: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-4, 5, (1, channels, *extent), generator=generator).double()


def dependencies(
    module: nn.Module, channels: int, extent: tuple[int, ...], axis: int
) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Return matrix [output position, input position] of what NaN at an input position reaches."""
    dim = 2 + axis
    found = []
    with torch.no_grad():
        for place in range(extent[axis]):
            poisoned = image(channels, extent)
            poisoned.select(dim, place).fill_(torch.nan)
            hit = torch.isnan(module(poisoned))
            found.append(hit.movedim(dim, 0).flatten(1).any(1).numpy())
    return np.stack(found, 1)


def check_hulls(
    module: nn.Module, channels: int, extent: tuple[int, ...], axis: int, *, tight: bool = True
) -> None:
    """The traced hull of every output position holds all that reaches it; nothing more if tight."""
    run = trace(module, channels, extent, axis)
    assert run.reach is not None, run.refusals
    assert not run.refusals, run.refusals
    dim = 2 + axis
    folded = fold(run.reach, [d for d in range(run.reach.low.ndim) if d != dim])
    real = dependencies(module, channels, extent, axis)
    low = np.broadcast_to(folded.low.ravel(), len(real))
    high = np.broadcast_to(folded.high.ravel(), len(real))
    for position, row in enumerate(real):
        places = np.flatnonzero(row)
        if len(places) == 0:
            assert not tight or low[position] == NOTHING
            continue
        claimed = (int(low[position]), int(high[position]))
        actual = (int(places[0]), int(places[-1]))
        assert claimed[0] <= actual[0], (position, claimed, actual)
        assert claimed[1] >= actual[1], (position, claimed, actual)
        if tight:
            assert claimed == actual, (position, claimed, actual)


def check_marks(module: nn.Module, channels: int, extent: tuple[int, ...], axis: int) -> None:
    """Positions with equal marks compute one function of the input relative to their `low`."""
    run = trace(module, channels, extent, axis)
    assert run.reach is not None
    dim = 2 + axis
    folded = fold(run.reach, [d for d in range(run.reach.low.ndim) if d != dim])
    low, mark = folded.low.ravel(), folded.mark.ravel()
    first = image(channels, extent, 1)
    with torch.no_grad():
        before = module(first)
        for shift in range(-extent[axis] + 1, extent[axis]):
            here, there = np.nonzero(
                (mark[:, None] == mark[None, :])
                & (low[:, None] != NOTHING)
                & (low[None, :] - low[:, None] == shift)
            )
            if len(here) == 0:
                continue
            # The shifted image differs wherever the first one has nothing to put.
            second = image(channels, extent, 2)
            length = extent[axis] - abs(shift)
            second.narrow(dim, max(shift, 0), length).copy_(
                first.narrow(dim, max(-shift, 0), length)
            )
            after = module(second)
            assert torch.equal(
                before.index_select(dim, torch.from_numpy(here)),
                after.index_select(dim, torch.from_numpy(there)),
            ), shift


def tiled(module: nn.Module, analysis: Analysis, whole: torch.Tensor) -> torch.Tensor:
    """Run one zone of F at a time in windows of one shape, moved inwards at the edges.

    The output of each window is placed by `scale`, in positions of the output's own origin.
    """
    extent = whole.shape[2:]
    with torch.no_grad():
        expected = module(whole)
        result = torch.full_like(expected, torch.nan)
        choices = []
        for axis, side in enumerate(extent):
            located = analysis.locality.axes[axis]
            window = min(side, located.alignment + located.halo.total)
            step = int(located.alignment * analysis.scale[axis])
            axis_choices = []
            for index in range(-(-expected.shape[2 + axis] // step)):
                start = index * located.alignment - located.halo.low
                start = max(0, min(start, side - window))
                shift = int(start * analysis.scale[axis])
                stop = min((index + 1) * step, expected.shape[2 + axis])
                axis_choices.append((slice(start, start + window), index * step, stop, shift))
            choices.append(axis_choices)
        for combination in product(*choices):
            part = module(whole[(..., *(window for window, _, _, _ in combination))])
            zone = tuple(slice(start, stop) for _, start, stop, _ in combination)
            inside = tuple(
                slice(start - shift, stop - shift) for _, start, stop, shift in combination
            )
            result[(..., *zone)] = part[(..., *inside)]
    return result


def check_tiles(module: nn.Module, analysis: Analysis, channels: int, periods: int = 4) -> None:
    """Tiles at the claimed halo give the whole image's result exactly."""
    extent = tuple(axis.alignment * periods + axis.halo.total for axis in analysis.locality.axes)
    whole = image(channels, extent, 3)
    with torch.no_grad():
        assert torch.equal(tiled(module, analysis, whole), module(whole))
