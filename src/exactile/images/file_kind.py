"""What has the name of an image and cannot be one, whatever it holds."""

from __future__ import annotations

import stat
from pathlib import Path

from exactile.errors import ImageError

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_kind(path: Path) -> None:
    """See that `path` is a file or a folder, or a link to one, with a name that results can have.

    Nothing is opened: a pipe would never answer. Raises ImageError.
    """
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        raise ImageError(
            f"{path.name!a} in {path.parent} has a name that is not UTF-8, which results and "
            "what reads them could not have: rename it"
        ) from error
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except FileNotFoundError as error:
        if path.is_symlink():
            raise ImageError(
                f"{path} is a link to {path.readlink()}, which is not there: copy it here, or see "
                "that the folder it points to is there too, also inside a container"
            ) from error
        raise ImageError(f"{path} does not exist: check the name and the folder") from error
    except OSError as error:
        raise ImageError(f"{path} cannot be opened: {error.strerror or error}") from error
    if kind in _KINDS:
        raise ImageError(f"{path} is {_KINDS[kind]}, not an image file: leave it out")
