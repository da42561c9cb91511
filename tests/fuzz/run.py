"""Spoilt files by the thousand: `python tests/fuzz/run.py COUNT [KIND ...]`.

Each batch runs in a process of its own, which may take 2 GB, and 20 s for an input. What ends in
another error than one for people, is killed or takes too long is printed with its seed, which makes
it again. The exit code is 1 if there is any.
"""

from __future__ import annotations

import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS)]

from fuzz.kinds import KINDS, Kind, failures  # noqa: E402

BATCH = 250
SECONDS, BYTES = 20, 2 * 10**9


def main(count: int, names: list[str]) -> int:
    """Run `count` inputs of each kind, and return how many failed."""
    logging.disable(logging.CRITICAL)
    bad = 0
    for name in names:
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            kind = KINDS[name](Path(folder) / "valid")
            wrong = sum(
                _batch(name, kind, Path(folder), range(first, min(first + BATCH, count)))
                for first in range(0, count, BATCH)
            )
        print(f"{name}: {wrong} of {count} failed, {time.monotonic() - begun:.0f} s", flush=True)
        bad += wrong
    return bad


def _batch(name: str, kind: Kind, folder: Path, seeds: range) -> int:
    """Return how many of `seeds` fail, each in turn until the process is killed by one."""
    child = os.fork()
    if not child:
        wrong = 0
        held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (held + BYTES, held + BYTES))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        for seed in seeds:
            signal.alarm(SECONDS)
            for _, error in failures(kind, folder / "work", range(seed, seed + 1)):
                wrong += 1
                print(f"{name} {seed}:", *traceback.format_exception(error)[-3:], flush=True)
        strangers = {path.name for path in folder.iterdir()} - {"valid", "work"}
        if strangers:
            print(f"{name} {seeds}: left {', '.join(strangers)} outside", flush=True)
            wrong += 1
        os._exit(min(wrong, 255))
    _, status = os.waitpid(child, 0)
    shutil.rmtree(folder / "work", ignore_errors=True)
    if os.WIFSIGNALED(status):
        print(f"{name} {seeds}: killed by {signal.Signals(os.WTERMSIG(status)).name}", flush=True)
        return 1
    return os.WEXITSTATUS(status)


if __name__ == "__main__":
    sys.exit(1 if main(int(sys.argv[1]), sys.argv[2:] or list(KINDS)) else 0)
