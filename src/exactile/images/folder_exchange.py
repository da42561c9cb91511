"""How a folder gets a name that another one has: at no moment is there none of that name.

Linux changes the names of two folders in one step, on most file systems. Where that cannot be, the
old one steps aside first, to `replaced` in the work folder, and a kill before the new one has the
name leaves none: the next run gives the old one its name back. What is to be removed is called
`removed` before the first file of it goes, so that what is called `replaced` is always whole.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

REPLACED, REMOVED = "replaced", "removed"

_HERE = -100  # AT_FDCWD: paths are those of this process
_EXCHANGE = 2  # RENAME_EXCHANGE
_CANNOT = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}


def replace_folder(new: Path, name: Path, work_folder: Path) -> None:
    """Give the folder `new` the `name`, and remove the one that has had it.

    Raises OSError; `name` is the old one then.
    """
    if not name.exists():
        new.rename(name)
        return
    if exchange(new, name):
        old = new
    else:
        old = work_folder / REPLACED
        name.rename(old)
        try:
            new.rename(name)
        except OSError:
            old.rename(name)
            raise
    # From here on `name` is the new one, whatever becomes of the old.
    with suppress(OSError):
        _remove(old, work_folder)


def give_back(name: Path, work_folder: Path) -> None:
    """Give a folder that stepped aside its `name` back, where a kill left none. Raises OSError."""
    shutil.rmtree(work_folder / REMOVED, ignore_errors=True)
    old = work_folder / REPLACED
    if not old.exists():
        return
    if name.exists():
        _remove(old, work_folder)
    else:
        old.rename(name)


def exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two folders in one step; return False where that cannot be.

    Raises OSError where it can be, and fails.
    """
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    if rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _CANNOT:
        return False
    raise OSError(code, os.strerror(code), str(other))


def _remove(old: Path, work_folder: Path) -> None:
    removed = work_folder / REMOVED
    shutil.rmtree(removed, ignore_errors=True)
    old.rename(removed)
    shutil.rmtree(removed)
