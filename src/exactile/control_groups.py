"""The control groups that this process is in, where Linux and containers keep their limits.

Version 1 and version 2 are understood, and both at once. In a container only its own part of the
path is to be seen, where its own limit stands at the root; so the group and every one above it is
looked for, below each place where one may be mounted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

ROOT = Path("/")

MOUNTS = {1: ("sys/fs/cgroup/{controller}",), 2: ("sys/fs/cgroup", "sys/fs/cgroup/unified")}


@dataclass(frozen=True, slots=True)
class Group:
    """One group for a controller, which may have no limit, or not be there."""

    version: Literal[1, 2]
    name: str
    """Its path among the groups; / for the container's own, or the machine."""
    folder: Path
    """Where its files are."""


def groups(controller: str, root: Path = ROOT) -> Iterator[Group]:
    """Yield the groups of this process for `controller`: memory, cpu.

    `root` stands for the root of the file system.
    """
    for line in text_of(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (line + "::").split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        version: Literal[1, 2] = 1 if controllers else 2
        group = PurePosixPath(path.removesuffix("::") or "/")
        names = {controller, controllers} if controllers else {controller}
        for mount in dict.fromkeys(
            form.format(controller=name) for form in MOUNTS[version] for name in sorted(names)
        ):
            for part in (group, *group.parents):
                yield Group(version, str(part), root / mount / str(part).strip("/"))


def cpu_quota(root: Path = ROOT) -> float | None:
    """Return how many CPUs the groups let this process take in all; None where they say nothing."""
    found = [quota for group in groups("cpu", root) for quota in _quota_of(group)]
    return min(found, default=None)


def _quota_of(group: Group) -> Iterator[float]:
    if group.version == 2:
        words = text_of(group.folder / "cpu.max").split()
    else:
        words = [
            text_of(group.folder / name).strip()
            for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        ]
    match words:
        # `max` and -1 are no quota.
        case [quota, period] if quota.isdecimal() and period.isdecimal() and int(period):
            yield int(quota) / int(period)


def text_of(path: Path) -> str:
    """Return a file's text; nothing where the system has no such file."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
