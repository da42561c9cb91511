"""Bringing tensors to one layout, before an operator that combines them position by position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from exactile.partition.exchange import enter, fetch
from exactile.partition.layout import Layout, Split, parts_as_wanted
from exactile.partition.mesh import Mesh
from exactile.partition.refusal import Refused
from exactile.partition.tensor import SplitTensor, own_part, split_tensors

ELSEWHERE = "it combines different split axes of two tensors, which would need all of both"


def layout_of(tensor: Tensor) -> Layout:
    """Return the layout of any tensor."""
    return tensor.splits if isinstance(tensor, SplitTensor) else (None,) * tensor.dim()


def joint_layout(tensors: Sequence[Tensor]) -> Layout:
    """Return the layout of the tensors broadcast together: of each split, the first one's cuts."""
    ndim = max(tensor.dim() for tensor in tensors)
    made: list[Split | None] = [None] * ndim
    for tensor in tensors:
        layout = layout_of(tensor)
        for dim, split in enumerate(layout, ndim - len(layout)):
            known = made[dim]
            if known is None:
                made[dim] = split
            elif split is not None and (split.axis, split.extent) != (known.axis, known.extent):
                raise Refused(
                    f"it combines extents {known.extent} and {split.extent} of a split axis; "
                    "crop or pad one to the other"
                )
    axes = [split.axis for split in made if split is not None]
    if len(set(axes)) < len(axes):
        raise Refused(ELSEWHERE)
    return tuple(made)


def conform(tensor: Tensor, target: Layout, mesh: Mesh) -> Tensor:
    """Return this rank's part of `tensor` for use with tensors of layout `target`.

    Dimensions are counted from the last. A whole tensor of the whole extent is cut; one of extent
    1 is broadcast; a tensor with other cuts is redistributed.
    """
    layout = layout_of(tensor)
    local = tensor.local if isinstance(tensor, SplitTensor) else tensor
    mine = {split.axis for split in layout if split is not None}
    local = enter(local, mesh, {s.axis for s in target if s is not None} - mine)
    for dim in range(-1, -len(layout) - 1, -1):
        split, wanted = layout[dim], target[dim]
        at = dim + len(layout)
        if wanted is None:
            if split is not None:
                raise Refused(ELSEWHERE)
        elif split is not None:
            local = fetch(local, at, mesh, split, parts_as_wanted(wanted))
        elif local.shape[at] == wanted.extent:
            own = own_part(wanted, mesh)
            local = local.narrow(at, own.start, own.length)
        elif local.shape[at] != 1:
            raise Refused(
                f"it combines extents {wanted.extent} and {local.shape[at]} of a split axis; crop "
                "or pad one to the other"
            )
    return local


def mesh_of(arguments: Any) -> Mesh:
    """Return the mesh of the split tensors among nested arguments."""
    meshes = [tensor.mesh for tensor in split_tensors(arguments)]
    if any(mesh is not meshes[0] for mesh in meshes):
        raise Refused("it combines tensors of two meshes; split both over the same one")
    return meshes[0]


def whole(tensor: Tensor, dims: Sequence[int], what: str) -> None:
    """Refuse where one of the dimensions `dims` is split."""
    layout = layout_of(tensor)
    for dim in dims:
        if layout[dim] is not None:
            raise Refused(f"it {what} along dimension {dim % len(layout)}, which is split")
