"""The `.skeleton` text files of NTU RGB+D (Kinect v2): one file -> PoseFile or Skeleton, exactly or not at all.

In: a path. Out: all bodies in the file, over all its frames, 25 joints. Choosing persons is not done here. The format,
one line each:

    frame count, then for each frame
        body count, then for each body
            bodyID and nine fields of the tracker
            25 (the joint count)
            25 lines x y z depthX depthY colorX colorY orientationW orientationX orientationY orientationZ trackingState

Lines end with LF or CRLF. bodyID is an integer above 2^53, so it never passes through a float.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SkeletonError
from pipeline.skeletons.assemble import all_bodies
from pipeline.skeletons.files import OWN_FORM, read_bytes
from pipeline.skeletons.pose_file import PoseFile, require_once
from pipeline.skeletons.skeleton import Skeleton

BODY_FIELDS, JOINT_FIELDS, JOINTS, KINECT_1_JOINTS = 10, 12, 25, 20
PICTURE = (1080, 1920)  # of the colour camera, whose pixels colorX and colorY are, whatever the video was scaled to
PLACE_COLUMNS, STATE_COLUMN = (0, 1, 2, 5, 6), 11  # of a joint line's fields: x y z colorX colorY, trackingState
_TRUST = np.array([0.0, 0.5, 1.0], dtype=np.float32)  # by trackingState: not tracked, inferred, tracked
_REMEDY = "get the file again; its bytes are damaged or cut off"


class Table(NamedTuple):
    """The content of a file: its frame count T, and B bodies, each in one frame, in the order of the file.

    frames (B,) and ids (B,) int64; places (B, 25, 5) float64, the fields x y z colorX colorY; states (B, 25) int64,
    trackingState: 1, 2, or 0 for any other.
    """

    num_frames: int
    frames: NDArray[np.int64]
    ids: NDArray[np.int64]
    places: NDArray[np.float64]
    states: NDArray[np.int64]


def read_ntu_skeleton(path: str | Path) -> Skeleton:
    """All bodies of a `.skeleton` file, sorted by body ID; of more than 64 bodies those in most frames.

    Returns:
        Skeleton with joints from colorX, colorY (pixels of the 1920x1080 picture), xyz in metres and scores 1, 0.5, 0
        for tracked, inferred, not tracked; 0 also for a place that is NaN or infinite. M is 0 where no frame has a
        body. Axes (M, T, 25, ...).

    Raises:
        SkeletonError: the file cannot be opened, is cut off, has a line of another form (the line is named), text
            after its last frame, or a body ID twice in one frame.
    """
    poses = read_ntu(path)
    assert poses.bodies is not None
    return all_bodies(path, poses, poses.bodies, poses.length)


def read_ntu(path: str | Path) -> PoseFile:
    """The bodies of a `.skeleton` file as detections. Values and errors as of `read_ntu_skeleton`."""
    data = read_bytes(path)
    table = read_table(data) or read_lines(path, data)
    require_once(path, table.ids, table.frames)
    with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 is treated as infinite: unusable
        places = table.places.astype(np.float32)
    values = np.concatenate([places[..., 3:], _TRUST[table.states][..., None]], axis=-1)
    return PoseFile(
        table.frames,
        values,
        table.ids,
        "array",
        np.zeros(0, dtype=np.int64),
        xyz=places[..., :3],
        length=table.num_frames,
        picture=PICTURE,
        topology="ntu25",
    )


def read_table(data: bytes) -> Table | None:
    """The table of a regular file, whose lines have one space between fields: all lines at once, for speed.

    None where the file is irregular or damaged: only `read_lines` can decide, and names the line.
    """
    lines = data.splitlines()
    frames: list[int] = []
    ids: list[int] = []
    joints: list[list[bytes]] = []
    if not lines or not is_whole_number(lines[0]) or any(blank in data for blank in (b"\t", b"\v", b"\f", b"_")):
        return None
    at, num_frames = 1, int(lines[0])
    try:
        for frame in range(num_frames):
            if not is_whole_number(lines[at]):
                return None
            bodies = range(at + 1, at + 1 + (2 + JOINTS) * int(lines[at]), 2 + JOINTS)
            for body in bodies:
                fields = lines[body].split()
                if len(fields) != BODY_FIELDS or not is_whole_number(fields[0]) or lines[body + 1] != b"25":
                    return None
                frames.append(frame)
                ids.append(int(fields[0]))
                joints.append(lines[body + 2 : body + 2 + JOINTS])
            at = bodies.stop
        tokens = b" ".join(chain.from_iterable(joints)).split()
        spaces = {line.count(b" ") for line in chain.from_iterable(joints)}
        if len(tokens) != len(ids) * JOINTS * JOINT_FIELDS or not spaces <= {JOINT_FIELDS - 1} or any(lines[at:]):
            return None
        columns = [list(map(float, tokens[column::JOINT_FIELDS])) for column in (*PLACE_COLUMNS, STATE_COLUMN)]
    except (IndexError, ValueError):
        return None
    return _table(num_frames, frames, ids, np.array(columns).T)


def read_lines(path: str | Path, data: bytes) -> Table:
    """The table of a file, line by line: slow, for the irregular and the damaged. SkeletonError names the line."""
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
            if joints == KINECT_1_JOINTS:
                raise SkeletonError(path, "has 20 joints (Kinect v1), NTU RGB+D has 25", remedy=OWN_FORM)
            if joints != JOINTS:
                raise lines.error("is not the joint count", got=joints, expected=JOINTS)
            rows += [lines.joint() for _ in range(JOINTS)]
    lines.end()
    return _table(num_frames, frames, ids, np.array(rows, dtype=np.float64))


def _table(num_frames: int, frames: list[int], ids: list[int], rows: NDArray[np.float64]) -> Table:
    """Args: rows: (B * 25, 6), the places and the state of each joint."""
    numbers = rows.reshape(len(ids), JOINTS, len(PLACE_COLUMNS) + 1)
    states = np.where(np.isin(numbers[..., -1], (1, 2)), numbers[..., -1], 0).astype(np.int64)
    return Table(num_frames, np.array(frames, dtype=np.int64), np.array(ids, dtype=np.int64), numbers[..., :-1], states)


class _Lines:
    """The lines of one file, taken in turn; every error names its line."""

    def __init__(self, path: str | Path, data: bytes) -> None:
        self.path = path
        self.lines = data.splitlines()
        while self.lines and not self.lines[-1].strip():
            self.lines.pop()
        self.number = 0

    def error(self, problem: str, *, got: object, expected: object) -> SkeletonError:
        return SkeletonError(self.path, f"line {self.number} {problem}", got=got, expected=expected, remedy=_REMEDY)

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
        if not is_whole_number(token):
            raise self.error(f"is not a {what}", got=_shown(token), expected="a whole number")
        return int(token)

    def body_id(self) -> int:
        token = self.tokens(BODY_FIELDS, "body line")[0]
        if not is_whole_number(token):
            raise self.error("has no body ID", got=_shown(token), expected="a 64-bit whole number")
        return int(token)

    def joint(self) -> list[float]:
        tokens = self.tokens(JOINT_FIELDS, "joint line")
        try:
            return [number(tokens[column]) for column in (*PLACE_COLUMNS, STATE_COLUMN)]
        except ValueError:
            line = _shown(self.lines[self.number - 1])
            raise self.error("is not a joint line", got=line, expected="12 numbers") from None

    def end(self) -> None:
        if self.number < len(self.lines):
            self.number += 1
            line = _shown(self.lines[self.number - 1])
            raise self.error("follows the last frame", got=line, expected="the end of the file")


def _shown(text: bytes) -> str:
    """Bytes of a user's file in a message: printable, and short."""
    return repr(text[:60].decode("latin-1"))


def is_whole_number(field: bytes) -> bool:
    """Whether a field is an integer in digits alone that int64 holds."""
    return field.isdigit() and len(field) < 20 and int(field) < 1 << 63


def number(field: bytes) -> float:
    """The float64 of a decimal field. ValueError for other text, such as digits grouped by underscores."""
    if b"_" in field:
        raise ValueError(field)
    return float(field)
