"""Calls in a child process, so that no file can stop, crash or fill the process that asks.

In: a name of `pipeline.child.calls.CALLS` and its arguments. Out: what that function returns or raises. One child is
started at the first call and serves all that follow. A call without a reply (it takes too long, too much memory, or the
child with it) is tried once more in a new child, with the same arguments, and then ends as that item's error: what a
call returns never depends on what became of a child. The child dies with the process that started it.
A plain subprocess over pipes, since Dask's workers may not have children of multiprocessing. Not thread-safe.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np

import pipeline
from pipeline.child import wire
from pipeline.child.calls import CALLS, returned
from pipeline.errors import StarError

BUDGET_S = 60.0
# A 16K still takes 0.5 GB as a JPEG and 2.4 GB as a PNG of 16 bits (measured); machines have about this for each core.
MEMORY_BYTES = 4 << 30

_START_S = 120.0  # imports from a cold network disk
# -P and PYTHONSAFEPATH keep the working directory off the path; the parent's own package is loaded by its file
_BOOT = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("pipeline", sys.argv[1])
package = sys.modules["pipeline"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
from pipeline.child.main import serve
serve(int(sys.argv[2]), int(sys.argv[3]))
"""
_NO_SENSE = "sent a reply that makes no sense"
# What the C and C++ libraries write as they end for want of memory
_NO_MEMORY = (b"bad_alloc", b"MemoryError", b"Cannot allocate memory")


class ChildProcess:
    """A reused child process. It ends with this object, or with its `with` block.

    Args:
        budget_s: seconds of one attempt; a call that hangs takes twice that.
        memory_bytes: most memory of the child; not enforced on macOS.
    """

    def __init__(self, *, budget_s: float = BUDGET_S, memory_bytes: int = MEMORY_BYTES) -> None:
        self._budget_s, self._memory_bytes = budget_s, memory_bytes
        self._child: _Child | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child. A later call starts another."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def call(self, name: str, /, *, path: str | PathLike[str], **arguments: Any) -> Any:
        """The value of the function `name` of `CALLS` for `path` and the other arguments.

        Raises:
            StarError: what the function raises, and ConfigError for a name that is not in `CALLS`.
            DataError: of the kind in `CALLS`, with `path` as its item: twice no reply, or out of memory.
        """
        what, remedy = "", ""
        for _ in range(2):
            try:
                reply = self._living_child().request([name, {"path": path, **arguments}], self._budget_s)
            except _NoReplyError as failure:
                what, remedy = self._told(failure)
                self.close()
                continue
            except BaseException:  # Ctrl-C: a late reply must not be taken for that of the next request
                self.close()
                raise
            if "error" in reply:
                raise reply["error"]
            return reply["value"]
        raise CALLS[name](path, what, remedy=remedy)

    def _told(self, failure: _NoReplyError) -> tuple[str, str]:
        """The problem and the remedy."""
        if isinstance(failure, _NoMemoryError):
            return f"takes more than {self._memory_bytes / 1e9:.1f} GB of memory", "make it smaller"
        remedy = "replace the file, or raise `budget_s`" if isinstance(failure, _TimeoutError) else "replace the file"
        return f"could not be read: the process that reads it {failure}, twice", remedy

    def _living_child(self) -> _Child:
        if self._child is None or self._child.process.poll() is not None:
            self.close()
            self._child = _Child(self._memory_bytes)
        return self._child


class _NoReplyError(Exception):
    """The child hung or died; its message says which."""


class _TimeoutError(_NoReplyError):
    pass


class _NoMemoryError(_NoReplyError):
    pass


class _Child:
    def __init__(self, memory_bytes: int) -> None:
        self._stderr: BinaryIO = tempfile.TemporaryFile(mode="ab+")  # noqa: SIM115 - closed in kill()
        package = str(Path(pipeline.__file__).resolve())
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOT, package, str(os.getpid()), str(memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, "PYTHONSAFEPATH": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            bufsize=0,
        )
        assert self.process.stdout is not None
        self._replies = self.process.stdout.fileno()
        os.set_blocking(self._replies, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._replies, selectors.EVENT_READ)
        self.kill = weakref.finalize(self, _end, self.process, self._selector, self._stderr)
        try:
            self._receive(_START_S)
        except _NoReplyError as failure:
            raise StarError("the process that reads files", f"failed to start: it {failure}") from failure

    def request(self, request: list[Any], budget_s: float) -> dict[str, Any]:
        """Send a request; the reply, {"value": …} or {"error": the error}. Raises _NoReplyError."""
        assert self.process.stdin is not None
        self._stderr.truncate(0)  # decoders print a lot, and a stage runs for days
        try:
            for part in wire.pack(request):
                while part:
                    part = part[self.process.stdin.write(part) or 0 :]
        except BrokenPipeError as error:
            raise self._death() from error
        reply = self._receive(budget_s)
        if "value" in reply and not wire.is_of(reply["value"], returned(request[0])):
            raise _NoReplyError(_NO_SENSE)
        return reply

    def _receive(self, budget_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + budget_s
        try:
            header_bytes, payload_bytes = wire.LENGTHS.unpack(self._read(wire.LENGTHS.size, deadline).data)
            if header_bytes > wire.HEADER_BYTES or payload_bytes > wire.REPLY_BYTES:
                raise _NoReplyError("sent a reply that is too long")
            header = self._read(header_bytes, deadline).tobytes()
            reply = _checked(wire.unpack(header, self._read(payload_bytes, deadline)))
        except TimeoutError as error:
            raise _TimeoutError(f"timed out after {budget_s:g} s") from error
        except EOFError as error:
            raise self._death() from error
        except ValueError as error:
            raise _NoReplyError(_NO_SENSE) from error
        if "memory" in reply:
            raise _NoMemoryError("ran out of memory")
        return reply

    def _read(self, num_bytes: int, deadline: float) -> np.ndarray:
        buffer = np.empty(num_bytes, np.uint8)
        view = buffer.data
        while len(view):
            if not self._selector.select(max(deadline - time.monotonic(), 0)):
                raise TimeoutError
            got = os.readv(self._replies, [view])
            if not got:
                raise EOFError
            view = view[got:]
        return buffer

    def _death(self) -> _NoReplyError:
        code = self.process.wait()
        self._stderr.seek(0)
        written = self._stderr.read()[-4096:]
        if code == -signal.SIGKILL:
            return _NoReplyError("was killed (SIGKILL: perhaps out of memory)")
        if any(words in written for words in _NO_MEMORY):
            return _NoMemoryError("ran out of memory")
        if code < 0:
            return _NoReplyError(f"crashed ({signal.Signals(-code).name})")
        # only the last line of a traceback: other output holds addresses, and reasons must be reproducible
        lines = written.decode(errors="replace").strip().splitlines()
        return _NoReplyError(f"crashed ({': '.join([f'exit code {code}', *lines[-1:]])})")


def _checked(reply: Any) -> dict[str, Any]:
    """A reply of one of the three kinds, its error built. Raises ValueError: it is none."""
    if not isinstance(reply, dict) or [*reply] not in (["value"], ["error"], ["memory"]):
        raise ValueError("no reply")
    return {"error": wire.error_of(reply["error"])} if "error" in reply else reply


def _end(process: subprocess.Popen[bytes], selector: selectors.BaseSelector, stderr: BinaryIO) -> None:
    process.kill()
    process.wait()
    selector.close()
    stderr.close()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
