"""The memory that a piece of work takes while it runs: on the host, or on a CUDA device.

On the host it is resident memory, as the kernel counts it: Linux keeps the peak by itself and lets
it be set back; where that is forbidden, a thread looks every few milliseconds. On a CUDA device it
is what PyTorch takes from the driver, for which what it holds without use is first given back.

What other threads take meanwhile counts as well: measure while nothing else goes on.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import torch

PROCESS = Path("/proc/self")
SAMPLE_SECONDS = 0.002


def measure_peak(
    device: torch.device, work: Callable[[], object], process: Path = PROCESS
) -> int | None:
    """Run `work` and return the most bytes of the memory of `device` that it took beside others.

    None where the host does not say; the work is done all the same. `process` is the folder of the
    process's figures.
    """
    gc.collect()
    if device.type == "cuda":
        return _on_device(device, work)
    if not (process / "statm").exists():
        work()
        return None
    before = _resident(process)
    with _watched(process) as peak:
        work()
    return max(0, peak() - before)


def _on_device(device: torch.device, work: Callable[[], object]) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_reserved(device)
    work()
    torch.cuda.synchronize(device)
    return max(0, torch.cuda.max_memory_reserved(device) - before)


@contextmanager
def _watched(process: Path) -> Iterator[Callable[[], int]]:
    """Note the highest resident memory while entered; to be asked for after that."""
    try:
        # 5 sets the kernel's own mark back to what is resident now.
        (process / "clear_refs").write_text("5", encoding="ascii")
    except OSError:
        sampler = _Sampler(process)
        with sampler:
            yield lambda: sampler.highest
    else:
        yield lambda: _marked(process)


class _Sampler:
    """Looks at resident memory again and again, in a thread of its own."""

    def __init__(self, process: Path) -> None:
        self.highest = 0
        self._process = process
        self._done = Event()
        self._thread = Thread(target=self._look, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            self.highest = max(self.highest, _resident(self._process))
            if self._done.wait(SAMPLE_SECONDS):
                return


def _resident(process: Path) -> int:
    pages = (process / "statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _marked(process: Path) -> int:
    status = (process / "status").read_text(encoding="utf-8", errors="replace")
    (kilobytes,) = (x.split()[1] for x in status.splitlines() if x.startswith("VmHWM:"))
    return int(kilobytes) * 1024
