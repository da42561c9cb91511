"""`exactile partition` as torchrun starts it: real processes, on ports that the system chooses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from program import ENVIRONMENT, Ended

DYING = """
import os, signal
from exactile.distributed import run

original = run.write_parts

def dying(team, *arguments):
    if team.rank == {victim}:
        os.kill(os.getpid(), signal.SIGKILL)
    original(team, *arguments)

run.write_parts = dying
"""
"""Ends a rank, as if it were killed for memory, when its part of the network's output is there."""


def torchrun(
    ranks: int, *words: object, first: str = "", options: tuple[str, ...] = ("--standalone",)
) -> subprocess.Popen[str]:
    """Start `exactile` on so many ranks, after `first`; with 0, without torchrun."""
    kept = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    code = f"{first}\nfrom exactile.cli import main\nmain()"
    launcher: tuple[str, ...] = ()
    if ranks:
        launcher = (sys.executable, "-m", "torch.distributed.run", *options)
        launcher += (f"--nproc-per-node={ranks}", "--no-python")
    return subprocess.Popen(
        [*launcher, sys.executable, "-c", code, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=kept | {"OMP_NUM_THREADS": "1", "NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen[str]) -> Ended:
    out, log = process.communicate(timeout=180)
    return Ended(process.returncode, out, log)


def partition(
    ranks: int, inp_dir: Path, out_dir: Path, first: str = "", **options: object
) -> Ended:
    """Run `exactile partition` on so many ranks; options are named as on the command line."""
    words: list[object] = ["partition", "--inpDir", inp_dir, "--outDir", out_dir]
    for name, value in options.items():
        words += [f"--{name}", value]
    return finish(torchrun(ranks, *words, first=first))
