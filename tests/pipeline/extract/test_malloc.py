"""The malloc of a worker of stage 2: buffers of a batch's feature maps are allocated from the system once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipeline.extract import compute

pytestmark = pytest.mark.processes

SCRIPT = """
import ctypes, resource
from pipeline.config import ExtractOptions
from pipeline.extract import compute

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        buffer = libc.malloc(50_000_000)
        ctypes.memset(buffer, 1, 50_000_000)
        libc.free(buffer)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

libc = ctypes.CDLL(None)
libc.malloc.argtypes, libc.malloc.restype, libc.free.argtypes = [ctypes.c_size_t], ctypes.c_void_p, [ctypes.c_void_p]
options, weights = compute.resolve(ExtractOptions(weights="random", device="cpu"))
usual = faults()
compute.worker_computer(options, weights["sha256"], 1)
faults()  # the heap grows once
kept = faults()
here = hasattr(libc, "mallopt") and libc.mallopt(compute.M_MMAP_THRESHOLD, compute.MAX_THRESHOLD)
print(usual, kept, int(here))
"""


def test_a_worker_on_a_cpu_keeps_freed_buffers() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=600)
    usual, kept, set_here = map(int, done.stdout.split())
    assert usual > 100  # 8 buffers of 50 MB, in pages of 4 KB or of 2 MB
    assert kept < usual / 10 or not set_here  # elsewhere, and in an older glibc, large buffers are fetched each time


class Malloc:
    """A C library whose mallopt takes numbers up to `most`."""

    def __init__(self, most: int) -> None:
        self.most, self.calls = most, list[tuple[int, int]]()

    def mallopt(self, name: int, value: int) -> int:
        self.calls.append((name, value))
        return int(name != compute.M_MMAP_THRESHOLD or value <= self.most)


@pytest.mark.parametrize(
    ("most", "taken"), [(compute.MAX_THRESHOLD, True), (compute.MAX_MMAP_THRESHOLD_BEFORE, True), (0, False)]
)
def test_an_older_glibc_is_given_what_it_takes(monkeypatch: pytest.MonkeyPatch, most: int, taken: bool) -> None:
    library = Malloc(most)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(compute.ctypes, "CDLL", lambda name: library)
    assert compute.keep_freed_memory() == taken
    assert {compute.M_ARENA_MAX, compute.M_TRIM_THRESHOLD} < {name for name, _ in library.calls}
    assert (
        compute.M_MMAP_THRESHOLD,
        compute.MAX_MMAP_THRESHOLD_BEFORE,
    ) in library.calls or most == compute.MAX_THRESHOLD


def test_another_malloc_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute.ctypes, "CDLL", lambda name: object())  # musl has no mallopt
    assert not compute.keep_freed_memory()
    monkeypatch.undo()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not compute.keep_freed_memory()
