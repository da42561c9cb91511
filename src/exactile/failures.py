"""Why the work on an image, or the whole run, ended: the one message that people get.

Errors that are for people speak for themselves. Whatever else is raised is a defect, or a file that
is damaged in a way that nobody thought of. It is a failure of that image alone: the others go on,
and the exit code says so. The log shows its traceback with POLUS_LOG=DEBUG.
"""

from __future__ import annotations

import logging
from pathlib import Path

from exactile.errors import ExactileError

logger = logging.getLogger(__name__)


def explain(error: Exception, path: Path | None = None) -> str:
    """Return why the work on `path` failed, or the whole run."""
    where = "" if path is None else f"{path}: "
    if isinstance(error, ExactileError):
        text = str(error)
    elif isinstance(error, MemoryError):
        text = f"{where}memory ran out ({error}); use a smaller --tileSize"
    else:
        logger.debug("%swas ended by", where, exc_info=error)
        said = " ".join(str(error).split()) or "nothing more is said"
        text = (
            f"{where}unexpected {type(error).__name__} ({said}): the file is damaged in an unknown "
            "way, or exactile has a defect; POLUS_LOG=DEBUG shows where: report it with the file"
        )
    return "; ".join([text, *getattr(error, "__notes__", ())])
