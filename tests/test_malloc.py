"""What a worker of stage 2 does to its malloc: buffers as large as a batch's feature maps are fetched once."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, resource
from pipeline import engine, malloc
from pipeline.config import ExtractOptions

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        buffer = libc.malloc(50_000_000)
        ctypes.memset(buffer, 1, 50_000_000)
        libc.free(buffer)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

libc = ctypes.CDLL(None)
libc.malloc.argtypes, libc.malloc.restype, libc.free.argtypes = [ctypes.c_size_t], ctypes.c_void_p, [ctypes.c_void_p]
options, digest = engine.resolve(ExtractOptions(weights="random", device="cpu"))
usual = faults()
engine.worker_computer(options, digest, 1)
faults()  # the heap grows once
kept = faults()
print(usual, kept, libc.mallopt(malloc.M_MMAP_THRESHOLD, malloc.LARGEST))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc is Linux's")
def test_a_worker_on_a_cpu_keeps_freed_buffers() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=300)
    usual, kept, takes_so_much = map(int, done.stdout.split())
    assert usual > 100  # 8 buffers of 50 MB, in pages of 4 KB or of 2 MB
    assert kept < usual / 10 or not takes_so_much  # an older glibc keeps buffers of 32 MB and no larger ones
