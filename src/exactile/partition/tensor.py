"""A tensor of which each rank holds its part.

It looks like the whole tensor: `shape` is the whole one, so a network that asks for sizes gets the
answers it would get of the whole. It has no values but its part's. Functions of torch that meet one
are carried out by their rules (`registry`); anything else is refused by name, and so is whatever
comes past the rules, as TorchScript does. A single part is the whole: there torch itself carries
out all but statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import resolve_name

from exactile.geometry import Box, Interval
from exactile.partition.layout import Layout, Split
from exactile.partition.mesh import Mesh
from exactile.partition.nested import mapped
from exactile.partition.refusal import NotPartitioned, Refused
from exactile.partition.registry import STATISTICS, apply, rule_of


class SplitTensor(Tensor):
    """The whole of a tensor split over the ranks of a mesh, seen from one rank."""

    local: Tensor
    """This rank's part; gradients flow through it."""
    splits: Layout
    """How each dimension is split."""
    mesh: Mesh
    """The ranks."""

    @staticmethod
    def __new__(cls, local: Tensor, layout: Layout, mesh: Mesh) -> SplitTensor:  # noqa: D102
        shape = [
            side if split is None else split.extent
            for side, split in zip(local.shape, layout, strict=True)
        ]
        made: SplitTensor = torch.Tensor._make_wrapper_subclass(
            cls, shape, dtype=local.dtype, device=local.device
        )
        made.local, made.splits, made.mesh = local, layout, mesh
        return made

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes of the mesh that this tensor is split along."""
        return tuple(split.axis for split in self.splits if split is not None)

    @property
    def box(self) -> Box:
        """What this rank holds of each dimension."""
        return Box(
            tuple(
                Interval(0, side) if split is None else own_part(split, self.mesh)
                for side, split in zip(self.local.shape, self.splits, strict=True)
            )
        )

    def __repr__(self) -> str:  # type: ignore[override]
        return f"SplitTensor({tuple(self.shape)}, part={self.box})"

    @classmethod
    def __torch_function__(
        cls,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Carry out `func` by its rule."""
        kwargs = dict(kwargs or {})
        if not args and "input" in kwargs:
            args = (kwargs.pop("input"),)
        if func in ABOUT:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        mesh = _mesh(args, kwargs)
        name = resolve_name(func) or str(func)
        known = rule_of(func)
        before, mesh.journal.operator = mesh.journal.operator, name
        try:
            if not mesh.divided:
                if known not in STATISTICS or not isinstance(args[0], SplitTensor):
                    return _on_the_whole(func, args, kwargs, mesh)
                args, kwargs = (args[0], *_parts(args[1:])), _parts(kwargs)
            if known is None:
                raise Refused(
                    "this function has no rule, so what it reads of other parts is not known; "
                    "replace it by one that has, or ask for a rule"
                )
            if kwargs.get("out") is not None:
                raise Refused("it writes into a given tensor; use the tensor that it returns")
            return apply(known, func, args, kwargs)
        except Refused as refused:
            raise NotPartitioned(
                f"this network cannot be partitioned: {name} in {mesh.journal.path.current}: "
                f"{refused}"
            ) from None
        finally:
            mesh.journal.operator = before

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Refuse: only code that goes past the rules comes here."""
        where = _mesh(args, kwargs or {}).journal.path.current
        raise NotPartitioned(
            f"this network cannot be partitioned: {func} in {where}: it is called past Python's "
            "functions, where no rule sees it; give the network as ordinary modules"
        )


def _on_the_whole(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], mesh: Mesh) -> Any:
    """Carry out a call by torch itself, where the only part is the whole."""
    parts = _parts(args)
    made = func(*parts, **_parts(kwargs))
    if args and isinstance(args[0], SplitTensor) and made is parts[0]:
        if made.shape != args[0].shape:
            raise Refused("it changes the shape of a tensor in place; compute a new tensor")
        return args[0]
    return mapped(made, lambda tensor: wrap(tensor, (None,) * tensor.dim(), mesh))


def _parts(arguments: Any) -> Any:
    """Return nested arguments with the part of every split tensor in its place."""
    return mapped(arguments, lambda each: each.local if isinstance(each, SplitTensor) else each)


def _mesh(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Mesh:
    return next(iter(split_tensors((args, kwargs)))).mesh


def split_tensors(arguments: Any) -> list[SplitTensor]:
    """Return the split tensors in nested tuples, lists and dictionaries."""
    if isinstance(arguments, SplitTensor):
        return [arguments]
    if isinstance(arguments, dict):
        arguments = tuple(arguments.values())
    if isinstance(arguments, (tuple, list)):
        return [found for value in arguments for found in split_tensors(value)]
    return []


def own_part(split: Split, mesh: Mesh) -> Interval:
    """Return what this rank owns of a split dimension."""
    return split.parts[mesh.coordinate[split.axis]]


def wrap(local: Tensor, layout: Sequence[Split | None], mesh: Mesh) -> Tensor:
    """Return the split tensor of a part, or the part itself if it is split along no dimension.

    Where the only part is the whole, its tensors stay such, for statistics to know them.
    """
    layout = tuple(layout)
    return SplitTensor(local, layout, mesh) if any(layout) or not mesh.divided else local


def _property(name: str) -> Any:
    return getattr(torch.Tensor, name).__get__


ABOUT = frozenset(
    [
        *(_property(n) for n in ("shape", "ndim", "dtype", "device", "is_cuda")),
        *(_property(n) for n in ("is_sparse", "is_quantized", "is_meta", "itemsize", "is_mkldnn")),
        *(torch.Tensor.dim, torch.Tensor.size, torch.Tensor.numel, torch.Tensor.ndimension),
        *(torch.Tensor.is_floating_point, torch.Tensor.is_complex, torch.Tensor.__len__),
        *(torch.is_floating_point, torch.is_complex, torch.numel, torch.Tensor.get_device),
        *(torch.Tensor.nelement, torch.Tensor.element_size),
    ]
)
"""Functions that ask for what is the same of the whole as of the wrapper: nothing of values."""
