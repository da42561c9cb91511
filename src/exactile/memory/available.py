"""How many bytes this process may still take: of the machine, of its container, of its device.

On the host that is the least of

- what the machine has available (MemAvailable, which counts the page cache it can give back);
- for the process's control group and every group above it, the limit less what is used. Pages of
  files that were read once and can be dropped (inactive_file) are not in use;
- the process's own limits of address space and of data (ulimit -v and -d).

On a CUDA device it is what the driver has free, and what PyTorch holds without using it.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from exactile.control_groups import ROOT, Group, groups, text_of
from exactile.memory.size import format_size

AUTO_SHARE = 0.8
"""Share of what is left that `--memory auto` takes; others may want some of it later."""

AUTO_STEP = 2**28
"""It is rounded down to a multiple of this, so that two runs on one machine mostly agree."""

_LIMITS = (
    (resource.RLIMIT_AS, "VmSize", "address space (ulimit -v)"),
    (resource.RLIMIT_DATA, "VmData", "data (ulimit -d)"),
)


@dataclass(frozen=True, slots=True)
class Available:
    """A number of bytes, and where it comes from."""

    bytes: int
    """What may still be taken; never below 0."""
    reason: str
    """What set the limit, as the rest of a sentence: 'of the machine's memory'."""

    def sentence(self) -> str:
        """Return the finding in words."""
        return f"{format_size(self.bytes)} {self.reason}"


@dataclass(frozen=True, slots=True)
class _Files:
    """Where one version of the control groups keeps what."""

    limits: tuple[str, ...]
    usage: str
    reclaimable: str


_FILES = {
    1: _Files(("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),
    2: _Files(("memory.max", "memory.high"), "memory.current", "inactive_file"),
}


def memory_budget(
    memory: Literal["auto"] | int, device: torch.device, root: Path = ROOT
) -> Available:
    """Return what a run may take on `device`: `memory` bytes, or most of what is left there."""
    if memory != "auto":
        return Available(memory, "as --memory says")
    left = available_memory(device, root)
    share = int(AUTO_SHARE * left.bytes)
    return Available(
        max(share - share % AUTO_STEP, min(share, AUTO_STEP)),
        f"of the {format_size(left.bytes)} left {left.reason}",
    )


def available_memory(device: torch.device, root: Path = ROOT) -> Available:
    """Return what this process may still take on `device`; `root` stands for the file system's."""
    return available_on_device(device) if device.type == "cuda" else available_on_host(root)


def available_on_device(device: torch.device) -> Available:
    """Return what may still be taken on a CUDA device."""
    free, total = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return Available(free + unused, f"of the {format_size(total)} of {device}")


def available_on_host(root: Path = ROOT) -> Available:
    """Return what may still be taken of the host's memory: the least that any limit leaves."""
    in_groups = (left for group in groups("memory", root) for left in _left_in(group))
    found = [_machine(root), *in_groups, *_own_limits(root)]
    return min(found, key=lambda available: available.bytes)


def _machine(root: Path) -> Available:
    kilobytes = _fields(root / "proc/meminfo")
    if "MemAvailable" in kilobytes:
        return Available(kilobytes["MemAvailable"] * 1024, "of the machine's memory")
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Available(total, "of the machine's memory, if nothing else uses it")


def _left_in(group: Group) -> Iterator[Available]:
    """Yield what is left in one group, if it has a limit."""
    files = _FILES[group.version]
    limits = [number for file in files.limits for number in _number(group.folder / file)]
    used = _number(group.folder / files.usage)
    if limits and used:
        reclaimable = _fields(group.folder / "memory.stat").get(files.reclaimable, 0)
        left = min(limits) - max(0, used[0] - reclaimable)
        where = "the container" if group.name == "/" else f"control group {group.name}"
        yield Available(max(0, left), f"of the {format_size(min(limits))} allowed to {where}")


def _own_limits(root: Path) -> Iterator[Available]:
    used = _fields(root / "proc/self/status")
    for kind, field, name in _LIMITS:
        limit, _ = resource.getrlimit(kind)
        if limit != resource.RLIM_INFINITY and field in used:
            left = max(0, limit - used[field] * 1024)
            yield Available(left, f"of the process's limit of {name}")


def _fields(path: Path) -> dict[str, int]:
    """Return the numbers of a file of lines such as `name: 12 kB` or `name 12`."""
    words = (line.split() for line in text_of(path).splitlines())
    return {w[0].rstrip(":"): int(w[1]) for w in words if len(w) > 1 and w[1].isdecimal()}


def _number(path: Path) -> list[int]:
    """Return the number in a file; nothing where there is none, as in `max`."""
    text = text_of(path).strip()
    return [int(text)] if text.isdecimal() else []
