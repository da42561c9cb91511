"""The ranks of a process group as a grid, one axis of it for each split axis of a volume.

Ranks are counted along the last axis first. A mesh of shape (2, 3):

                axis 1 ->
    axis 0   | rank 0  rank 1  rank 2
             v rank 3  rank 4  rank 5

The engine beneath is torch.distributed: gloo on CPUs, NCCL on GPUs, whatever the group has. Each
wait that fails ends in `LostRank`, which names the ranks that did not answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import reduce
from math import prod
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import Store

from exactile.partition.journal import Journal
from exactile.partition.loss import Witness
from exactile.partition.refusal import PartitionError

Result = TypeVar("Result")

ORDERED_BYTES = 2**20
"""Larger sums over ranks, which are those of gradients of wide layers, are left to the library,
whose order depends on the number of ranks."""


def check_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of a mesh.

    Raises:
        PartitionError: if it is none.
    """
    shape = tuple(shape)
    if not shape or min(shape) < 1:
        raise PartitionError(
            f"mesh {shape}: give at least one axis, and at least 1 rank along each"
        )
    return shape


def reduced(parts: Sequence[Tensor], operation: dist.ReduceOp.RedOpType) -> Tensor:
    """Return the reduction of `parts`, one of each rank, from the first to the last."""
    combine: dict[Any, Callable[[Tensor, Tensor], Tensor]] = {
        dist.ReduceOp.SUM: lambda a, b: a + b,
        dist.ReduceOp.MAX: lambda a, b: a.maximum(b),
        dist.ReduceOp.MIN: lambda a, b: a.minimum(b),
    }
    return reduce(combine[operation], parts)


class Mesh:
    """A grid of ranks; every rank of `group` must make it, with the same shape.

    Raises:
        PartitionError: if there is no process group, or its size is not that of the grid.
    """

    def __init__(self, shape: Sequence[int], group: dist.ProcessGroup | None = None) -> None:
        self.shape = check_shape(shape)
        if not dist.is_initialized():
            raise PartitionError(
                "there is no process group; start the program with torchrun and call "
                "torch.distributed.init_process_group first"
            )
        self.group = group or dist.group.WORLD
        self.ranks = dist.get_process_group_ranks(self.group)
        if len(self.ranks) != prod(self.shape):
            raise PartitionError(
                f"mesh {self.shape} has {prod(self.shape)} ranks but the process group has "
                f"{len(self.ranks)}; start as many processes as the mesh has ranks"
            )
        self.rank = dist.get_rank(self.group)
        self.coordinate = self.coordinate_of(self.rank)
        self.journal = Journal()
        self._witness = Witness(self.ranks, self.rank)
        self._lines = tuple(self._line(axis) for axis in range(len(self.shape)))

    def coordinate_of(self, rank: int) -> tuple[int, ...]:
        """Return where a rank, counted from 0 in the group, lies."""
        made: list[int] = []
        for side in reversed(self.shape):
            rank, place = divmod(rank, side)
            made.insert(0, place)
        return tuple(made)

    def _line(self, axis: int) -> dist.ProcessGroup | None:
        """Return the group of the ranks that differ from this one along `axis` only."""
        if self.shape[axis] == len(self.ranks):
            return self.group
        lines: dict[tuple[int, ...], list[int]] = {}
        for rank, name in enumerate(self.ranks):
            coordinate = self.coordinate_of(rank)
            lines.setdefault(coordinate[:axis] + coordinate[axis + 1 :], []).append(name)
        if self.shape[axis] == 1:
            return None
        # Every rank takes part in the making of all groups, in the same order.
        groups: dict[tuple[int, ...], dist.ProcessGroup] = {
            key: dist.new_group(names, use_local_synchronization=False)
            for key, names in sorted(lines.items())
        }
        return groups[self.coordinate[:axis] + self.coordinate[axis + 1 :]]

    @property
    def divided(self) -> bool:
        """Whether there is more than one rank, so that a tensor may be split."""
        return len(self.ranks) > 1

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes that more than one rank lies along."""
        return tuple(axis for axis, side in enumerate(self.shape) if side > 1)

    def peer(self, axis: int, place: int) -> int:
        """Return the global name of the rank at `place` along `axis` from this one."""
        coordinate = (*self.coordinate[:axis], place, *self.coordinate[axis + 1 :])
        rank = 0
        for at, side in zip(coordinate, self.shape, strict=True):
            rank = rank * side + at
        return self.ranks[rank]

    def all_reduce(
        self, tensor: Tensor, axes: Iterable[int], operation: dist.ReduceOp.RedOpType
    ) -> Tensor:
        """Reduce `tensor` in place over the ranks along `axes`; all get the same bits.

        Sums of up to `ORDERED_BYTES` are added in the order of ranks, whatever the library does.
        """
        wanted = sorted(set(axes) & set(self.axes))
        groups = [self.group] if wanted == list(self.axes) else [self._lines[a] for a in wanted]
        for group in groups if wanted else []:
            if tensor.is_floating_point() and tensor.nbytes <= ORDERED_BYTES:
                parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size(group))]
                self.waited(
                    "a reduction",
                    lambda group=group, parts=parts: dist.all_gather(parts, tensor, group=group),  # type: ignore[misc]
                )
                tensor.copy_(reduced(parts, operation))
                continue
            self.waited(
                "a reduction",
                lambda group=group: dist.all_reduce(tensor, operation, group=group),  # type: ignore[misc]
            )
        return tensor

    def all_gather(self, values: Sequence[int]) -> list[tuple[int, ...]]:
        """Return `values` of every rank, in the order of ranks; all give equally many."""
        backend = dist.get_backend(self.group)
        device = "cuda" if backend == "nccl" else "cpu"
        own = torch.tensor(tuple(values), dtype=torch.int64, device=device)
        made = [torch.empty_like(own) for _ in self.ranks]
        self.waited("a comparison of parts", lambda: dist.all_gather(made, own, group=self.group))
        return [tuple(t.tolist()) for t in made]

    def own(self, module: nn.Module) -> nn.Module:
        """Return `module` as this rank may use it."""
        return module

    def swap(
        self, sends: Sequence[tuple[int, Tensor]], receives: Sequence[tuple[int, Tensor]]
    ) -> Callable[[], None]:
        """Start to send to and receive from ranks by global name; return how to wait for it."""
        operations = [dist.P2POp(dist.isend, t, r, self.group) for r, t in sends]
        operations += [dist.P2POp(dist.irecv, t, r, self.group) for r, t in receives]
        if not operations:
            return lambda: None
        works = self.waited("an exchange", lambda: dist.batch_isend_irecv(operations))

        def wait() -> None:
            for work in works:
                self.waited("an exchange", work.wait)

        return wait

    @property
    def store(self) -> Store:
        """The store of the process group."""
        return self._witness.store

    def present(self) -> AbstractContextManager[None]:
        """Answer others who ask for lost ranks while inside, also while this rank computes."""
        return self._witness.waiting()

    def silent(self, seconds: float) -> list[int]:
        """Return the ranks, by global name, that leave no word for so long when asked.

        Raises RuntimeError or torch.distributed.DistError if the group's store is gone.
        """
        return self._witness.silent(seconds)

    def waited(self, what: str, act: Callable[[], Result]) -> Result:
        """Do `act`; where torch.distributed fails, say which ranks do not answer."""
        try:
            with self._witness.waiting():
                return act()
        except RuntimeError as error:
            module, operator = self.journal.place
            where = f"{what} for {operator or 'its parts'} in {module}"
            raise self._witness.error(where, error) from error
