"""Running an unmodified network on the parts of a volume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from exactile.locality.modulepath import ModulePath, named_modules
from exactile.partition.layout import Split
from exactile.partition.mesh import Mesh
from exactile.partition.nested import mapped
from exactile.partition.refusal import PartitionError
from exactile.partition.tensor import SplitTensor, wrap


def distribute(part: Tensor, mesh: Mesh, axes: Sequence[int] | None = None) -> Tensor:
    """Return the tensor of which each rank gives its `part`.

    `axes` says which dimension each axis of the mesh splits, the last ones if it is not given: a
    mesh of shape (2, 3) splits Y and X of (N, C, Y, X). How long each part is may differ; the
    ranks tell each other. A part may be empty. Gradients flow into `part`.

    Raises:
        PartitionError: if the parts of all ranks do not make up one tensor; on every rank.
    """
    dims = _dims(part, mesh, axes)
    told = mesh.all_gather([part.dim(), *part.shape, *(0,) * (8 - part.dim())])
    if any(shape[0] != part.dim() for shape in told):
        raise PartitionError(f"parts have {[s[0] for s in told]} dimensions; give all equally many")
    shapes = [shape[1 : part.dim() + 1] for shape in told]
    layout: list[Split | None] = [None] * part.dim()
    for axis, dim in enumerate(dims):
        if mesh.shape[axis] > 1:
            line = [r for r in range(len(told)) if _lies_on(mesh.coordinate_of(r), axis)]
            sides = [shapes[rank][dim] for rank in line]
            cuts = tuple(sum(sides[:i]) for i in range(len(sides) + 1))
            layout[dim] = Split(axis, cuts)
    for rank, shape in enumerate(shapes):
        for dim, side in enumerate(shape):
            split = layout[dim]
            own = None if split is None else split.parts[mesh.coordinate_of(rank)[split.axis]]
            want = shapes[0][dim] if own is None else own.length
            if side != want:
                raise PartitionError(
                    f"rank {mesh.ranks[rank]} gives a part of {shape}, which has {side} positions "
                    f"along dimension {dim} where others on the mesh {mesh.shape} have "
                    f"{want}; cut the volume by planes, the same for all ranks in a row"
                )
    return wrap(part, layout, mesh)


def _lies_on(coordinate: tuple[int, ...], axis: int) -> bool:
    """Whether a rank is in line with the first one along `axis`."""
    return not any(at for other, at in enumerate(coordinate) if other != axis)


def _dims(part: Tensor, mesh: Mesh, axes: Sequence[int] | None) -> list[int]:
    """Return the dimension that each axis of the mesh splits."""
    given = range(-len(mesh.shape), 0) if axes is None else axes
    if len(given) != len(mesh.shape) or part.dim() > 8:
        raise PartitionError(
            f"axes {tuple(given)} do not fit a mesh of shape {mesh.shape} and a part of shape "
            f"{tuple(part.shape)}; give one dimension for each axis of the mesh, 8 in all at most"
        )
    if any(not -part.dim() <= dim < part.dim() for dim in given):
        raise PartitionError(
            f"a part of shape {tuple(part.shape)} has no dimensions {tuple(given)} to split"
        )
    dims = [dim % part.dim() for dim in given]
    if len(set(dims)) < len(dims):
        raise PartitionError(f"axes {tuple(given)} name one dimension twice; name each once")
    return dims


class Partitioned:
    """A network whose inputs and outputs are this rank's parts."""

    def __init__(self, module: nn.Module, mesh: Mesh, axes: Sequence[int] | None = None) -> None:
        self.module = mesh.own(module)
        self.mesh = mesh
        self.axes = axes

    def __call__(self, *parts: Tensor) -> Any:
        """Return the parts of the network's outputs; those split along no axis are whole."""
        made = self.split(*(distribute(part, self.mesh, self.axes) for part in parts))
        return mapped(made, lambda t: t.local if isinstance(t, SplitTensor) else t)

    def split(self, *inputs: Tensor) -> Any:
        """Run on split tensors and return them, with their layouts."""
        journal = self.mesh.journal
        before, journal.path = journal.path, ModulePath(named_modules(self.module))
        try:
            with journal.path.followed():
                return self.module(*inputs)
        finally:
            journal.path = before


def partition(module: nn.Module, mesh: Mesh, axes: Sequence[int] | None = None) -> Partitioned:
    """Return `module` as a function of this rank's parts of its inputs.

    All ranks must hold the same weights and call it together. What it returns has the values that
    the module gives for the whole, and gradients are those of the sum of all ranks' losses: a
    parameter has the same, whole gradient on every rank, so optimizers go on alike. `axes` are as
    in `distribute`.

        mesh = Mesh((2, 2))                      # 4 ranks, Y and X
        run = partition(network, mesh)
        logits = run(image[..., rows, columns])  # this rank's part in, its part out

    Raises:
        NotPartitioned: when it is called, if an operator has no rule; the message names it.
        LostRank: when it is called, or on the way back, if other ranks do not answer.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise PartitionError(
            "TorchScript runs past the rules of partitioning; give the network as ordinary modules"
        )
    return Partitioned(module, mesh, axes)
