"""JSON pose files that are traps or misshapen: each must end in a SkeletonError.

In: nothing. Out: by name, functions that write one into a folder and return its path. `hostile_poses` adds the other
formats, and reads all of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

FRAMES, JOINTS = 24, 17

Trap = Callable[[Path], Path]


def text(content: str | bytes, name: str = "pose.json") -> Trap:
    def write(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def plain(content: Any) -> Trap:
    return text(json.dumps(content))


def crowd(people: int, frames: int = FRAMES) -> Trap:
    """So many people in each frame."""
    one = {"pose": [float(k % 300) for k in range(2 * JOINTS)], "score": [1] * JOINTS}
    return plain({"data": [{"frame_index": t, "skeleton": [one] * people} for t in range(frames)]})


KEYPOINTS = [100.0 + k % 70 for k in range(3 * JOINTS)]
PERSON = {"pose": KEYPOINTS[: 2 * JOINTS], "score": [1] * JOINTS}
IMAGE = {"id": 0, "file_name": "0.jpg"}
NOTE = {"image_id": 0, "keypoints": KEYPOINTS}


def frame(number: Any, *people: Any) -> dict[str, Any]:
    return {"frame_index": number, "skeleton": list(people or [PERSON])}


def result(name: Any = "0.jpg", **more: Any) -> dict[str, Any]:
    return {"image_id": name, "category_id": 1, "keypoints": KEYPOINTS, "score": 1} | more


_VALUES: dict[str, Any] = {
    "null": None,
    "number": 3,
    "true": True,
    "text": "x",
    "texts": ["x"],
    "empty": [],
    "object": {},
    "nested": [[[[1]]]],
    "huge": 10**4000,
}


def misshapen() -> dict[str, Trap]:
    """Every value of the wrong kind in every place of every JSON form where it means nothing."""
    forms: dict[str, Callable[[Any], Any]] = {
        "all": lambda v: v,
        "list": lambda v: [v],
        "joints": lambda v: {"joints": v},
        "joint": lambda v: {"joints": [[[1.0, v]]]},
        "scores": lambda v: {"joints": [[[1.0, 2.0]]], "scores": v},
        "data": lambda v: {"data": v},
        "data frame": lambda v: {"data": [v]},
        "frame index": lambda v: {"data": [frame(v)]},
        "skeleton": lambda v: {"data": [{"frame_index": 0, "skeleton": v}]},
        "pose": lambda v: {"data": [frame(0, {"pose": v, "score": [1] * JOINTS})]},
        "image": lambda v: {"images": [v], "annotations": []},
        "image name": lambda v: {"images": [IMAGE | {"file_name": v}], "annotations": []},
        "image height": lambda v: {"images": [IMAGE | {"height": v, "width": 3}], "annotations": [NOTE]},
        "note": lambda v: {"images": [IMAGE], "annotations": [v]},
        "note image": lambda v: {"images": [IMAGE], "annotations": [NOTE | {"image_id": v}]},
        "keypoints": lambda v: [result(keypoints=v)],
        "keypoint": lambda v: [result(keypoints=[v, *KEYPOINTS[1:]])],
        "image id": lambda v: [result(v)],
        "idx": lambda v: [result(idx=v)],
    }
    fine = {  # a place in which the value does mean something: nobody there, a name, or a joint that was not found
        *(("keypoint", name) for name in ("null", "number")),
        *(("idx", name) for name in ("null", "number", "empty")),
        *(("frame index", name) for name in ("number",)),
        *(("image id", name) for name in ("number",)),
        *((form, "empty") for form in ("all", "data", "skeleton", "keypoints")),
        *((form, "null") for form in ("joint",)),
        ("joint", "number"),
    }
    traps = {}
    for form, make in forms.items():
        for value, content in _VALUES.items():
            if (form, value) not in fine:
                traps[f"{form}: {value}"] = plain(make(content))
    return traps


def json_traps() -> dict[str, Trap]:
    """All of them, by name."""
    deep = "[" * 100_000 + "]" * 100_000
    return misshapen() | {
        "deep list": text(deep),
        "deep object": text('{"a":' * 100_000 + "1" + "}" * 100_000),
        "deep joints": text('{"joints": ' + "[" * 900 + "1" + "]" * 900 + "}"),
        "many empty lists": text('{"joints": [' + "[]," * 3_000_000 + "[]]}"),
        "number of 5000 digits": text('{"joints": [[[1, ' + "9" * 5000 + "]]]}"),
        "name twice": text('{"joints": [[[1, 2]]], "joints": [[[3, 4]]]}'),
        "no text": text(bytes(range(256))),
        "empty file": text(b""),
        "byte order mark alone": text(b"\xef\xbb\xbf"),
        "frame NaN": text('{"data": [{"frame_index": NaN, "skeleton": []}]}'),
        "frame Infinity": text('{"data": [{"frame_index": Infinity, "skeleton": []}]}'),
        "frame 1.5": plain({"data": [frame(1.5)]}),
        "frame -1": plain({"data": [frame(-1), frame(0)]}),
        "frame 3000000": plain({"data": [frame(0), frame(3_000_000)]}),
        "frame 10^300": plain({"data": [frame(0), frame(10**300)]}),
        "frame twice": plain({"data": [frame(0), frame(0)]}),
        "results, frame 9...9": plain([result("0.jpg"), result("9" * 60 + ".jpg")]),
        "results, frame 3000000": plain([result("0.jpg"), result("3000000.jpg")]),
        "results, person twice": plain([result(idx=[4]), result(idx=[4]), result("1.jpg", idx=[5])]),
        "results, two videos": plain([result("a/0.jpg"), result("b/1.jpg")]),
        "annotations, nframes": plain({"images": [IMAGE | {"nframes": 10**9}], "annotations": [NOTE]}),
        "annotations, image twice": plain({"images": [IMAGE, IMAGE], "annotations": [NOTE]}),
        "annotations, track twice": plain({"images": [IMAGE], "annotations": [NOTE | {"track_id": 1}] * 2}),
        "annotations, picture of 0": plain({"images": [IMAGE | {"height": 0, "width": 0}], "annotations": [NOTE]}),
        "joints differ": plain({"data": [frame(0), frame(1, {"pose": [9.0] * 36, "score": [1] * 18})]}),
        "scores differ": plain({"data": [frame(0, {"pose": KEYPOINTS[:34], "score": [1] * 16})]}),
        "units mixed": plain({"data": [frame(t, {**PERSON, "pose": [0.5] * 34} if t else PERSON) for t in range(24)]}),
        "crowd": crowd(5000, 2),
        "MMPose": plain([{"frame_id": 0, "instances": []}]),
        "outside": plain(
            {"data": [frame(t, {**PERSON, "pose": [1000.0 + 9 * k for k in range(34)]}) for t in range(24)]}
        ),
        "wrong joints": plain({"data": [frame(t, {"pose": KEYPOINTS[:36], "score": [1] * 18}) for t in range(24)]}),
        "another frame rate": plain({"data": [frame(t) for t in range(2 * FRAMES)]}),
        "base unknown": plain({"data": [frame(t) for t in range(3, 20)]}),
    }
