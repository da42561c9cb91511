"""What a rank needs is its share of what one process needs."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from partition_cases import Case, compared, partitioned_pass
from partition_memory import MESHES, Peak, Task, bound, measure, peaks
from partition_ranks import Ranks

from exactile.partition import Mesh, windows


def needed(group: dist.ProcessGroup, task: Task, ranks: int) -> Peak:
    return measure(task, Mesh(MESHES[ranks], group))


def test_a_rank_trains_with_its_share_of_the_tensors(ranks: Ranks) -> None:
    task = Task((32, 32, 32), 4, training=True)
    (whole,) = ranks.run(needed, 1, task, 1)
    for part in ranks.run(needed, 2, task, 2):
        assert part.tensors <= bound(whole, part, 2)


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_the_peak_of_each_rank_is_within_its_share_and_the_halos(training: bool) -> None:
    task = Task((96, 96, 96), 4, training)
    (whole,) = peaks(task, 1)
    for ranks in (2, 4):
        for part in peaks(task, ranks):
            assert part.tensors <= bound(whole, part, ranks)


def in_slabs(group: dist.ProcessGroup, case: Case) -> object:
    before = windows.SLAB_BYTES, windows.SLAB_BYTES_IN_TRAINING
    windows.SLAB_BYTES = windows.SLAB_BYTES_IN_TRAINING = 1
    try:
        return partitioned_pass(group, case)
    finally:
        windows.SLAB_BYTES, windows.SLAB_BYTES_IN_TRAINING = before


class Slabbed(Ranks):
    """Ranks that convolve in the thinnest slabs."""

    def __init__(self, ranks: Ranks) -> None:
        self.pipes, self.processes = ranks.pipes, ranks.processes

    def run(self, function: object, size: int, *arguments: object) -> list[object]:  # type: ignore[override]
        return super().run(in_slabs, size, *arguments)


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("name", ["unet3d", "mixed", "residual"])
def test_a_convolution_in_slabs_gives_the_values_of_one_process(
    ranks: Ranks, name: str, gradients: bool
) -> None:
    extent, mesh = ((32, 8, 8), (2, 2, 1)) if name == "unet3d" else ((70, 31), (2, 2))
    cuts = None if name == "unet3d" else ((0, 41, 70), (0, 13, 31))
    if name == "residual":
        extent, cuts = (70, 30), ((0, 41, 70), (0, 13, 30))
    case = Case(name, extent, mesh, cuts, gradients=gradients)
    assert max(compared(Slabbed(ranks), case).values()) < 1e-12


def test_in_a_fixed_order_of_sums_slabs_do_not_change_bits(ranks: Ranks) -> None:
    case = Case("unet", (128, 96), (2, 2), dtype=torch.float32, gradients=False, fixed=True)
    assert compared(Slabbed(ranks), case)["output"] == 0
