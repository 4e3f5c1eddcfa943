"""What the child process may be asked: names of functions, and the values that they return.

In: nothing. Out: two tables of names. A name is "module:attribute" and is imported in the child at its first call, so
that this folder imports no reader. Every function takes `path` first, by that name. It does not call anything.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any, get_type_hints

from pipeline.errors import DataError, DecodeError, SkeletonError

# The function, and the error of an item that takes too long, too much memory, or the process with it
CALLS: dict[str, type[DataError]] = {
    "pipeline.decode.identity:identity": DataError,
    "pipeline.decode.read:probe": DecodeError,
    "pipeline.decode.read:decode_frames": DecodeError,
    "pipeline.skeletons.of_video:persons_of_video": SkeletonError,
    "pipeline.skeletons.mat:read_penn_facts": SkeletonError,
    "pipeline.skeletons.read:read_skeleton": SkeletonError,
    "pipeline.skeletons.read:states_topology": SkeletonError,
    "pipeline.skeletons.read:topology_of": SkeletonError,
}

# Dataclasses that may travel: their fields are what `pipeline.child.wire` can send
VALUES: dict[str, str] = {
    "VideoInfo": "pipeline.decode.read:VideoInfo",
    "DecodedFrames": "pipeline.decode.read:DecodedFrames",
    "Skeleton": "pipeline.skeletons.skeleton:Skeleton",
}


@functools.cache
def returned(name: str) -> Any:
    """The type that a function of `CALLS` declares to return."""
    return get_type_hints(find(name))["return"]


def find(name: str) -> Any:
    """The object of a name of these tables."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)
