"""Statistics over an extent: as exact as float64, whatever the layout and the number of parts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from partition_ranks import parts_of
from torch import Tensor

from exactile.partition import SplitTensor, distribute, even_cuts
from exactile.partition.sums import DIGITS
from exactile.partition.virtual import VirtualMesh, run_in_turns

LAST_UNITS = 1e-6
"""Eight units in the last place of float32, relative to the greatest value."""

STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "group_norm": lambda x: F.group_norm(x, 2),
    "group_norm of all": lambda x: F.group_norm(x, 1),
    "instance_norm": F.instance_norm,
    "batch_norm": lambda x: F.batch_norm(x, None, None, None, None, True),
    "layer_norm": lambda x: F.layer_norm(x, x.shape[1:]),
    "mean": lambda x: x.mean((2, 3), keepdim=True),
    "sum": lambda x: x.sum((2, 3)),
    "var": lambda x: x.var((2, 3)),
    "std": lambda x: x.std(dim=(0, 2, 3)),
    "norm": lambda x: x.norm(dim=(2, 3)),
    "norm of differences": lambda x: (x - x.mean((2, 3), keepdim=True)).norm(p=1, dim=(2, 3)),
    "vector_norm": lambda x: torch.linalg.vector_norm(x, 3, (2, 3)),
    "normalize": lambda x: F.normalize(x, dim=2),
    "softmax": lambda x: x.softmax(2),
    "logsumexp": lambda x: x.logsumexp((2, 3)),
    "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, 1),
    "adaptive_avg_pool2d to windows": lambda x: F.adaptive_avg_pool2d(x, (2, 3)),
    "avg_pool2d": lambda x: F.avg_pool2d(x, x.shape[2:]),
}


def in_parts(made: Callable[[Tensor], Tensor], x: Tensor, mesh: tuple[int, ...]) -> Tensor:
    """Return what a function gives of parts, put together."""
    cuts = [even_cuts(side, count) for side, count in zip(x.shape[2:], mesh, strict=True)]

    def act(own: VirtualMesh) -> Tensor:
        return made(distribute(x[(..., *parts_of(cuts, own.coordinate))], own))

    with torch.inference_mode():
        parts = run_in_turns(mesh, act)
    if not isinstance(parts[0], SplitTensor):
        return parts[0]
    whole = torch.empty(parts[0].shape, dtype=parts[0].dtype)
    for part in parts:
        assert isinstance(part, SplitTensor)
        whole[part.box.slices] = part.local
    return whole


def distance(given: Tensor, exact: Tensor) -> float:
    """Return the greatest difference, relative to the greatest value."""
    return float((given.double() - exact).abs().max() / exact.abs().max())


def image(side: int, channels: int, mean: float, spread: float, *, channels_last: bool) -> Tensor:
    generator = torch.Generator().manual_seed(side)
    x = torch.randn((1, channels, side, side + 1), generator=generator) * spread + mean
    return x.contiguous(memory_format=torch.channels_last) if channels_last else x


@pytest.mark.parametrize(
    ("mean", "spread", "channels_last"),
    [(1.0, 0.3, True), (1000.0, 0.5, False)],
    ids=["channels_last", "contiguous, far from zero"],
)
@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_are_those_of_float64_in_any_number_of_parts(
    name: str, mean: float, spread: float, channels_last: bool
) -> None:
    x = image(160, 4, mean, spread, channels_last=channels_last)
    exact = STATISTICS[name](x.double())
    given = [in_parts(STATISTICS[name], x, mesh) for mesh in ((1, 1), (2, 1), (5, 3))]
    for each in given:
        assert each.dtype == torch.float32
        assert distance(each, exact) < LAST_UNITS
        assert distance(each, given[0].double()) < LAST_UNITS


@pytest.mark.parametrize("name", ["group_norm", "instance_norm", "batch_norm", "layer_norm"])
def test_statistics_of_bfloat16_are_rounded_once_at_their_end(name: str) -> None:
    x = image(192, 4, 3.0, 0.5, channels_last=True).bfloat16()
    exact = STATISTICS[name](x.double())
    for mesh in ((1, 1), (3, 2)):
        given = in_parts(STATISTICS[name], x, mesh)
        assert float((given.double() - exact).abs().max()) < 2**-8 * float(exact.abs().max())


def test_sums_of_float64_keep_the_digits_that_are_promised() -> None:
    x = image(300, 2, 1e6, 1.0, channels_last=True).double()
    rows = x.flatten(2)
    for mesh in ((1, 1), (4, 3)):
        variance = in_parts(lambda x: x.var((2, 3), correction=0), x, mesh)
        apart = rows - rows.mean(-1, keepdim=True)
        assert distance(variance, apart.square().mean(-1)) < DIGITS
        assert distance(in_parts(STATISTICS["sum"], x, mesh), rows.sum(-1)) < DIGITS


@pytest.mark.slow
@pytest.mark.parametrize("name", ["group_norm", "batch_norm", "layer_norm", "softmax", "norm"])
def test_statistics_of_sixteen_million_positions_are_those_of_float64(name: str) -> None:
    x = image(4096, 2, 1.0, 0.3, channels_last=True)
    exact = STATISTICS[name](x.double())
    for mesh in ((1, 1), (2, 2)):
        assert distance(in_parts(STATISTICS[name], x, mesh), exact) < LAST_UNITS
