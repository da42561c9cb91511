"""Ranks of one process: a mesh whose parts take turns on one device.

Nothing of torch.distributed is needed. Planes are copied from one rank's tensors to another's, and
sums over ranks are added in the order of ranks, as `Mesh` adds them: the bits are those of as many
processes with the same parts.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from itertools import chain
from math import prod
from typing import Any, TypeVar
from warnings import catch_warnings, simplefilter

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.fx import GraphModule

from exactile.partition.journal import Journal
from exactile.partition.mesh import Mesh, check_shape, reduced
from exactile.partition.refusal import PartitionError
from exactile.partition.turns import Turns

Result = TypeVar("Result")


class _Post:
    """What is on its way between the ranks."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.parcels: defaultdict[tuple[int, int], deque[Tensor]] = defaultdict(deque)
        """Planes not yet fetched, by sender and receiver."""
        self.boards: dict[tuple[tuple[int, ...], int], dict[int, Any]] = {}
        """What ranks brought to a meeting, by its members and its number."""

    def meet(self, members: tuple[int, ...], number: int, rank: int, brought: Any) -> list[Any]:
        """Return what all `members` bring to their meeting `number`, in their order."""
        board = self.boards.setdefault((members, number), {})
        board[rank] = brought
        self.turns.wait(rank, lambda: len(board) == len(members))
        self.boards.pop((members, number), None)
        return [board[member] for member in members]


class VirtualMesh(Mesh):
    """One rank of a mesh whose ranks are threads; made by `run_in_turns`."""

    def __init__(self, shape: Sequence[int], rank: int, post: _Post) -> None:
        self.shape = check_shape(shape)
        self.ranks = list(range(prod(self.shape)))
        self.rank = rank
        self.coordinate = self.coordinate_of(rank)
        self.journal = Journal()
        self._post = post
        self._meetings: defaultdict[tuple[int, ...], int] = defaultdict(int)

    def all_reduce(
        self, tensor: Tensor, axes: Iterable[int], operation: dist.ReduceOp.RedOpType
    ) -> Tensor:
        """Reduce `tensor` in place over the ranks along `axes`; all get the same bits."""
        wanted = sorted(set(axes) & set(self.axes))
        if not wanted:
            return tensor
        groups = [tuple(self.ranks)] if wanted == list(self.axes) else map(self._members, wanted)
        for members in groups:
            tensor.copy_(reduced(self._meet(members, tensor.clone()), operation))
        return tensor

    def all_gather(self, values: Sequence[int]) -> list[tuple[int, ...]]:
        """Return `values` of every rank, in the order of ranks."""
        return self._meet(tuple(self.ranks), tuple(values))

    def own(self, module: nn.Module) -> nn.Module:
        """Return a copy of `module` with the same weights.

        What hooks and caches a module has, this rank has for itself: others run in between.

        Raises:
            PartitionError: if it is in training mode, in which all ranks would change one buffer.
        """
        # The mode of an exported program was fixed when it was made, whatever its flag says.
        if module.training and not isinstance(module, GraphModule):
            raise PartitionError(
                "parts that take turns run networks, and do not train them: call eval(), or start "
                "a process for each rank"
            )
        weights = chain(module.parameters(), module.buffers())
        with catch_warnings():
            # torch copies its own trees by a way that it warns of.
            simplefilter("ignore", FutureWarning)
            return deepcopy(module, {id(weight): weight for weight in weights})

    def swap(
        self, sends: Sequence[tuple[int, Tensor]], receives: Sequence[tuple[int, Tensor]]
    ) -> Callable[[], None]:
        """Send to and receive from ranks; return how to wait for what comes."""
        post = self._post
        for peer, parcel in sends:
            # A copy: the sender goes on before it is fetched, and may write to its own.
            post.parcels[self.rank, peer].append(parcel.clone())
        boxes = [post.parcels[peer, self.rank] for peer, _ in receives]

        def wait() -> None:
            post.turns.wait(self.rank, lambda: all(boxes))
            for (_, buffer), box in zip(receives, boxes, strict=True):
                buffer.copy_(box.popleft())

        return wait

    def _members(self, axis: int) -> tuple[int, ...]:
        return tuple(self.peer(axis, place) for place in range(self.shape[axis]))

    def _meet(self, members: tuple[int, ...], brought: Result) -> list[Result]:
        self._meetings[members] += 1
        return self._post.meet(members, self._meetings[members], self.rank, brought)


def run_in_turns(
    shape: Sequence[int], act: Callable[[VirtualMesh], Result], turns: Turns | None = None
) -> list[Result]:
    """Return what `act` returns on each rank of a mesh of `shape`, one running at a time.

    `act` does on each rank what a process of its own would do: it may use `partition` and
    `distribute` with the mesh that it gets, and all ranks must make the same calls. Gradients and
    inference mode are as in the caller. `turns` lets the caller look whether the run was given up.

    Raises:
        PartitionError: if the shape is none, or if ranks wait for each other for ever.
        Exception: the first that `act` raises on any rank.
    """
    count = prod(check_shape(shape))
    turns = turns or Turns(count)
    post = _Post(turns)
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def live(rank: int) -> Result:
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients and not inference):
            return act(VirtualMesh(shape, rank, post))

    return turns.run(live)
