"""How the process takes memory from the system: in large pages, and giving back what is free.

A forward pass takes and gives back hundreds of megabytes at every layer. Three habits of the system
stand in the way, on Linux; elsewhere nothing is changed.

- Each fresh page of 4 kB is a fault. PyTorch can ask for pages of 2 MB, if it is told so before its
  first tensor.
- The C library keeps freed blocks of up to 32 MB in heaps, some for each thread, where blocks that
  live longer pin them: memory grows with the length of the run. With a fixed limit, larger blocks
  go straight back to the system; tiles of labels and chunks of 16-bit pixels are below it.
- With that limit fixed, the library gives back what is free at the end of a heap as soon as that is
  128 kB: arrays of a few hundred kilobytes are fresh pages each time.

Measured on two cores with the bundled model, windows of 1216 px, float32: 0.96 s a window without
the first two, 0.43 s with large pages, 0.50 s with both; and 585 MB for images of 67 and of 201 Mpx
alike with both, 979 and 1071 MB without the second, with a narrow network. Tiles and chunks in the
heap, and the third, take another 35 MB whatever the image, and with windows whose memory is used
again they halve the core time of reading and writing (8192 x 8192 px: from 2.4 to 1.2 s).

Python's search for cycles went through all that PyTorch imports again and again: 1.5 of the 11 s
that a run takes to start.
"""

from __future__ import annotations

import ctypes
import gc
import os
from functools import cache

LARGEST_KEPT_BYTES = 2**21 + 2**16
"""Freed blocks above this go back to the system. With a larger limit the feature maps of the small
windows that memory is measured on would stay, and be missing in what is measured."""

KEPT_BYTES = 2**25
"""So much at the end of each heap may stay when it is free."""

GARBAGE_THRESHOLDS = (20_000, 20, 20)
"""New objects before Python looks for cycles; by default it is 700, 10 and 10."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


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
        library.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
