"""The `.skeleton` text files of NTU RGB+D (Kinect v2): one file -> Skeleton, exactly or not at all.

In: a path. Out: a Skeleton of all bodies in the file (M), over all its frames (T), 25 joints. Choosing persons is not
done here. The format, one line each:

    frame count, then for each frame
        body count, then for each body
            bodyID and nine fields of the tracker
            25 (the joint count)
            25 lines x y z depthX depthY colorX colorY orientationW orientationX orientationY orientationZ trackingState

Lines end with LF or CRLF. bodyID is an integer above 2^53, so it never passes through a float.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SkeletonError
from pipeline.skeletons_value import Skeleton, settled

JOINTS = 25
_BODY_FIELDS, _JOINT_FIELDS = 10, 12
_COLUMNS = (0, 1, 2, 5, 6, 11)  # x y z colorX colorY trackingState
_TRUST = np.array([0.0, 0.5, 1.0])  # by trackingState: not tracked, inferred, tracked
_REMEDY = "get the file again; its bytes are damaged or cut off"


def read_ntu_skeleton(path: str | Path) -> Skeleton:
    """All bodies of a `.skeleton` file, sorted by body ID.

    Returns:
        Skeleton with joints from colorX, colorY (pixels of the 1920x1080 picture), xyz in metres and scores 1, 0.5, 0
        for tracked, inferred, not tracked. A joint whose place is NaN or infinite is NaN with score 0. M is 0 where
        no frame has a body. Axes (M, T, 25, ...).

    Raises:
        SkeletonError: the file cannot be opened, is cut off, has a line of another form (the line is named), text
            after its last frame, or a body ID twice in one frame.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SkeletonError(path, "cannot be read", got=error.strerror, remedy="check the path") from error
    return _assemble(path, *_read_lines(path, data))


def _read_lines(path: str | Path, data: bytes) -> tuple[int, list[int], list[int], NDArray[np.float64]]:
    """Line by line: T, then frame and body ID of each body, and their numbers (bodies, 25, 6)."""
    lines = _Lines(path, data)
    num_frames = lines.whole_number("frame count")
    frames: list[int] = []
    ids: list[int] = []
    rows: list[list[float]] = []
    for frame in range(num_frames):
        for _ in range(lines.whole_number("body count")):
            frames.append(frame)
            ids.append(lines.body_id())
            joints = lines.whole_number("joint count")
            if joints != JOINTS:
                raise lines.error("is not the joint count", got=joints, expected=JOINTS)
            rows += [lines.joint() for _ in range(JOINTS)]
    lines.end()
    numbers = np.array(rows, dtype=np.float64).reshape(len(ids), JOINTS, len(_COLUMNS))
    return num_frames, frames, ids, numbers


def _assemble(
    path: str | Path, num_frames: int, frames: Sequence[int], ids: Sequence[int], numbers: NDArray[np.float64]
) -> Skeleton:
    """Bodies into the slots of their IDs. `numbers` is (bodies, 25, 6) in the order of `_COLUMNS`."""
    body_ids = sorted(set(ids))
    slot_of = {body: slot for slot, body in enumerate(body_ids)}
    slots = np.array([slot_of[body] for body in ids], dtype=np.int64)
    times = np.array(frames, dtype=np.int64)
    present = np.zeros((len(body_ids), num_frames), dtype=bool)
    present[slots, times] = True
    if int(present.sum()) != len(ids):
        cells, counts = np.unique(slots * num_frames + times, return_counts=True)
        slot, frame = divmod(int(cells[counts > 1][0]), num_frames)
        raise SkeletonError(path, f"has body {body_ids[slot]} twice in frame {frame}", remedy=_REMEDY)
    table = np.full((len(body_ids), num_frames, JOINTS, len(_COLUMNS)), np.nan, dtype=np.float32)
    with np.errstate(over="ignore"):  # beyond float32 is as good as infinite, and so not usable
        table[slots, times] = numbers
    state = table[..., 5]
    known = np.isin(state, (1, 2))
    scores = _TRUST[np.where(known, state, 0).astype(np.int64)].astype(np.float32)
    return settled(table[..., 3:5], scores, present, xyz=table[..., 0:3], body_ids=np.array(body_ids, dtype=np.int64))


class _Lines:
    """The lines of one file, taken in turn; every complaint names its line."""

    def __init__(self, path: str | Path, data: bytes) -> None:
        self.path = path
        self.lines = data.splitlines()
        while self.lines and not self.lines[-1].strip():
            self.lines.pop()
        self.number = 0

    def error(self, problem: str, *, got: object, expected: object) -> SkeletonError:
        return SkeletonError(
            self.path, f"line {self.number} {problem}", got=repr(got), expected=expected, remedy=_REMEDY
        )

    def tokens(self, count: int, what: str) -> list[bytes]:
        self.number += 1
        if self.number > len(self.lines):
            raise self.error("is missing", got="the end of the file", expected=what)
        tokens = self.lines[self.number - 1].split()
        if len(tokens) != count:
            raise self.error(f"is not a {what}", got=f"{len(tokens)} fields", expected=f"{count} fields")
        return tokens

    def whole_number(self, what: str) -> int:
        token = self.tokens(1, what)[0]
        if not token.isdigit():
            raise self.error(f"is not a {what}", got=token.decode("latin-1"), expected="a whole number")
        return int(token)

    def body_id(self) -> int:
        token = self.tokens(_BODY_FIELDS, "body line")[0]
        if not token.isdigit() or int(token) >= 1 << 63:
            raise self.error("has no body ID", got=token.decode("latin-1"), expected="a 64-bit whole number")
        return int(token)

    def joint(self) -> list[float]:
        tokens = self.tokens(_JOINT_FIELDS, "joint line")
        try:
            return [number(tokens[column]) for column in _COLUMNS]
        except ValueError:
            text = self.lines[self.number - 1].decode("latin-1")
            raise self.error("is not a joint line", got=text, expected="12 numbers") from None

    def end(self) -> None:
        if self.number < len(self.lines):
            self.number += 1
            text = self.lines[self.number - 1].decode("latin-1")
            raise self.error("follows the last frame", got=text[:40], expected="the end of the file")


def number(token: bytes) -> float:
    """The float64 that a decimal token names. ValueError for other text, digits grouped by underscores among it."""
    if b"_" in token:
        raise ValueError(token)
    return float(token)
