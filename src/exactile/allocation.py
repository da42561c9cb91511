"""How the process takes memory from the system: in large pages, and giving back what is free.

A forward pass takes and gives back hundreds of megabytes at every layer. Two habits of the system
stand in the way, on Linux; elsewhere nothing is changed.

- Each fresh page of 4 kB is a fault. PyTorch can ask for pages of 2 MB, if it is told so before its
  first tensor.
- The C library keeps freed blocks of up to 32 MB in heaps, some for each thread, where blocks that
  live longer pin them: memory grows with the length of the run. With a fixed limit, larger blocks
  go straight back to the system.

Measured on two cores with the bundled model, windows of 1216 px, float32: 0.96 s a window without
both, 0.43 s with large pages, 0.50 s with both; and 585 MB for images of 67 and of 201 Mpx alike
with both, 979 and 1071 MB without the second, with a narrow network. A limit of 2 MB and heaps that
keep 32 MB when it is free would spare tiles and chunks half a second of pages in 8192 x 8192 px,
but small windows, on which the memory of a pass is measured, then show too little of it.

Python's search for cycles went through all that PyTorch imports again and again: 1.5 of the 11 s
that a run takes to start.
"""

from __future__ import annotations

import ctypes
import gc
import os
from functools import cache

LARGEST_KEPT_BYTES = 2**20
"""Freed blocks above this go back to the system."""

GARBAGE_THRESHOLDS = (20_000, 20, 20)
"""New objects before Python looks for cycles; by default it is 700, 10 and 10."""

_M_MMAP_THRESHOLD = -3


@cache
def prepare() -> None:
    """Set all of it for this process, once; to be called before the first tensor is made."""
    # What was imported is there for good; tracing and exporting make very many objects.
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_M_MMAP_THRESHOLD, LARGEST_KEPT_BYTES)
