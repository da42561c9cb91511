from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from partition_cases import Case
from partition_ranks import Ranks, parts_of
from torch import Tensor, nn

from exactile.partition import LostRank, Mesh, partition

CUTS = ((0, 24, 48), (0, 16, 40))


def counted(group: dist.ProcessGroup, backward: bool) -> dict[tuple[str, str], tuple[int, int]]:
    """Return bytes and messages received for each module and operator."""
    case = Case("unet", (48, 40), (2, 2), CUTS, batch=2)
    mesh = Mesh(case.mesh, group)
    image = case.image()[(..., *parts_of(CUTS, mesh.coordinate))].requires_grad_(backward)
    made: Tensor = partition(case.make(), mesh)(image)
    if backward:
        made.sum().backward()
    totals: dict[tuple[str, str], tuple[int, int]] = {}
    for entry in mesh.journal.exchanges:
        name = entry.operator.replace("torch.nn.functional.", "")
        place = entry.module.split(" ")[0], name
        received, messages = totals.get(place, (0, 0))
        totals[place] = received + entry.received, messages + entry.messages
    return totals


def least(place: tuple[int, int], level: int, channels: int) -> int:
    """Return the bytes that a 3 x 3 same convolution must get: its box less the own one."""
    grown = own = 1
    for cuts, at in zip(CUTS, place, strict=True):
        start, stop = cuts[at] >> level, cuts[at + 1] >> level
        own *= stop - start
        grown *= min(stop + 1, cuts[-1] >> level) - max(start - 1, 0)
    return (grown - own) * channels * 2 * 8


def test_each_layer_receives_the_bytes_it_must_and_no_more(ranks: Ranks) -> None:
    places = [(0, 0), (0, 1), (1, 0), (1, 1)]
    for place, totals in zip(places, ranks.run(counted, 4, False), strict=True):
        expected = {
            "down.0.0": least(place, 0, 1),
            "down.1.0": least(place, 1, 2),
            "down.2.0": least(place, 2, 4),
            "merge.1.0": least(place, 1, 8),
            "merge.0.0": least(place, 0, 4),
        }
        received = {module: bytes_ for (module, _), (bytes_, _) in totals.items() if bytes_}
        assert received == expected
        # One message along each axis: the corners come with the second.
        assert all(messages == 2 for (_, operator), (_, messages) in totals.items() if operator)


def test_gradients_go_back_over_the_same_planes(ranks: Ranks) -> None:
    made = ranks.run(counted, 4, True)
    there = sum(b for t in made for (_, name), (b, _) in t.items() if name == "conv2d")
    back = sum(b for t in made for (_, name), (b, _) in t.items() if name == "backward of conv2d")
    assert there == back > 0


class Deadly(nn.Module):
    """Ends the process of one rank as if it were killed for memory."""

    def __init__(self, rank: int, victim: int, backward: bool) -> None:
        super().__init__()
        self.dies, self.backward = rank == victim, backward

    def forward(self, x: Tensor) -> Tensor:
        if not self.dies:
            return x
        if not self.backward:
            os.kill(os.getpid(), signal.SIGKILL)
        x.local.register_hook(lambda _: os.kill(os.getpid(), signal.SIGKILL))  # type: ignore[attr-defined]
        return x


def killed(group: dist.ProcessGroup, victim: int, backward: bool) -> tuple[str, float]:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 1, 3, padding=1), nn.InstanceNorm2d(1)]
    network = nn.Sequential(*layers, Deadly(group.rank(), victim, backward), *layers)
    image = torch.randn(1, 1, 8, 4, requires_grad=True)
    start = time.monotonic()
    with pytest.raises(LostRank) as caught:
        partition(network, Mesh((4, 1), group))(image).sum().backward()
    return str(caught.value), time.monotonic() - start


@pytest.mark.parametrize(
    ("victim", "backward"), [(3, False), pytest.param(1, True, marks=pytest.mark.slow)]
)
def test_when_a_rank_is_killed_the_others_end_soon_and_name_it(
    tmp_path: Path, victim: int, backward: bool
) -> None:
    ranks = Ranks(4, tmp_path, seconds=8)
    try:
        for rank, made in enumerate(ranks.errors(killed, 4, victim, backward)):
            if rank == victim:
                assert isinstance(made, EOFError)
                continue
            message, seconds = made
            assert f"failed on rank {rank}: rank {victim} lost" in message
            assert "conv2d" in message or "instance_norm" in message
            # The timeout of the group, and the wait for words.
            assert seconds < 8 + 6
    finally:
        ranks.stop()
