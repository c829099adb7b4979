"""The C library's allocator in a worker: memory that was freed is used again instead of mapped anew."""

from __future__ import annotations

import ctypes
import os
import platform

FIXED_BY = "MALLOC_TRIM_THRESHOLD_"  # environment variable; Dask sets it for its workers

# Parameters of mallopt (man 3 mallopt), and the values up to which glibc raises them by itself.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
MOST_TRIM, MOST_MMAP = 64 * 2**20, 32 * 2**20


def reuse_freed_memory() -> None:
    """Let glibc keep freed chunks of logits where the environment forbids it; elsewhere it does by itself.

    Where :data:`FIXED_BY` is set when a process starts, glibc stops adapting its thresholds: every tensor above
    128 KiB is mapped, touched page by page and given back. Cells of the shipped model then took twice as long.
    """
    if FIXED_BY in os.environ and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_THRESHOLD, MOST_MMAP)
        libc.mallopt(TRIM_THRESHOLD, MOST_TRIM)
