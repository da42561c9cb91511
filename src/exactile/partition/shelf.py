"""Where values rest that are not at hand: in a file without a name, or in the host's memory.

What an implementer promises: what `take` gives back is what `put` was given, once for each place;
the place is free again afterwards. What the disk refuses is an OutputError. After `close` nothing
is left, and nothing either where the process is killed.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from torch import UntypedStorage

from exactile.errors import OutputError

AT_ONCE = 2**28
"""So many bytes are handed to the system at a time: it takes at most 2 GB."""


class Shelf(Protocol):
    """Keeps the bytes of storages."""

    def put(self, storage: UntypedStorage) -> int:
        """Keep the bytes of `storage`, and return their place."""

    def take(self, place: int, storage: UntypedStorage) -> None:
        """Give the bytes at `place` back, into `storage` of the same size."""

    def drop(self, place: int) -> None:
        """Free `place`: its bytes are not wanted any more."""

    def close(self) -> None:
        """Give up all places."""


class HostShelf:
    """Keeps them in the host's memory: for those of a GPU."""

    def __init__(self) -> None:
        self._kept: dict[int, UntypedStorage] = {}
        self._count = 0

    def put(self, storage: UntypedStorage) -> int:
        """Keep the bytes of `storage`, and return their place."""
        self._count += 1
        kept = UntypedStorage(storage.nbytes())  # type: ignore[no-untyped-call]
        self._kept[self._count] = kept.copy_(storage, False)
        return self._count

    def take(self, place: int, storage: UntypedStorage) -> None:
        """Give the bytes at `place` back, into `storage` of the same size."""
        storage.copy_(self._kept.pop(place), False)

    def drop(self, place: int) -> None:
        """Free `place`."""
        self._kept.pop(place, None)

    def close(self) -> None:
        """Give up all places."""
        self._kept.clear()


class FileShelf:
    """Keeps them in one file, which has no name: it goes with the process that opened it.

    Places are used again: the file is as long as the most that rests there at a time, and a little
    longer where sizes differ.
    """

    def __init__(self, folder: Path) -> None:
        """Open a file on the disk that `folder` is on.

        Raises:
            OutputError: if it cannot be made.
        """
        self.folder = folder
        self._free: list[tuple[int, int]] = []
        """Start and length of what is free before the end, in order, no two side by side."""
        self._used: dict[int, int] = {}
        """Length of what is kept, by its start."""
        self._end = 0
        try:
            self._file = cast("BinaryIO", tempfile.TemporaryFile(dir=folder, buffering=0))  # noqa: SIM115
        except OSError as error:
            raise self._refused(error) from error

    def put(self, storage: UntypedStorage) -> int:
        """Keep the bytes of `storage`, and return their place.

        Raises:
            OutputError: if the disk refuses.
        """
        content, place = _bytes_of(storage), self._place(storage.nbytes())
        done = 0
        try:
            while done < len(content):
                part = content[done : done + AT_ONCE]
                done += os.pwrite(self._file.fileno(), part, place + done)
        except OSError as error:
            raise self._refused(error) from error
        return place

    def take(self, place: int, storage: UntypedStorage) -> None:
        """Give the bytes at `place` back, into `storage` of the same size.

        Raises:
            OutputError: if the disk refuses.
        """
        content = _bytes_of(storage)
        done = 0
        try:
            while done < len(content):
                part = content[done : done + AT_ONCE]
                read = os.preadv(self._file.fileno(), [part], place + done)
                if not read:
                    raise OSError(0, "the file is shorter than what was written to it")
                done += read
        except OSError as error:
            raise self._refused(error) from error
        self.drop(place)

    def drop(self, place: int) -> None:
        """Free `place`."""
        runs = sorted([*self._free, (place, self._used.pop(place))])
        self._free = []
        for start, length in runs:
            if self._free and sum(self._free[-1]) == start:
                start, length = self._free[-1][0], self._free.pop()[1] + length
            self._free.append((start, length))

    def close(self) -> None:
        """Close the file, with which it is gone."""
        self._file.close()

    def _place(self, length: int) -> int:
        """Return the start of the first free run that is long enough, or of a new one."""
        for index, (start, room) in enumerate(self._free):
            if room >= length:
                left = [(start + length, room - length)] if room > length else []
                self._free[index : index + 1] = left
                break
        else:
            start, self._end = self._end, self._end + length
        self._used[start] = length
        return start

    def _refused(self, error: OSError) -> OutputError:
        return OutputError(
            f"{self.folder}: intermediate results cannot be kept there: "
            f"{error.strerror or error}; make room on its disk, give more --memory, or choose "
            "another --outDir"
        )


def _bytes_of(storage: UntypedStorage) -> memoryview:
    """Return the bytes of a storage in the host's memory, without a copy."""
    kind = ctypes.c_ubyte * storage.nbytes()
    return memoryview(kind.from_address(storage.data_ptr())).cast("B")
