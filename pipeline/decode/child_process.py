"""`probe` and `read_frames` of `pipeline.decode` in a child process, so that a crash or hang cannot end the worker.

In: as there. Out: as there, with the name of the reader that served. The rules of the child are those of
`pipeline.child.process`: a hang or a crash ends as an error, and never changes which reader serves.
"""

from __future__ import annotations

from os import PathLike

import numpy as np
import numpy.typing as npt

from pipeline.child.process import ChildProcess
from pipeline.decode.crop_scale import Box
from pipeline.decode.read import DecodedFrames, VideoInfo


class DecodeProcess(ChildProcess):
    """A reused child process that decodes, and serves `call` as any `ChildProcess`."""

    def probe(self, path: str | PathLike[str], *, allow_corrupt: bool = False) -> VideoInfo:
        """As `pipeline.decode.probe`. Raises DecodeError also when it hangs or crashes twice."""
        return self.call("pipeline.decode.read:probe", path=path, allow_corrupt=allow_corrupt)

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
        """As `pipeline.decode.read.decode_frames`. Raises DecodeError also when it hangs or crashes twice."""
        return self.call(
            "pipeline.decode.read:decode_frames",
            path=path,
            indices=np.asarray(indices).tolist(),
            reader=reader,
            box=box,
            size=size,
            allow_corrupt=allow_corrupt,
        )
