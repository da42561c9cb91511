"""A process that has no folder for temporary files, as in a container with a read-only root.

PyTorch's tracer, which every run needs, imports PyTorch's compiler, and that asks for the folder of
temporary files, and for one of compiled programs in it, when it is imported: where there is none,
the import fails. Nothing is written to them unless something is compiled. So a folder that exists
is named instead, and a run needs no other place to write than its output folder.

Contract: nothing is changed where temporary files can be written. To be called before PyTorch's
tracer or compiler is imported. What does want to write a temporary file is refused by the system,
as before.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

_COMPILED_PROGRAMS = "TORCHINDUCTOR_CACHE_DIR"


def do_without_temporary_files() -> None:
    """Let PyTorch be imported where no temporary file can be made."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        tempfile.tempdir = str(Path(__file__).parent)
        os.environ.setdefault(_COMPILED_PROGRAMS, tempfile.tempdir)
