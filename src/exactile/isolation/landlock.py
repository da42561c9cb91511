"""Landlock: from here on this process changes nothing in any file system, and opens no connection.

Linux has it from 5.13 on, where it is switched on; newer kernels restrict more with it
(https://docs.kernel.org/userspace-api/landlock.html). No privilege is needed. Files can be read, so
that Python finds its modules; what is open already stays open.
"""

from __future__ import annotations

import ctypes

_CREATE, _RESTRICT = 444, 446
"""Numbers of the system calls, the same on every architecture."""

_VERSION = 1

EXECUTE, WRITE_FILE = 1 << 0, 1 << 1
REMOVE_AND_MAKE = sum(1 << bit for bit in range(4, 13))
REFER, TRUNCATE, IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15
TCP = 0b11
SOCKETS_AND_SIGNALS = 0b11


class _Rules(ctypes.Structure):
    _fields_ = (
        ("files", ctypes.c_uint64),
        ("network", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


def restrict() -> str:
    """Forbid this process to change files, run others, and connect; `no_new_privs` must be set.

    Returns what is in force, for people; empty where the kernel has no Landlock.
    """
    library = ctypes.CDLL(None, use_errno=True)
    version = library.syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    if version < 1:
        return ""
    files = EXECUTE | WRITE_FILE | REMOVE_AND_MAKE
    for since, right in ((2, REFER), (3, TRUNCATE), (5, IOCTL_DEVICE)):
        files |= right if version >= since else 0
    rules = _Rules(files, TCP if version >= 4 else 0, SOCKETS_AND_SIGNALS if version >= 6 else 0)
    size = 8 if version < 4 else 16 if version < 6 else 24
    handle = library.syscall(
        _CREATE, ctypes.byref(rules), ctypes.c_size_t(size), ctypes.c_uint32(0)
    )
    if handle < 0 or library.syscall(_RESTRICT, handle, ctypes.c_uint32(0)) != 0:
        return ""
    return f"Landlock {version}"
