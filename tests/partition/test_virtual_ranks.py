"""Parts that take turns in one process against processes of their own, and against the whole."""

from __future__ import annotations

import errno
import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from partition_cases import Case, Outcome, partitioned_pass, whole_pass
from partition_ranks import Ranks, parts_of
from torch import Tensor, UntypedStorage, nn

from exactile.errors import OutputError
from exactile.partition import NotPartitioned, PartitionError, SplitTensor, distribute, partition
from exactile.partition.paging import Pager, Paging
from exactile.partition.shelf import FileShelf, HostShelf, Shelf
from exactile.partition.turns import Turns
from exactile.partition.virtual import VirtualMesh, run_in_turns


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the ranks of the tests have: sums of several threads have another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def virtual_pass(case: Case, pager: Pager | None = None) -> list[Outcome]:
    """Return what `partitioned_pass` does, of parts that take turns."""
    network, image = case.make(), case.image()
    turns = Turns(torch.Size(case.mesh).numel())
    pager = pager or Pager(2**62, HostShelf())

    def act(mesh: VirtualMesh) -> Outcome:
        with Paging(pager, turns.check), case.run():
            part = image[(..., *parts_of(case.all_cuts(), mesh.coordinate))].clone()
            made = partition(network, mesh).split(distribute(part, mesh))
            local, box = made, tuple(slice(0, side) for side in made.shape)
            if isinstance(made, SplitTensor):
                local, box = made.local, made.box.slices[1:]
            return Outcome(pager.release(local.clone()), box, None, {}, {})

    with torch.inference_mode():
        return run_in_turns(case.mesh, act, turns)


def joined(case: Case, parts: list[Outcome]) -> Tensor:
    shape = [max(part.box[axis].stop for part in parts) for axis in range(len(case.extent) + 2)]
    whole = torch.full(shape, torch.nan, dtype=case.dtype)
    for part in parts:
        whole[part.box] = part.output
    return whole


@pytest.mark.parametrize(
    "case",
    [
        Case("unet", (36, 28), (3,), ((0, 5, 21, 28),), fixed=True),
        Case("unet3d", (8, 12, 8), (2, 2, 1), fixed=True),
        Case("residual", (34, 30), (4,), ((0, 4, 9, 9, 30),)),
        Case("squeeze", (31, 23), (3,)),
        Case("volume", (7, 12, 9), (2, 1, 2)),
    ],
    ids=lambda c: f"{c.network}-{c.mesh}",
)
def test_parts_that_take_turns_have_the_bits_of_as_many_processes(ranks: Ranks, case: Case) -> None:
    case = Case(**{**vars(case), "dtype": torch.float32, "gradients": False})
    expected = ranks.run(partitioned_pass, torch.Size(case.mesh).numel(), case)
    for given, wanted in zip(virtual_pass(case), expected, strict=True):
        assert given.box == wanted.box
        assert torch.equal(given.output, wanted.output)


@pytest.mark.parametrize(
    "case",
    [
        Case("residual", (16, 18), (1,)),
        Case("residual", (24, 18), (2, 4)),
        Case("squeeze", (5, 21), (8,)),
        Case("unet", (12, 16), (6,), ((0, 0, 1, 7, 7, 16, 16),)),
        Case("unet3d", (8, 8, 8), (2, 2, 2)),
        Case("volume", (4, 5, 6), (5,), ((0, 1, 1, 3, 4, 6),)),
    ],
    ids=lambda c: f"{c.network}-{c.mesh}",
)
def test_one_to_eight_parts_some_of_them_empty_give_the_whole_pass(case: Case) -> None:
    case = Case(**{**vars(case), "gradients": False})
    expected = whole_pass(case).output
    given = joined(case, virtual_pass(case))
    assert float((given - expected).abs().max() / expected.abs().max()) < 1e-12


@pytest.mark.parametrize("name", ["unet", "residual"])
@pytest.mark.parametrize("kind", ["file", "host"])
def test_what_is_put_away_and_brought_back_has_the_same_bits(
    tmp_path: Path, name: str, kind: str
) -> None:
    case = Case(name, (288, 256), (3,), dtype=torch.float32, gradients=False, fixed=True)
    free = Pager(2**62, HostShelf())
    expected = joined(case, virtual_pass(case, free))
    shelf: Shelf = FileShelf(tmp_path) if kind == "file" else HostShelf()
    tight = Pager(free.peak // 8, shelf)
    assert torch.equal(joined(case, virtual_pass(case, tight)), expected)
    assert free.moved == 0
    assert tight.moved > free.peak
    assert tight.peak < 0.6 * free.peak
    shelf.close()
    assert not any(tmp_path.iterdir())


def test_memory_that_is_counted_is_given_back_when_tensors_are_gone(tmp_path: Path) -> None:
    shelf = FileShelf(tmp_path)
    pager = Pager(2**18, shelf)
    with torch.inference_mode(), Paging(pager, lambda: None):
        kept = [torch.arange(2**16) + i for i in range(8)]
        view = kept[0].view(256, 256)[3]
        # arange and the sum: 512 kB each, two at hand at most beside what is read.
        assert pager.resident <= 2**20 + 2**19
        assert [int(t[5]) for t in kept] == [*range(5, 13)]
        assert int(view[0]) == 3 * 256
        del kept, view
    gc.collect()
    assert pager.resident == 0
    shelf.close()


def test_places_of_a_file_are_used_again(tmp_path: Path) -> None:
    shelf = FileShelf(tmp_path)

    def storage(value: int, length: int) -> UntypedStorage:
        return torch.full((length,), value, dtype=torch.uint8).untyped_storage()

    places = [shelf.put(storage(i, 1000)) for i in range(4)]
    shelf.drop(places[1])
    target = UntypedStorage(1000)
    shelf.take(places[2], target)
    assert bytes(target.tolist()) == bytes([2]) * 1000
    # What a killed process leaves is nothing: the file has no name.
    assert not any(tmp_path.iterdir())
    # The two freed runs lie side by side.
    assert shelf.put(storage(9, 1500)) == places[1]
    assert shelf.put(storage(8, 600)) == 4000
    shelf.close()


def test_a_full_disk_ends_all_parts_with_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    shelf = FileShelf(tmp_path)
    case = Case("unet", (256, 256), (3,), dtype=torch.float32, gradients=False)
    with pytest.raises(OutputError, match=r"No space left on device; make room"):
        virtual_pass(case, Pager(1, shelf))
    shelf.close()
    assert not [t.name for t in threading.enumerate() if t.name.startswith("part ")]


class Undecided(nn.Module):
    """Calls what has no rule."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft(x).real


def test_an_operator_without_a_rule_is_refused_by_name() -> None:
    case = Case(Undecided(), (8, 8), (2,), gradients=False)
    with pytest.raises(NotPartitioned, match=r"fft.* in model \(Undecided\)"):
        virtual_pass(case)


def test_networks_are_not_trained_in_turns() -> None:
    with pytest.raises(PartitionError, match=r"call eval\(\)"):
        virtual_pass(Case("unet", (8, 8), (2,), training=True, gradients=False))


class Exportable(nn.Module):
    """Operators whose overloads have other parameters than Python's functions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.norms = nn.Sequential(nn.BatchNorm2d(4), nn.InstanceNorm2d(4), nn.GroupNorm(2, 4))
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.greatest = nn.AdaptiveMaxPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norms(self.first(x))
        maxima, _ = nn.functional.max_pool2d(x, 3, 1, 1, return_indices=True)
        both = self.up(x) + nn.functional.interpolate(maxima, scale_factor=2.0)
        gate = x.mean((-2, -1), keepdim=True) + self.greatest(x)
        return torch.cat([both[:, 1:3], both[:, 3:]], -3)[:, :, 2:-2, ::2] * gate[:, 1:]


def test_an_exported_program_runs_by_the_rules_of_its_functions() -> None:
    image = torch.randn(1, 1, 12, 16)
    sides = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.export.export(Exportable().eval(), (image,), dynamic_shapes=(sides,)).module()

    def act(mesh: VirtualMesh) -> tuple[Any, Tensor]:
        part = image[:, :, :5] if mesh.rank == 0 else image[:, :, 5:]
        made = partition(program, mesh).split(distribute(part, mesh, [2]))
        return made.box.slices, made.local

    with torch.inference_mode():
        expected = Exportable().eval()(image)
        for place, part in run_in_turns((2,), act):
            # Values are up to 20; what sums in another order change was measured: 3e-7 of that.
            assert float((part - expected[place]).abs().max() / expected.abs().max()) < 1e-6
