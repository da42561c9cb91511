"""How far a run is: a bar on a terminal, a log line every few seconds elsewhere."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 5.0


class Watcher(Protocol):
    """Is told of each image that begins and of the pixels that are done."""

    def begin(self, name: str, pixels: int) -> None:
        """Take note of an image of `pixels` pixels that begins."""

    def advance(self, pixels: int) -> None:
        """Take note of `pixels` more pixels that are written."""


class LogWatcher:
    """Writes a line to the log when an image begins, and every few seconds after that."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def begin(self, name: str, pixels: int) -> None:
        """Start counting for the next image."""
        self._name, self._total, self._done = name, pixels, 0
        self._begun = self._spoken = time.monotonic()

    def advance(self, pixels: int) -> None:
        """Count, and speak if it is time."""
        self._done += pixels
        now = time.monotonic()
        if now - self._spoken < SECONDS_BETWEEN_LINES:
            return
        self._spoken = now
        speed = self._done / (now - self._begun)
        logger.info(
            "%s: %.0f %%, %.2f Mpx/s, %.0f s left",
            self._name,
            100 * self._done / self._total,
            speed / 1e6,
            (self._total - self._done) / speed,
        )


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{(task.speed or 0) / 1e6:.2f} Mpx/s")


class BarWatcher:
    """Draws one bar, for the image at hand."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            _Speed(),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console, transient=True, speed_estimate_period=120)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def begin(self, name: str, pixels: int) -> None:
        """Show a bar for the next image in the place of the last one."""
        for task in self._bar.task_ids:
            self._bar.remove_task(task)
        self._task = self._bar.add_task(name, total=pixels)

    def advance(self, pixels: int) -> None:
        """Move the bar."""
        self._bar.advance(self._task, pixels)


def make_watcher(console: Console) -> LogWatcher | BarWatcher:
    """Return the bar where `console` is a terminal, else the log lines."""
    return BarWatcher(console) if console.is_terminal else LogWatcher()
