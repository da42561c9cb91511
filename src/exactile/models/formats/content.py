"""What the loaders of all formats share: reading a file, its digest, its archive, its weights."""

from __future__ import annotations

import hashlib
import io
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import torch
from torch import nn

from exactile.errors import ModelError

EXPORT = (
    "export it where its code is at hand: torch.jit.script(model.eval()).save('model.pt'), or "
    "torch.export.save(torch.export.export(model.eval(), (image,), dynamic_shapes=({2: "
    "torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},)), 'model.pt2')"
)
"""What to do with a model whose file cannot be run."""

LOADING_ERRORS = (
    RuntimeError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    AssertionError,
    NotImplementedError,
    OSError,
    EOFError,
)
"""What libraries raise on files that are damaged, or of another version."""


MOST_UNPACKED = 64
"""How many times its size an archive may unpack to."""

SMALL = 1 << 26
"""Bytes that any archive may unpack to."""


MOST_SHOWN = 60
"""Letters of a file that are quoted."""


def read_content(path: Path) -> bytes:
    """Return the bytes of the file at `path`.

    Raises:
        ModelError: if it is no file, cannot be read, or has more bytes than there is memory for.
    """
    try:
        refuse_endless(path)
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read ({error.strerror}); --model takes the file of a model, or "
            "the folder of one"
        ) from error
    except MemoryError as error:
        raise ModelError(
            f"{path}: has {path.stat().st_size} bytes, more than there is memory for; name the "
            "file of a model"
        ) from error


def refuse_endless(path: Path) -> None:
    """See that `path` is no pipe, which would be waited for, and no device, which may have no end.

    Raises:
        ModelError: if it is.
        OSError: if there is nothing.
    """
    kind = path.stat().st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise ModelError(f"{path}: is a pipe or a device; --model takes a file, or a folder")


def digest_of(*contents: bytes) -> str:
    """Return the SHA-256 of `contents`, one after the other, in hexadecimal digits."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


def open_archive(source: Path | bytes, what: str) -> ZipFile:
    """Return the zip archive in a file or its content; `what` names it in a refusal.

    Two members of one name are refused: readers differ in which of them they take, so what was
    checked need not be what is loaded.

    Raises:
        ModelError: if the archive is damaged.
    """
    try:
        archive = ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source)
    except (BadZipFile, ValueError, OSError, EOFError) as error:
        raise _damaged(what) from error
    if min((info.header_offset for info in archive.infolist()), default=0) > 0:
        # The table of an archive inside this one was found, because its own is missing.
        raise _damaged(what)
    names = [name.lower() for name in archive.namelist()]
    if len(set(names)) < len(names):
        raise ModelError(f"{what}: holds two members of one name; save the model again")
    return archive


def _damaged(what: str) -> ModelError:
    return ModelError(
        f"{what}: is truncated or damaged: it starts as a zip archive does, as models of torch do, "
        "but its table of contents is missing; copy or download it again"
    )


def read_member(archive: ZipFile, name: str, what: str) -> bytes:
    """Return the bytes of a member; `what` names the archive in a refusal.

    Raises:
        ModelError: if the member is damaged.
    """
    try:
        return archive.read(name)
    except (BadZipFile, RuntimeError, ValueError, OSError, EOFError, NotImplementedError) as error:
        raise ModelError(
            f"{what}: its member {name} is damaged ({first_line(error)}); copy or download the "
            "file again"
        ) from error


@dataclass(frozen=True)
class Member:
    """A member of an archive of torch."""

    archive: ZipFile
    name: str
    what: str

    def read(self) -> bytes:
        """Return its bytes.

        Raises:
            ModelError: if it is damaged.
        """
        return read_member(self.archive, self.name, self.what)


def members_of(archive: ZipFile, what: str) -> dict[str, Member]:
    """Return the members of an archive of torch by their names without its folder, in order.

    Names are taken as they are: nothing is decoded, normalised, or looked up in another case.

    Raises:
        ModelError: if members lie in several folders, or if it would unpack to far more than it is.
    """
    names = archive.namelist()
    if len({name.partition("/")[0] for name in names if "/" in name}) > 1:
        raise ModelError(f"{what}: its members lie in several folders; save the model again")
    check_size(archive, what)
    return {inner_name(name): Member(archive, name, what) for name in names}


def repacked(members: Mapping[str, bytes], root: str) -> bytes:
    """Return an archive of `members` in a folder `root`: the same bytes for the same members."""
    result = io.BytesIO()
    with ZipFile(result, "w", ZIP_STORED) as copy:
        for name, content in members.items():
            copy.writestr(ZipInfo(f"{root}/{name}"), content)
    return result.getvalue()


def check_size(archive: ZipFile, what: str) -> None:
    """Refuse an archive that would unpack to far more than it is."""
    packed = sum(info.compress_size for info in archive.infolist())
    unpacked = sum(info.file_size for info in archive.infolist())
    if unpacked > SMALL + MOST_UNPACKED * packed:
        raise ModelError(
            f"{what}: unpacks to {unpacked} bytes from {packed}, as no model does; save the model "
            "again, without compression"
        )


def inner_name(name: str) -> str:
    """Return a member's name without the folder that torch puts around all of its members."""
    return name.partition("/")[2] or name


def shown(text: str) -> str:
    """Return what a file says as it may be printed: in one line, and not much of it."""
    return text[:MOST_SHOWN].encode("unicode_escape").decode("ascii")


def first_line(error: BaseException) -> str:
    """Return what an error says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def prepared(network: nn.Module, what: str) -> nn.Module:
    """Return the network in evaluation mode, without gradients; `what` names it in a refusal.

    Raises:
        ModelError: if its weights are of another type than float32, or not finite.
    """
    with suppress(NotImplementedError):  # Exported programs have no mode: theirs is fixed.
        network.eval()
    for name, tensor in chain(network.named_parameters(), network.named_buffers()):
        if not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        if tensor.dtype is not torch.float32:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ModelError(
                f"{what}: its weights are {kind} ({name}), but networks run in float32 here; "
                "export model.float()"
            )
        if not tensor.isfinite().all():
            raise ModelError(
                f"{what}: its weights hold values that are not finite, among them {name}; use "
                "weights of an earlier step of the training"
            )
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return network
