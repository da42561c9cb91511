"""What a run has stored of an image, written down so that a later run goes on from there.

    <name>.partial/journal        a line for each fact, only ever appended
    <name>.partial/page-000000    the tiles that the lines speak of; those of a Zarr in `whole`

A line is a checksum and a text, JSON. The checksum is the CRC-32 of all texts until then, so a line
that was changed, left out, doubled or moved is as wrong as one that is cut. The first line names
the run that writes: its identity, all that the bits of the result depend on. Every further line is
a `tile` that is stored, a `lost` one, or a `note`. What the contract is:

- A tile's data is written before its line, each in one call. A process that is killed at any moment
  leaves at worst data without a line, or a last line that is cut, whose checksum is wrong.
- A journal counts up to its first wrong line: that is how things stood at an earlier moment. Where
  it is not the last one, that is said, and `--resume true` refuses. A line that says what no run
  has ever written is wrong, whatever its checksum.
- Lines of another identity are never gone on with, and what they speak of is never mixed in.
- The journal is locked as long as it is open. A second process that would write the same image is
  refused, except on file systems that know no locks.
- Nothing is synced to the disk: a killed process loses nothing by that. After a loss of power,
  tiles that did not reach the disk are recognised by their checksums.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, Literal, Self

from exactile.errors import OutputError
from exactile.images.folder_exchange import give_back
from exactile.images.journal_lines import MOST_LINE, are_counts, make_line, parse_line
from exactile.images.links import refuse_links, refuse_links_in
from exactile.images.spool import Place, write_at
from exactile.images.work_folder import named_errors, remove_empty, work_folder

Resume = Literal["auto", "true", "false"]
"""What to do with what an earlier run left: auto goes on where the identity is the same and else
begins anew, with a word; true refuses where it differs; false begins anew."""

NAME = "journal"
FORMAT = 2
"""Of the lines; a journal of another format is of another run."""

logger = logging.getLogger(__name__)


SameBits = Callable[[Mapping[str, Any], Any, Any], bool]
"""Says whether a run of other facts, of a plan and of windows before it, made the same bits."""


def never_the_same(earlier: Mapping[str, Any], plan: Any, before: Any) -> bool:
    """Return that other facts make other bits."""
    return False


class ResumeError(OutputError):
    """What lies in the work folder cannot be gone on with; it was not touched."""


class Journal:
    """The record of one image that is being written. A context manager, which closes it."""

    def __init__(
        self,
        output: Path,
        identity: Mapping[str, Any],
        resume: Resume = "auto",
        same_bits: SameBits = never_the_same,
    ) -> None:
        """Open the journal of the image `output`, or begin one.

        `identity` holds facts by their names, of kinds that JSON has. A run of other facts that
        makes the `same_bits` is gone on with, as that run.

        Raises:
            ResumeError: if another process writes the image; with `resume` true, if the journal is
                damaged or of a run with another identity.
            OutputError: if the disk refuses, or if there are links where it would write.
        """
        self.output = output
        self.folder = work_folder(output)
        self.recorded: dict[str, Any] = {}
        """All notes together; a later one replaces what an earlier one said under its name."""
        self.tiles: dict[int, dict[int, Place]] = {}
        """Stored tiles by page and number."""
        self.identity: dict[str, Any] = json.loads(json.dumps(identity))
        """What the bits of the result depend on."""
        self._end = 0
        self._checksum = 0  # of all texts until then
        self._appending = Lock()  # tiles are stored by several threads, notes taken by another
        self._closed = False
        self._resume, self._same_bits = resume, same_bits
        refuse_links(self.folder, output.parent)
        refuse_links_in(self.folder)
        with named_errors(output):
            self._descriptor = _open_locked(self.folder / NAME, output)
        try:
            with named_errors(output):
                give_back(output, self.folder)
                self._begin()
        except BaseException:
            os.close(self._descriptor)
            raise

    def _begin(self) -> None:
        objection = self._read(self._resume)
        if objection or not self._end or self._resume == "false":
            self._discard_what_is_left(objection)
        else:
            os.ftruncate(self._descriptor, self._end)

    def _discard_what_is_left(self, reason: str) -> None:
        """Begin at the first line; the word says why, if there is a `reason`."""
        if reason and self._resume == "true":
            raise ResumeError(
                f"{self.output}: cannot go on with what an earlier run left: {reason}; use what "
                "that run used, or --resume auto to begin anew"
            )
        if reason and self._resume == "auto":
            logger.warning(
                "%s: what an earlier run left is discarded: %s", self.output.name, reason
            )
        self._empty()
        self._append({"journal": FORMAT, "identity": self.identity})

    def _read(self, resume: Resume) -> str:
        """Take over what the file says, and return why that is not this run's; empty if it is."""
        with open(self._descriptor, "rb", closefd=False) as file:
            header = file.readline(MOST_LINE)
            if not header.endswith(b"\n"):
                # Killed before it had stored anything, unless there are tiles.
                return "its journal is damaged" if self._has_others() else ""
            first = parse_line(header, 0)
            if first is None or not isinstance(first[0].get("journal"), int):
                return "its journal is damaged"
            record, checksum = first
            if record["journal"] != FORMAT:
                return "its journal was written by another version of exactile"
            if not isinstance(record.get("identity"), dict):
                return "its journal is damaged"
            self._end, self._checksum = len(header), checksum
            objection = self._read_lines(file, resume)
            return self._of_another_run(record["identity"]) or objection

    def _read_lines(self, file: BinaryIO, resume: Resume) -> str:
        """Take over what follows the first line, and return why that cannot be; empty if it can."""
        while line := file.readline(MOST_LINE):
            found = parse_line(line, self._checksum)
            if found is None or not self._apply(found[0]):
                cut = not line.endswith(b"\n") and not file.read(1)
                return "" if cut else self._damaged(resume)
            self._end += len(line)
            self._checksum = found[1]
        return ""

    def _of_another_run(self, earlier: dict[str, Any]) -> str:
        """Return why lines of the identity `earlier` are of another run; empty if they are not."""
        found = "; ".join(differences(earlier, self.identity))
        if not found:
            return ""
        before = self.recorded.get("before")
        windows = before.get("windows") if isinstance(before, dict) else None
        if not self._same_bits(earlier, self.recorded.get("plan"), windows):
            return found
        self.identity = earlier
        return ""

    def _damaged(self, resume: Resume) -> str:
        """Go on from the lines before a damaged one, with a word, unless `resume` is true."""
        if resume == "true":
            return "its journal is damaged"
        if resume == "auto":
            logger.warning(
                "%s: the journal of an earlier run is damaged after %d bytes; what followed is "
                "made again",
                self.output.name,
                self._end,
            )
        return ""

    def _has_others(self) -> bool:
        return any(path.name != NAME for path in self.folder.iterdir())

    def _apply(self, record: Mapping[str, Any]) -> bool:
        """Take over what a line says; return whether it is what a line can say."""
        match record:
            case {"tile": [page, number, offset, length, crc]}:
                if not are_counts(page, number, offset, length, crc) or not length:
                    return False
                self.tiles.setdefault(page, {})[number] = Place(offset, length, crc)
            case {"lost": [page, number]}:
                return are_counts(page, number) and bool(self.tiles.get(page, {}).pop(number, None))
            case {"note": dict(facts)}:
                self.recorded |= facts
            case _:
                return False
        return True

    def _append(self, record: Mapping[str, Any]) -> None:
        with self._appending:
            line, checksum = make_line(record, self._checksum)
            write_at(self._descriptor, line, self._end)
            self._end += len(line)
            self._checksum = checksum

    def store(self, page: int, number: int, place: Place) -> None:
        """Write down that a tile is stored. Raises OSError."""
        self._append({"tile": [page, number, place.offset, place.length, place.crc32]})
        self.tiles.setdefault(page, {})[number] = place

    def lose(self, page: int, number: int) -> None:
        """Write down that a stored tile is lost. Raises OSError."""
        self._append({"lost": [page, number]})
        del self.tiles[page][number]

    def note(self, facts: Mapping[str, Any]) -> None:
        """Write down facts by their names, of kinds that JSON has; see `recorded`.

        Raises OutputError.
        """
        with named_errors(self.output):
            self._append({"note": facts})
        self.recorded |= json.loads(json.dumps(facts))

    @property
    def holds_tiles(self) -> bool:
        """Whether there is anything that a later run would go on with."""
        return any(self.tiles.values())

    def begin_anew(self, reason: str) -> None:
        """Discard what an earlier run left, with a word: it cannot be gone on with.

        Raises:
            ResumeError: where `--resume true` wants it gone on with; nothing is touched then.
            OutputError: if the disk refuses.
        """
        with named_errors(self.output):
            self._discard_what_is_left(reason)

    def discard(self) -> None:
        """Remove the journal, and all that it speaks of; does nothing once it is closed."""
        if self._closed:
            return
        with suppress(OSError):
            self._empty()
            (self.folder / NAME).unlink()
        # From here on another process may begin the image anew: only an empty folder is removed.
        remove_empty(self.folder)
        self._close()

    def close(self) -> None:
        """Leave everything to a later run, if there is anything; does nothing a second time."""
        if not self.holds_tiles:
            self.discard()
        elif not self._closed:
            self._close()

    def _close(self) -> None:
        os.close(self._descriptor)
        self._closed = True

    def _empty(self) -> None:
        """Begin at nothing. The lines go first: what they speak of must not go before them."""
        os.ftruncate(self._descriptor, 0)
        self._end = self._checksum = 0
        self.tiles, self.recorded = {}, {}
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != NAME:
                path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yield in words every fact in which two identities differ."""
    for name in dict.fromkeys((*old, *new)):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if all(isinstance(value, str) and len(value) == 64 for value in (before, after)):
            yield f"{name} differs"  # digests say nothing to a reader
        else:
            yield f"{name} was {before}, and is {after}"


def remove_leftovers(output: Path) -> None:
    """Remove what a run left that was killed after it had finished the image `output`."""
    if work_folder(output).exists():
        with suppress(OutputError):
            Journal(output, {}, "false").discard()


def _open_locked(path: Path, output: Path) -> int:
    """Return a descriptor of the journal, made if it is missing, that no other process holds."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # What is a link leads elsewhere, and a pipe would be waited for: neither is ours.
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
            descriptor = os.open(path, flags, 0o666)
        except FileNotFoundError:
            continue  # another process that finished its image removed the folder in between
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OutputError(f"{path} is no file, where the journal of {output} goes: remove it")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise ResumeError(
                f"{output}: another process is writing this image; wait until it ends, or choose "
                "another --outDir"
            ) from None
        except OSError as error:
            logger.debug("%s: cannot be locked (%s)", path, error.strerror)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)  # removed by the process that had the lock until now
