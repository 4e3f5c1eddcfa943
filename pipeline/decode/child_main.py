"""The child process that decodes for `pipeline.decode.child_process`.

In: requests on its stdin, until EOF. Out: replies on its stdout. A message is two little-endian 64-bit lengths, a JSON
header of the first length, and raw bytes of the second: the pixels. No pickles. Errors of `pipeline.errors` are sent as
their parts; any other exception ends the process, and the parent reports its traceback from stderr.
It imports numpy and PyAV, and a reader's library at that reader's first call; no torch, no Dask.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO

from pipeline.decode import read
from pipeline.errors import ConfigError, DecodeError, StarError

LENGTHS = struct.Struct("<QQ")
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_ERRORS = {error.__name__: error for error in (DecodeError, ConfigError)}


def serve(parent: int) -> None:
    """Serve requests until the parent closes the pipe or dies."""
    requests, replies = _take_pipes()
    _die_with(parent)
    replies.write(message({"ready": True}))
    while prefix := requests.read(LENGTHS.size):
        request = json.loads(requests.read(LENGTHS.unpack(prefix)[0]))
        header, pixels = _reply(request)
        replies.write(message(header, len(pixels)))
        replies.write(pixels)


def message(header: Mapping[str, Any], payload_bytes: int = 0) -> bytes:
    """Lengths and header; the payload itself follows on the same pipe."""
    text = json.dumps(header).encode()
    return LENGTHS.pack(len(text), payload_bytes) + text


def error_of(header: Mapping[str, Any]) -> StarError:
    """The error that the child raised, with `got` and `expected` as text."""
    return _ERRORS[header["error"]](header["item"], header["problem"], **header["facts"])


def _reply(request: dict[str, Any]) -> tuple[dict[str, Any], memoryview]:
    try:
        if request.pop("call") == "probe":
            info = read.probe(request["path"], allow_corrupt=request["allow_corrupt"])
            return {"frames": info.frames, "height": info.height, "width": info.width}, memoryview(b"")
        for name in ("box", "size"):
            request[name] = request[name] and tuple(request[name])  # JSON has no tuples
        frames = read.read_frames(request.pop("path"), request.pop("indices"), **request)
    except (DecodeError, ConfigError) as error:
        facts: dict[str, Any] = {"remedy": error.remedy}
        for name, fact in (("got", error.got), ("expected", error.expected)):
            facts[name] = None if fact is None else str(fact)
        if isinstance(error, DecodeError):
            facts["frames"] = error.frames
        header = {"error": type(error).__name__, "item": error.item, "problem": error.problem, "facts": facts}
        return header, memoryview(b"")
    return {"shape": frames.shape}, frames.data.cast("B")


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Private copies of stdin and stdout: a library that prints to stdout must not damage the replies."""
    requests, replies = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    return os.fdopen(requests, "rb"), os.fdopen(replies, "wb", buffering=0)


def _die_with(parent: int) -> None:
    """On Linux, let the kernel kill this process with the thread that started it: a decoder that hangs in C never sees
    the end of its stdin. If only that thread ends, its process starts another child."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends us in order
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the call above
        sys.exit(1)
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # when memory runs out, this process goes, not the worker or the coordinator
