"""Log lines on stderr."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

from exactile.errors import SettingsError

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

logger = logging.getLogger("exactile")


def log_to_stderr(level: str) -> None:
    """Write log lines from `level` on (INFO where it is empty).

    Raises:
        SettingsError: if there is no such level.
    """
    handler = _LateStderr()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    # What tifffile says of a damaged file, the error that names the file says too.
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    name = (level or "INFO").upper().removeprefix("LOGGING.")
    if name not in LOG_LEVELS:
        raise SettingsError(f"POLUS_LOG={level}: is not a log level; use {', '.join(LOG_LEVELS)}")
    logger.setLevel(name)


class _LateStderr(logging.StreamHandler[TextIO]):
    """Writes to what is sys.stderr at the time: a progress bar puts itself in its place."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _: TextIO) -> None:
        """Do nothing: the base class sets it once, in its constructor."""
