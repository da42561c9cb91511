"""How the process takes memory from the system: in large pages, and giving back what is free.

A forward pass takes and gives back hundreds of megabytes for every layer. Two habits of the system
stand in the way, on Linux; elsewhere nothing is changed.

- Each fresh 4 kB page is a fault. PyTorch can ask for pages of 2 MB, but only if told so before its
  first tensor.
- The C library keeps freed blocks of up to 32 MB in heaps, one set for each thread, where long-lived
  blocks pin them: memory grows with the length of the run. With a fixed limit, larger blocks go
  straight back to the system.

Figures are in docs/results.
"""

from __future__ import annotations

import ctypes
import os

LARGEST_KEPT_BYTES = 2**20
"""Freed blocks above this go back to the system."""

_M_MMAP_THRESHOLD = -3


def prepare() -> None:
    """Set both for this process; call it before PyTorch is imported."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_M_MMAP_THRESHOLD, LARGEST_KEPT_BYTES)
