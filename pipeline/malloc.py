"""glibc's malloc, told to keep what is freed.

In: nothing. Out: settings of this process's malloc, for as long as it lives. A batch's feature maps are 10 to 50 MB
each; as malloc comes, every one of them is fetched from the system, page by page, and given back after its layer.
`benchmarks/backbone.py` measures both ways. Source: mallopt(3).
"""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h
LARGEST = 2**31 - 1  # bytes; mallopt takes an int
LARGEST_BEFORE = 2**25  # of the mmap threshold, in an older glibc


def keep_freed_memory() -> bool:
    """Large buffers from the heap, which is not given back; False where malloc is not glibc's.

    The process then keeps as much memory as it once needed at a time. One heap for all threads: those of further
    heaps hold 64 MB at most, and are unmapped as soon as they are empty.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library, musl for one
        return False
    mallopt(M_ARENA_MAX, 1)
    mallopt(M_TRIM_THRESHOLD, LARGEST)
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST)) or bool(mallopt(M_MMAP_THRESHOLD, LARGEST_BEFORE))
