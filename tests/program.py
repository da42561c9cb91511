"""The program as it is run: with its arguments and environment, until it exits."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from exactile.cli import main

ENVIRONMENT = (
    *("POLUS_LOG", "POLUS_IMG_EXT", "NUM_THREADS"),
    *("JOB_COMPLETION_INDEX", "JOB_COMPLETION_COUNT", "RANK", "WORLD_SIZE"),
)


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int
    out: str
    log: str
    """What went to stderr."""

    @property
    def errors(self) -> list[str]:
        """The messages of level ERROR."""
        lines = (line.partition(" ERROR ") for line in self.log.splitlines())
        return [message for _, level, message in lines if level]


def arguments(inp_dir: Path, out_dir: Path, *rest: object, **options: object) -> list[str]:
    """Return the command line of `exactile segment`; options are named as on it.

    Eager PyTorch begins soonest; what runs on another engine, or on what `auto` takes, says so.
    """
    words: list[object] = ["segment", "--inpDir", inp_dir, "--outDir", out_dir]
    for name, value in ({"engine": "eager"} | options).items():
        words += [f"--{name}", value]
    return [str(word) for word in (*words, *rest)]


def call(words: list[str], **environment: str) -> Ended:
    """Run the program in this process, and leave the process as it was."""
    out, log = io.StringIO(), io.StringIO()
    logger = logging.getLogger("exactile")
    handlers, level, threads = list(logger.handlers), logger.level, torch.get_num_threads()
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["exactile", *words])
        for name in ENVIRONMENT:
            patch.delenv(name, raising=False)
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(log):
                main()
        except SystemExit as end:
            code = int(end.code or 0)
        else:
            code = 0
        finally:
            logger.handlers[:] = handlers
            logger.setLevel(level)
            torch.set_num_threads(threads)
            for number, handler in signals.items():
                signal.signal(number, handler)
    return Ended(code, out.getvalue(), log.getvalue())


def start(words: list[str], first: str = "", **environment: str) -> subprocess.Popen[str]:
    """Start the program in a process of its own, after the Python statements `first`."""
    code = f"{first}\nfrom exactile.cli import main\nmain()"
    kept = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=kept | environment,
    )


def finish(process: subprocess.Popen[str]) -> Ended:
    """Wait for a program that was started."""
    out, log = process.communicate(timeout=120)
    return Ended(process.returncode, out, log)


def files_in(folder: Path) -> list[str]:
    """Return every file under `folder`, hidden ones too, by its path from there."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def results_in(folder: Path) -> list[str]:
    """Return every file under `folder` but the report and the previews, which are for people."""
    return [name for name in files_in(folder) if not name.startswith("exactile/")]
