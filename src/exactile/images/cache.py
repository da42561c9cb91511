"""A bounded memory of decoded chunks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from numpy.typing import NDArray


class ChunkCache:
    """The chunks used last, up to a number of bytes.

    The newest chunk is always kept, even where it alone is larger than the capacity: a file that
    is one large strip would otherwise be decoded again for every window.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._chunks: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self._bytes = 0

    @property
    def bytes_held(self) -> int:
        """Size of the chunks held now, in bytes."""
        return self._bytes

    def __contains__(self, key: Hashable) -> bool:
        return key in self._chunks

    def find(self, key: Hashable) -> NDArray[Any] | None:
        """Return the chunk called `key` if it is held; not to be written into."""
        if key not in self._chunks:
            return None
        self._chunks.move_to_end(key)
        return self._chunks[key]

    def get(self, key: Hashable, load: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return the chunk called `key`, from memory or from `load`; not to be written into."""
        found = self.find(key)
        if found is not None:
            return found
        chunk = load()
        if chunk.base is not None:
            # A view would keep alive the whole buffer it was cut from, uncounted.
            chunk = chunk.copy()
        self._bytes += chunk.nbytes
        self._chunks[key] = chunk
        while self._bytes > self.capacity and len(self._chunks) > 1:
            _, oldest = self._chunks.popitem(last=False)
            self._bytes -= oldest.nbytes
        return chunk

    def clear(self) -> None:
        """Forget every chunk."""
        self._chunks.clear()
        self._bytes = 0
