"""Feature maps that do not fit: those used longest ago rest elsewhere until they are used again.

A dispatch mode sees every operator of PyTorch before it runs. What it reads is brought back, and
for that, and for what it will make, others are put away: first those that were used longest ago.
This is done with the storages beneath the tensors, which are emptied and filled again, so all views
of one go with it, and whoever holds a tensor need not know.

Only storages that an operator made while the mode was entered are put away: never weights, nor
arrays of numpy. An emptied tensor must not be read past PyTorch's operators, nor where the mode is
not entered, which would end the process: `Pager.release` gives one back for good.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from exactile.partition.shelf import Shelf
from exactile.partition.tensor import SplitTensor

LEAST_BYTES = 2**16
"""Smaller storages stay: all of them together are little."""


@dataclass
class _Held:
    """A storage that may be put away."""

    storage: weakref.ref[UntypedStorage]
    """Gone when no tensor needs it any more."""
    nbytes: int
    place: int | None = None
    """Where its bytes rest; None while they are at hand."""


class Pager:
    """Keeps storages at hand up to a number of bytes, and the others on a shelf."""

    def __init__(self, limit: int, shelf: Shelf) -> None:
        """`limit` is for what is at hand before an operator runs; what it makes comes on top."""
        self.limit = limit
        self.shelf = shelf
        self.resident = 0
        """Bytes at hand."""
        self.peak = 0
        """Most bytes that were at hand at a time."""
        self.moved = 0
        """Bytes put away and brought back so far."""
        self._held: dict[int, _Held] = {}
        """By the storage's address; those used last come last."""

    def need(self, storages: Sequence[UntypedStorage]) -> None:
        """Bring `storages` back, where they were put away."""
        keys = dict.fromkeys(storage._cdata for storage in storages)
        used = {key: held for key in keys if (held := self._held.pop(key, None)) is not None}
        self._held |= used
        away = [held for held in used.values() if held.place is not None]
        # The shelf's own copies are no work of the network's, for which a mode may be entered.
        with _disable_current_modes():
            self._move(away, used)

    def _move(self, away: Sequence[_Held], used: Iterable[int]) -> None:
        """Make room, where those of the keys `used` stay, and bring back what is `away`."""
        self._make_room(sum(held.nbytes for held in away), used)
        for held in away:
            storage, place = held.storage(), held.place
            if storage is None or place is None:
                continue
            storage.resize_(held.nbytes)
            held.place = None
            self._count(held.nbytes)
            self.moved += held.nbytes
            self.shelf.take(place, storage)

    def note(self, storages: Iterable[UntypedStorage]) -> None:
        """Take charge of `storages`, which an operator has just made."""
        for storage in storages:
            key, nbytes = storage._cdata, storage.nbytes()
            if key in self._held or nbytes < LEAST_BYTES:
                continue
            gone = weakref.ref(storage, self._forgetting(key))
            self._held[key] = _Held(gone, nbytes)
            self._count(nbytes)

    def release(self, tensor: Tensor) -> Tensor:
        """Return `tensor` at hand, and never put it away again: for use after the mode is left."""
        storages = storages_of(tensor)
        self.need(storages)
        for storage in storages:
            held = self._held.pop(storage._cdata, None)
            self.resident -= 0 if held is None else held.nbytes
        return tensor

    def _forgetting(self, key: int) -> Callable[[object], None]:
        """Return what to do when the storage at `key` is gone."""

        def forget(_: object) -> None:
            held = self._held.pop(key)
            if held.place is None:
                self.resident -= held.nbytes
            else:
                self.shelf.drop(held.place)

        return forget

    def _count(self, nbytes: int) -> None:
        self.resident += nbytes
        self.peak = max(self.peak, self.resident)

    def _make_room(self, more: int, kept: Iterable[int]) -> None:
        """Put storages away until `more` bytes fit; those of the keys `kept` stay."""
        kept = set(kept)
        for key, held in list(self._held.items()):
            if self.resident + more <= self.limit:
                return
            storage = held.storage()
            if storage is None or held.place is not None or key in kept:
                continue
            if not storage.resizable():
                # An array of numpy looks into it.
                continue
            held.place = self.shelf.put(storage)
            storage.resize_(0)
            self.resident -= held.nbytes
            self.moved += held.nbytes


class Paging(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While entered, by one thread, a pager looks after what the thread's operators make."""

    def __init__(self, pager: Pager, check: Callable[[], None]) -> None:
        """`check` is called before each operator; it may raise to end the work."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.pager = pager
        self.check = check

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Bring back what the operator reads, run it, and take charge of what it made."""
        self.check()
        kwargs = kwargs or {}
        read = storages_of((args, kwargs))
        self.pager.need(read)
        result = func(*args, **kwargs)
        # What shares the storage of an argument may be a view of a weight.
        known = {storage._cdata for storage in read}
        self.pager.note(s for s in storages_of(result) if s._cdata not in known)
        return result


def storages_of(values: Any) -> list[UntypedStorage]:
    """Return the storages of the tensors in nested containers."""
    return [
        leaf.untyped_storage()
        for leaf in tree_leaves(values)
        if isinstance(leaf, Tensor) and not isinstance(leaf, SplitTensor) and _is_dense(leaf)
    ]


def _is_dense(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided
