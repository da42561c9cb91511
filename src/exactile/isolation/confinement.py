"""What a child process gives up before it looks at anything from elsewhere.

In this order, each where the system has it; what is missing leaves the others in force:

- limits (everywhere): no file grows by a byte, no core is dumped, so much memory and so much time;
- Landlock (Linux 5.13 and newer): no file or folder is changed, no program run, no connection made;
- seccomp (Linux on x86-64 and arm64): no system call but those that compute and read.

None needs a privilege or a package, and none can be taken back.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from contextlib import suppress
from pathlib import Path

from exactile.isolation import landlock, seccomp

_DEATH_SIGNAL, _NO_NEW_PRIVILEGES = 1, 38


def confine(memory_bytes: int, seconds: int) -> tuple[str, ...]:
    """Confine this process to `memory_bytes` more than it has, and `seconds` of computation.

    Returns what is in force, for people.
    """
    _limit(memory_bytes, seconds)
    library = ctypes.CDLL(None)
    found = []
    if hasattr(library, "prctl"):
        library.prctl(_DEATH_SIGNAL, signal.SIGKILL)
        if library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0:
            found = [landlock.restrict(), seccomp.restrict()]
    return (*(name for name in found if name), "limits")


def _limit(memory_bytes: int, seconds: int) -> None:
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CPU: seconds,
    }
    taken = _taken()
    if taken:
        limits[resource.RLIMIT_DATA] = taken + memory_bytes
    for limit, value in limits.items():
        most = resource.getrlimit(limit)[1]
        low, high = (
            bound if most == resource.RLIM_INFINITY else min(bound, most)
            # A second more for the word that time is up.
            for bound in (value, value + (limit == resource.RLIMIT_CPU))
        )
        with suppress(OSError, ValueError):
            resource.setrlimit(limit, (low, high))


def _taken() -> int:
    """Return the bytes of data that this process has already; 0 where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        lines = dict(line.split(":", 1) for line in status.splitlines())
        return int(lines["VmData"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        return 0


def forget_files(*kept: int) -> None:
    """Close all files of this process but `kept`; its standard streams lead nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    first = 3
    for descriptor in sorted({*kept}):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))
