"""Freed memory is used again in a worker whose environment forbids it, as Dask's does."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from transferstats.engine.allocator import FIXED_BY

ARRAYS, PAGES = 50, 256  # an array is one MiB
FAULTS = f"""
import resource, sys
import numpy as np
from transferstats.engine.allocator import reuse_freed_memory
def touched():
    for _ in range({ARRAYS}):
        np.empty(2**20, dtype=np.uint8).fill(1)
if sys.argv[1:] == ["mended"]:
    reuse_freed_memory()
touched()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touched()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(*arguments: str) -> int:
    """Pages that the kernel hands out while arrays of the same size are made one after the other."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, FIXED_BY: "65536"},
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such thresholds")
def test_freed_memory_is_used_again_where_the_environment_forbids_it() -> None:
    assert page_faults() >= ARRAYS * PAGES
    assert page_faults("mended") < PAGES
