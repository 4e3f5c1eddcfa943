"""Child processes that hang when a test wants it, and budgets that end with a hang instead of by the clock.

In: Python code for the child, which may call `hang()`. Out: the list of the processes that were started. However busy
the machine is, an attempt fails when its child hangs, and only then.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.child import process

# PyDLL keeps the GIL: a hang that no thread can end
HANG = """
import ctypes, os, pathlib
def hang():
    pathlib.Path(os.environ["HANGS"], str(os.getpid())).touch()
    ctypes.PyDLL(None).sleep(100_000)
"""


def hangs(folder: Path, pid: int) -> bool:
    """Whether the child has called `hang`."""
    return (folder / str(pid)).exists()


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    """Let every child run `code` before it serves; `folder` gets a file for each one that hangs."""
    monkeypatch.setenv("HANGS", str(folder))
    monkeypatch.setattr(process, "_BOOT", boot(code))


def boot(code: str) -> str:
    """What the child runs, with `code` before it serves."""
    return process._BOOT.replace("serve(int", HANG + code + "serve(int")


def count_starts(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[int]:
    """The process ids of the children that are started from now on; their budgets end when they hang."""
    pids: list[int] = []

    class Child(process._Child):
        def __init__(self, memory_bytes: int) -> None:
            super().__init__(memory_bytes)
            pids.append(self.process.pid)
            self._selector: Any = _Patient(self._selector, folder, self.process.pid)

    monkeypatch.setattr(process, "_Child", Child)
    return pids


class _Patient:
    """A selector that times out when the child hangs."""

    def __init__(self, selector: Any, folder: Path, pid: int) -> None:
        self._selector, self._folder, self._pid = selector, folder, pid

    def select(self, timeout: float) -> list[Any]:
        while not (ready := self._selector.select(0.02)):
            if hangs(self._folder, self._pid):
                return []
        return ready
