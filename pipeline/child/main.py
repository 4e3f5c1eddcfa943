"""The child process of `pipeline.child.process`: it serves calls of `pipeline.child.calls`, one after the other.

In: requests on its stdin, until EOF. Out: replies on its stdout, in the form of `pipeline.child.wire`: a value, an
error of `pipeline.errors`, or that memory ran out. Any other exception ends the process, and the parent reports the
last line of its traceback from stderr. It imports numpy, and a reader's libraries at that reader's first call; no
torch, no Dask.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from pipeline.child import wire
from pipeline.child.calls import CALLS, find
from pipeline.errors import ConfigError, StarError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def serve(parent: int, memory_bytes: int) -> None:
    """Serve requests until the parent closes the pipe or dies."""
    requests, replies = _take_pipes()
    _die_with(parent)
    _bound(resource.RLIMIT_DATA, memory_bytes)  # memory of its own; what is mapped from files does not count
    _bound(resource.RLIMIT_CORE, 0)
    _send(replies, wire.pack({"value": None}))
    while prefix := requests.read(wire.LENGTHS.size):
        header_bytes, payload_bytes = wire.LENGTHS.unpack(prefix)
        header = requests.read(header_bytes)
        name, arguments = wire.unpack(header, np.frombuffer(requests.read(payload_bytes), np.uint8))
        _send(replies, reply_to(name, arguments))


def reply_to(name: str, arguments: Mapping[str, Any]) -> list[memoryview]:
    """The parts of the reply to a call; an error where the reply would be too long."""
    parts = wire.pack(_answer(name, arguments))
    if len(parts[0]) > wire.HEADER_BYTES or sum(map(len, parts)) > wire.REPLY_BYTES:
        problem = f"gives more than {wire.REPLY_BYTES / 1e9:.1f} GB at once"
        parts = wire.pack(_error(CALLS[name](arguments["path"], problem, remedy="make it smaller")))
    return parts


def _answer(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """{"value": …}, {"error": parts}, or {"memory": None} where it ran out."""
    if name not in CALLS:
        return _error(ConfigError(name, "is no call that a child process serves"))
    try:
        return {"value": find(name)(**arguments)}
    except StarError as error:
        return _error(error)
    except MemoryError:
        return {"memory": None}
    except RecursionError:
        return _error(CALLS[name](arguments["path"], "is nested too deeply to be read", remedy="make the file again"))


def _error(error: StarError) -> dict[str, Any]:
    return {"error": wire.parts_of(error)}


def _send(replies: BinaryIO, parts: list[memoryview]) -> None:
    for part in parts:
        while part:  # a pipe takes what it has room for
            part = part[replies.write(part) :]


def _bound(what: int, most: int) -> None:
    """Lower a limit of this process; one that is lower stays."""
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


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
