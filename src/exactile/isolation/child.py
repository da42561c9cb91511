"""Doing something in a child process that is confined, and what became of it.

The child is a fork: it has all that was imported, so that it starts in milliseconds. It has one
thread, and must not need the other ones of its parent. What it answers is text. It ends with the
parent, also where that is killed.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import select
import signal
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from exactile.errors import ModelError
from exactile.isolation.confinement import confine, forget_files

logger = logging.getLogger(__name__)

MOST_ANSWERED = 1 << 20
"""Bytes that a child may answer."""

MOST_SAID = 1000
"""Letters of an error that are passed on."""

PATIENCE = 10
"""How many times longer than its time of computation a child may take, on a busy machine."""

_DONE = "done"

Tell = Callable[[str], None]
"""Tells what is done next, in words that go on from `while`."""


@dataclass(frozen=True)
class Outcome:
    """What became of a child."""

    refused: str = ""
    """The message of a ModelError that it raised; empty where it raised none."""
    ended: str = ""
    """How it was ended before it was done, in words; empty where it was not."""
    during: str = ""
    """What it was doing last, in words that go on from `while`."""


@dataclass(frozen=True)
class Bounds:
    """What a child may take."""

    memory_bytes: int
    seconds: int
    """Of computation."""


def can_confine() -> bool:
    """Return whether this system has child processes as they are made here."""
    return hasattr(os, "fork")


def run_confined(work: Callable[[Tell], None], bounds: Bounds) -> Outcome:
    """Do `work` in a confined child, and return what became of it.

    Raises:
        ModelError: if no process can be started.
    """
    reading, writing = os.pipe()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which are not needed
            child = os.fork()
    except OSError as error:
        os.close(reading)
        os.close(writing)
        raise ModelError(
            f"no process can be started to try a model in ({error.strerror}); raise the limit of "
            "processes, or of memory"
        ) from error
    if child == 0:
        _be_child(work, writing, bounds)
    os.close(writing)
    ended = False
    try:
        answer = _listen(reading, time.monotonic() + PATIENCE * bounds.seconds)
        ended = answer is not None
    finally:
        os.close(reading)
        if not ended:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    return _outcome(answer, os.waitstatus_to_exitcode(status), bounds)


def _listen(reading: int, deadline: float) -> list[dict[str, Any]] | None:
    """Return what a child says until it ends; None where it takes too long or says too much."""
    heard = b""
    while len(heard) <= MOST_ANSWERED:
        ready, _, _ = select.select([reading], [], [], max(deadline - time.monotonic(), 0.0))
        if not ready:
            return None
        part = os.read(reading, 1 << 16)
        if not part:
            return _lines(heard)
        heard += part
    return None


def _lines(heard: bytes) -> list[dict[str, Any]]:
    """Return the whole lines; a child that was ended may have left part of one."""
    found = []
    for line in heard.decode("utf-8", "replace").splitlines():
        with suppress(ValueError):
            said = json.loads(line)
            if isinstance(said, dict):
                found.append({str(key): str(value) for key, value in said.items()})
    return found


def _outcome(answer: list[dict[str, Any]] | None, code: int, bounds: Bounds) -> Outcome:
    said: dict[str, Any] = {}
    for line in answer or []:
        said |= line
    if "in_force" in said:
        logger.info("models are tried in a process of their own, confined by %s", said["in_force"])
    during = said.get("during", "it started")
    if "refused" in said:
        return Outcome(refused=said["refused"], during=during)
    if _DONE in said:
        return Outcome(during=during)
    if "failed" in said:
        return Outcome(ended=f"it failed: {said['failed']}", during=during)
    if answer is None or code == -signal.SIGXCPU:
        return Outcome(ended=f"it was not done after {bounds.seconds} s", during=during)
    if code < 0:
        return Outcome(ended=f"it was ended by {_name(-code)}", during=during)
    return Outcome(ended=f"it ended by itself, with code {code}", during=during)


def _name(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    meaning = {"SIGSEGV": "memory that is not there", "SIGKILL": "no memory left, most likely"}
    return f"{name} ({meaning[name]})" if name in meaning else name


def _be_child(work: Callable[[Tell], None], writing: int, bounds: Bounds) -> None:
    """Do the work, say what became of it, and end: nothing of the parent's goes on here."""
    code = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        gc.disable()
        logging.disable(logging.CRITICAL)
        warnings.simplefilter("ignore")
        forget_files(writing)
        torch.set_num_threads(1)
        in_force = confine(bounds.memory_bytes, bounds.seconds)
        _say(writing, in_force=", ".join(in_force))
        try:
            work(lambda during: _say(writing, during=during))
            _say(writing, done="")
        except ModelError as error:
            _say(writing, refused=str(error))
        except Exception as error:  # noqa: BLE001 - said to the parent, which raises it
            _say(writing, failed=f"{type(error).__name__}: {error}"[:MOST_SAID])
        code = 0
    finally:
        os._exit(code)


def _say(writing: int, **said: str) -> None:
    left = json.dumps(said).encode() + b"\n"
    while left:
        left = left[os.write(writing, left) :]
