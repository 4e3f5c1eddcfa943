"""`probe` and `read_frames` of `pipeline.decode` in a child process, so that a crash or hang cannot end the worker.

In and out: as there, and the reader that was used. One child is started at the first call and serves all that follow. A
call that exceeds its budget or kills the child (a crash, no memory) is tried again in a new child, then with another
reader, and ends as a DecodeError that lists all attempts. The child dies with the process that started it.
A plain subprocess over pipes, since Dask's workers may not have children of multiprocessing. Not thread-safe.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt

import pipeline
from pipeline.decode.child_main import LENGTHS, error_of, message
from pipeline.decode.crop_scale import Box
from pipeline.decode.read import VideoInfo
from pipeline.errors import DecodeError, StarError

BUDGET_S = 60.0
# The reader to try when one hangs or crashes. Never decord, which hangs itself and refuses much.
NEXT_READER = {"pyav": "opencv", "opencv": "pyav", "decord": "pyav"}

_START_S = 120.0  # imports from a cold network disk
# -P and PYTHONSAFEPATH keep the working directory off the path; the parent's own package is loaded by its file
_BOOT = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("pipeline", sys.argv[1])
package = sys.modules["pipeline"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
from pipeline.decode.child_main import serve
serve(int(sys.argv[2]))
"""


@dataclass(frozen=True, slots=True)
class DecodedFrames:
    """Frames uint8 (T, h, w, 3) RGB, and the reader that decoded them."""

    frames: np.ndarray
    reader: str


class DecodeProcess:
    """A reused child process that decodes. The child ends with this object, or with its `with` block.

    Args:
        budget_s: seconds of one attempt. A call that hangs takes at most twice that and two new processes: the whole
            budget first, half of it for the same reader again, half for the next one.
    """

    def __init__(self, *, budget_s: float = BUDGET_S) -> None:
        self._budget_s = budget_s
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

    def probe(self, path: str | PathLike[str], *, allow_corrupt: bool = False) -> VideoInfo:
        """As `pipeline.decode.probe`. Raises DecodeError also when it hangs or crashes twice."""
        request = {"call": "probe", "path": fspath(path), "allow_corrupt": allow_corrupt}
        header, _, _ = self._call(path, request, [("pyav", self._budget_s)] * 2)
        return VideoInfo(header["frames"], header["height"], header["width"])

    def read_frames(
        self,
        path: str | PathLike[str],
        indices: npt.ArrayLike,
        *,
        reader: str = "pyav",
        box: Box | None = None,
        size: tuple[int, int] | None = None,
        allow_corrupt: bool = False,
    ) -> DecodedFrames:
        """As `pipeline.decode.read_frames`.

        Raises:
            DecodeError: also when `reader` hangs or crashes twice and the next one once. An error that a reader raises
                is final: only after a hang or a crash is the next one tried.
        """
        request = {
            "call": "read_frames",
            "path": fspath(path),
            "indices": np.asarray(indices).tolist(),
            "box": None if box is None else [int(edge) for edge in box],
            "size": None if size is None else [int(side) for side in size],
            "allow_corrupt": allow_corrupt,
        }
        half = self._budget_s / 2
        attempts = [(reader, self._budget_s), (reader, half), (NEXT_READER.get(reader, reader), half)]
        header, pixels, served = self._call(path, request, attempts)
        return DecodedFrames(pixels.reshape(header["shape"]), served)

    def _call(
        self, path: str | PathLike[str], request: dict[str, Any], attempts: list[tuple[str, float]]
    ) -> tuple[dict[str, Any], np.ndarray, str]:
        """(header, payload, reader) of the first attempt that gets a reply."""
        failures = []
        for reader, budget_s in attempts:
            try:
                header, payload = self._living_child().request({**request, "reader": reader}, budget_s)
            except _NoReplyError as failure:
                failures.append(f"{reader} {failure}")
                self.close()
                continue
            except BaseException:  # Ctrl-C: a late reply must not be taken for that of the next request
                self.close()
                raise
            if "error" in header:
                raise error_of(header)
            return header, payload, reader
        raise DecodeError(path, f"could not be decoded: {', then '.join(failures)}", remedy="replace the file")

    def _living_child(self) -> _Child:
        if self._child is None or self._child.process.poll() is not None:
            self.close()
            self._child = _Child()
        return self._child


class _NoReplyError(Exception):
    """The child hung or died; its message says which."""


class _Child:
    def __init__(self) -> None:
        self._stderr: BinaryIO = tempfile.TemporaryFile(mode="ab+")  # noqa: SIM115 - closed in kill()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOT, str(Path(pipeline.__file__).resolve()), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, "PYTHONSAFEPATH": "1", "OPENBLAS_NUM_THREADS": "1"},
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
            raise StarError("the decoding process", f"failed to start: it {failure}") from failure

    def request(self, request: dict[str, Any], budget_s: float) -> tuple[dict[str, Any], np.ndarray]:
        """Send a request; (header, payload uint8) of the reply. Raises _NoReplyError."""
        assert self.process.stdin is not None
        self._stderr.truncate(0)  # decoders print a lot, and a stage runs for days
        try:
            self.process.stdin.write(message(request))
        except BrokenPipeError as error:
            raise _NoReplyError(self._cause_of_death()) from error
        return self._receive(budget_s)

    def _receive(self, budget_s: float) -> tuple[dict[str, Any], np.ndarray]:
        deadline = time.monotonic() + budget_s
        try:
            header_bytes, payload_bytes = LENGTHS.unpack(self._read(LENGTHS.size, deadline).data)
            header = json.loads(self._read(header_bytes, deadline).tobytes())
            return header, self._read(payload_bytes, deadline)
        except TimeoutError as error:
            raise _NoReplyError(f"timed out after {budget_s:g} s") from error
        except EOFError as error:
            raise _NoReplyError(self._cause_of_death()) from error

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

    def _cause_of_death(self) -> str:
        code = self.process.wait()
        if code == -signal.SIGKILL:
            return "was killed (SIGKILL: perhaps out of memory)"
        if code < 0:
            return f"crashed ({signal.Signals(-code).name})"
        # only the last line of a traceback: other output holds addresses, and reasons must be reproducible
        self._stderr.seek(0)
        lines = self._stderr.read()[-4096:].decode(errors="replace").strip().splitlines()
        return f"crashed ({': '.join([f'exit code {code}', *lines[-1:]])})"


def _end(process: subprocess.Popen[bytes], selector: selectors.BaseSelector, stderr: BinaryIO) -> None:
    process.kill()
    process.wait()
    selector.close()
    stderr.close()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
