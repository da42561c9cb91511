"""The files of a training on several ranks, which the first rank alone reads and writes.

A checkpoint is whole under its name, or the one before it is. The log has a line for each step that
the checkpoint knows, and for later ones until the run goes on from it: then they are made again.
"""

from __future__ import annotations

import io
import json
import os
import pickle
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from exactile.errors import SettingsError
from exactile.partition import Mesh

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"
UNREADABLE = (OSError, RuntimeError, ValueError, EOFError, LookupError, pickle.UnpicklingError)
"""What PyTorch raises for a file that is none of its own, or not whole."""


class Records:
    """The files of a run, which the first rank alone reads and writes."""

    def __init__(self, folder: Path, mesh: Mesh) -> None:
        self.folder, self.first = folder, mesh.rank == 0

    def begin(self, resume: bool) -> dict[str, Any] | None:
        """Return on every rank the state to go on from, or None to start anew."""
        told: list[Any] = [None]
        if self.first:
            try:
                told = [self._read(resume)]
            except SettingsError as error:
                told = [str(error)]
        # All ranks wait for what the first one says, or they would wait for its error.
        dist.broadcast_object_list(told, src=0)
        if isinstance(told[0], str):
            raise SettingsError(told[0])
        state: dict[str, Any] | None = told[0]
        return state

    def _read(self, resume: bool) -> dict[str, Any] | None:
        path = self.folder / CHECKPOINT
        if not resume:
            if path.exists():
                raise SettingsError(
                    f"--out {self.folder}: there is a checkpoint in it; give --resume to go on "
                    "from it, or another folder"
                )
            return None
        if not path.is_file():
            raise SettingsError(f"--resume: there is no {path}; train without --resume first")
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except UNREADABLE as error:
            raise SettingsError(
                f"--resume: {path} cannot be read ({type(error).__name__}); train into another "
                "folder"
            ) from error
        return state

    def keep(self, steps: int) -> None:
        """Forget what the log says of later steps than the checkpoint's."""
        if self.first:
            self.folder.mkdir(parents=True, exist_ok=True)
            log = self.folder / LOG
            lines = log.read_text().splitlines() if log.exists() and steps else []
            kept = [line for line in lines if json.loads(line)["step"] <= steps]
            _replace(log, "".join(f"{line}\n" for line in kept).encode())

    def log(self, line: dict[str, float], seconds: float) -> None:
        """Add a line to the log, and print it with the time it took."""
        if self.first:
            with (self.folder / LOG).open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(json.dumps(line | {"seconds": round(seconds, 2)}), flush=True)

    def save(self, state: dict[str, Any]) -> None:
        """Write the checkpoint, whole or not at all."""
        if self.first:
            content = io.BytesIO()
            torch.save(state, content)
            _replace(self.folder / CHECKPOINT, content.getvalue())


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(f"{path.name}.new")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
