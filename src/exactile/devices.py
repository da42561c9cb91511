"""Which device a run computes on, and how many threads it may use there."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from exactile.control_groups import ROOT, cpu_quota
from exactile.errors import SettingsError

MOST_THREADS = 1024
"""More are a mistake; far more end the process."""


def choose_device(name: str) -> torch.device:
    """Return the device called `name`: auto, cpu, cuda, or cuda:N.

    Where torchrun started several processes on this machine, which LOCAL_RANK numbers, auto and
    cuda give each a GPU of its own, in turn if there are fewer.

    Raises:
        SettingsError: if there is no such device here.
    """
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and available == 0):
        return torch.device("cpu")
    _, chosen, number = name.partition(":")
    index = int(number) if chosen else _local_rank() % max(available, 1)
    if index >= available:
        found = f"{available} CUDA devices" if available else "no CUDA device"
        raise SettingsError(
            f"--device {name}: this machine has {found}; use --device auto to take what there is"
        )
    return torch.device("cuda", index)


def _local_rank() -> int:
    text = os.environ.get("LOCAL_RANK", "").strip() or "0"
    if not text.isdecimal():
        raise SettingsError(
            f"LOCAL_RANK={text}: is not the number of a process on this machine, from 0; unset it, "
            "or give --device cuda:N"
        )
    return int(text)


def limit_threads(value: str | None, root: Path = ROOT) -> None:
    """Give PyTorch `value` threads (environment NUM_THREADS); else those this process may use.

    Those are as many as it has cores, and CPUs in the quota of its control groups: of a quota of
    1.5, one thread takes what two would have to wait for. `root` stands for the file system's.
    The other engines take as many threads as PyTorch has.

    Raises:
        SettingsError: if `value` is not a number from 1 to MOST_THREADS.
    """
    if not value:
        cores, quota = len(os.sched_getaffinity(0)), cpu_quota(root)
        torch.set_num_threads(cores if quota is None else max(1, min(cores, int(quota))))
        return
    if not value.isdecimal() or not 1 <= int(value) <= MOST_THREADS:
        raise SettingsError(
            f"NUM_THREADS={value}: is not a number of threads; use 1 to {MOST_THREADS}"
        )
    torch.set_num_threads(int(value))


def name_device(device: torch.device) -> str:
    """Return the name of `device`, for people; it is the same at every run on one machine.

    GPUs of one kind have one name, whatever their numbers: they give the same bits.
    """
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"cpu{in_threads()}"


def in_threads() -> str:
    """Return the number of threads as the end of a device's name."""
    return f" ({torch.get_num_threads()} threads)"
