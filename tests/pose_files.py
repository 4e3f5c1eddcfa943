"""Pose files of every format that is read, written from one description of who is where.

In: `Detections`, persons in pixels of their video, and how to write them: unit, first number, picture. Out: a file or
folder at a stem. Each `Writer` says what its format can express; it writes nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

PIXELS, SHARES, SIGNED = "pixels", "shares", "[-1, 1]"
UNITS = (PIXELS, SHARES, SIGNED)
NTU_SIZE = (1080, 1920)


@dataclass(frozen=True, eq=False)
class Detections:
    """M persons in T frames of a video.

    Attributes:
        joints: (M, T, V, 2) float64, pixels of the video, whose pixel centres are integers; NaN in frames in which the
            person was not found.
        size: (height, width) of the video.
        scores: (M, T, V) in (0, 1].
        bodies: a number for each person, where the format names persons.
    """

    joints: np.ndarray
    size: tuple[int, int]
    scores: np.ndarray
    bodies: tuple[int, ...]

    @property
    def found(self) -> np.ndarray:
        """(M, T) bool."""
        return np.isfinite(self.joints).all(axis=(2, 3))

    def only(self, frames: np.ndarray) -> Detections:
        """The same persons, found in these frames (T,) bool alone."""
        joints = np.where(frames[None, :, None, None], self.joints, np.nan)
        return Detections(joints, self.size, self.scores, self.bodies)

    def take(self, frames: np.ndarray) -> Detections:
        """The same persons in a file of these frames only, such as every second."""
        return Detections(self.joints[:, frames], self.size, self.scores[:, frames], self.bodies)


def wanderers(
    frames: int, joints: int, size: tuple[int, int], *, persons: int = 1, score: float = 0.9, seed: int = 0
) -> Detections:
    """Persons who walk across the picture, one below the other, each joint in its own way, all inside the picture."""
    rng = np.random.default_rng(seed)
    height, width = size
    time = np.arange(frames)[None, :, None]
    rest = rng.uniform((-0.08, -0.3 / persons), (0.08, 0.3 / persons), (persons, 1, joints, 2))
    wobble = 0.01 * np.stack([np.sin(time / 4 + np.arange(joints)), np.cos(time / 3 + np.arange(joints))], axis=-1)
    across = np.linspace(0.15, 0.85, frames)[None, :].repeat(persons, axis=0)
    down = ((np.arange(persons) + 0.5) / persons)[:, None].repeat(frames, axis=1)
    places = (np.stack([across, down], axis=-1)[:, :, None] + rest + wobble) * [width, height]
    return Detections(places, size, np.full(places.shape[:3], score), tuple(range(3, 3 + persons)))


@dataclass(frozen=True)
class Writer:
    """A format.

    Attributes:
        write: (stem, detections, unit, base, picture) -> the path written. `unit` is that of the places, `base` the
            number of the first frame, `picture` the size of the picture whose pixels the places are then, and which the
            file states.
        joints: V that it holds.
        units, bases: what it can express.
        listing: "array" and "folder" tell every frame; "list" leaves out frames without people.
        picture: whether it states the size of the picture; True, or the size if there is only one.
        names: whether it names persons; otherwise they are found by their places.
        most: the most persons that it holds.
        scores: whether it has confidences.
    """

    write: Callable[..., Path]
    joints: int
    units: tuple[str, ...] = UNITS
    bases: tuple[int, ...] = (0,)
    listing: str = "array"
    picture: bool | tuple[int, int] = False
    names: bool = True
    most: int = 9
    scores: bool = True

    def __call__(
        self,
        stem: Path,
        people: Detections,
        *,
        unit: str = PIXELS,
        base: int = 0,
        picture: tuple[int, int] | None = None,
    ) -> Path:
        """Write `people` beside a video of this stem. AssertionError for what the format cannot express."""
        assert unit in self.units
        assert base in self.bases
        assert picture is None or self.picture in (True, picture)
        assert people.joints.shape[2] == self.joints
        assert len(people.joints) <= self.most
        stem.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(self.picture, tuple):
            picture = self.picture
        return self.write(stem, people, _places(people, unit, picture), base, picture)


def _places(people: Detections, unit: str, picture: tuple[int, int] | None) -> np.ndarray:
    """Joints (M, T, V, 2) in a unit."""
    extent = np.array(people.size[::-1], dtype=np.float64)
    if unit == PIXELS and picture is not None:
        return (people.joints + 0.5) * (np.array(picture[::-1]) / extent) - 0.5
    return {PIXELS: people.joints, SHARES: people.joints / extent, SIGNED: people.joints / extent * 2 - 1}[unit]


def _each(people: Detections, places: np.ndarray, frame: int) -> list[tuple[int, np.ndarray]]:
    """(slot, x y score (V, 3)) of the persons found in a frame, the last first."""
    triples = np.concatenate([places, people.scores[..., None]], axis=-1).round(7)
    return [(m, triples[m, frame]) for m in reversed(range(len(places))) if people.found[m, frame]]


def _plain(array: np.ndarray) -> Any:
    """An array as JSON has it: null for NaN."""
    return np.where(np.isfinite(array), array.astype(object), None).tolist()


def _put(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def _own(people: Detections, places: np.ndarray, picture: tuple[int, int] | None) -> dict[str, Any]:
    scores = np.where(people.found[..., None], people.scores, 0)
    content = {"joints": places, "scores": scores, "body_ids": np.array(people.bodies)}
    return content if picture is None else content | {"size": np.array(picture)}


def _own_npz(stem: Path, people: Detections, places: np.ndarray, base: int, picture: Any) -> Path:
    np.savez(stem.with_suffix(".npz"), **_own(people, places, picture))
    return stem.with_suffix(".npz")


def _own_json(stem: Path, people: Detections, places: np.ndarray, base: int, picture: Any) -> Path:
    content = {name: _plain(array) for name, array in _own(people, places, picture).items()}
    return _put(stem.with_suffix(".json"), content)


def _openpose(stem: Path, people: Detections, places: np.ndarray, base: int, picture: Any) -> Path:
    for t in range(places.shape[1]):
        found = [{"person_id": [-1], "pose_keypoints_2d": one.ravel().tolist()} for _, one in _each(people, places, t)]
        _put(stem / f"{stem.name}_{t + base:012d}_keypoints.json", {"version": 1.3, "people": found})
    return stem


def _kinetics(stem: Path, people: Detections, places: np.ndarray, base: int, picture: Any) -> Path:
    data = []
    for t in range(places.shape[1]):
        found = [one for _, one in _each(people, places, t)]
        poses = [{"pose": one[:, :2].ravel().tolist(), "score": one[:, 2].tolist()} for one in found]
        if poses:
            data.append({"frame_index": t + base, "skeleton": poses})
    return _put(stem.with_suffix(".json"), {"data": data, "label": "walk", "label_index": 3})


def _coco_annotations(stem: Path, people: Detections, places: np.ndarray, base: int, picture: Any) -> Path:
    images, notes = [], []
    size = {} if picture is None else {"height": picture[0], "width": picture[1]}
    for t in range(places.shape[1]):
        found = _each(people, places, t)
        if found:
            images.append({"id": 1000 + t, "file_name": f"{stem.name}/{t + base:06d}.jpg", **size})
        for m, one in found:
            note = {"id": len(notes), "image_id": 1000 + t, "category_id": 1, "track_id": people.bodies[m]}
            notes.append(note | {"keypoints": one.ravel().tolist()})
    return _put(stem.with_suffix(".json"), {"images": images, "annotations": notes, "categories": []})


def _results(people: Detections, places: np.ndarray, base: int, name: str, *, idx: bool) -> list[dict[str, Any]]:
    return [
        {"image_id": name.format(t + base), "category_id": 1, "keypoints": one.ravel().tolist(), "score": 2.5}
        | ({"idx": [people.bodies[m]]} if idx else {})
        for t in range(places.shape[1])
        for m, one in _each(people, places, t)
    ]


def _coco_results(stem: Path, people: Detections, places: np.ndarray, base: int, picture: Any) -> Path:
    return _put(stem.with_suffix(".json"), _results(people, places, base, "frame_{:05d}.png", idx=False))


def _alphapose(stem: Path, people: Detections, places: np.ndarray, base: int, picture: Any) -> Path:
    return _put(stem.with_suffix(".json"), _results(people, places, base, "{}.jpg", idx=True))


def _skeleton(stem: Path, people: Detections, places: np.ndarray, base: int, picture: Any) -> Path:
    lines = [str(places.shape[1])]
    for t in range(places.shape[1]):
        found = _each(people, places, t)
        lines.append(str(len(found)))
        for m, one in found:
            lines += [f"{72057594037931000 + people.bodies[m]} 0 1 1 1 1 0 0.1 0.1 2", str(len(one))]
            lines += [f"0.1 0.2 3 0 0 {x:.7f} {y:.7f} 0 0 0 0 2" for x, y, _ in one]
    path = stem.with_suffix(".skeleton")
    path.write_text("\n".join(lines) + "\n")
    return path


def _penn(stem: Path, people: Detections, places: np.ndarray, base: int, picture: Any) -> Path:
    found = people.found[0][:, None].repeat(places.shape[2], axis=1)
    height, width = picture or people.size
    one = np.where(found[..., None], places[0], 1)
    facts = {"action": "bowl", "train": 1, "nframes": len(found), "dimensions": [[height, width, len(found)]]}
    savemat(
        stem.with_suffix(".mat"),
        facts | {"x": one[..., 0], "y": one[..., 1], "visibility": found},
        do_compression=True,
    )
    return stem.with_suffix(".mat")


def _jhmdb(stem: Path, people: Detections, places: np.ndarray, base: int, picture: Any) -> Path:
    savemat(stem.with_suffix(".mat"), {"pos_img": places[0].transpose(2, 1, 0)})
    return stem.with_suffix(".mat")


_ESTIMATED: dict[str, Any] = {"bases": (0, 1), "names": False}
WRITERS: dict[str, Writer] = {
    "own npz": Writer(_own_npz, 17, picture=True),
    "own json": Writer(_own_json, 17, picture=True),
    "openpose folder": Writer(_openpose, 25, listing="folder", **_ESTIMATED),
    "kinetics json": Writer(_kinetics, 18, listing="list", **_ESTIMATED),
    "coco annotations": Writer(_coco_annotations, 17, listing="list", bases=(0, 1), picture=True),
    "coco results": Writer(_coco_results, 17, listing="list", **_ESTIMATED),
    "alphapose": Writer(_alphapose, 17, listing="list"),  # by its tool, numbers from 0
    "ntu skeleton": Writer(_skeleton, 25, units=(PIXELS,), picture=NTU_SIZE, scores=False),
    "penn mat": Writer(_penn, 13, units=(PIXELS,), picture=True, most=1, scores=False),
    "jhmdb mat": Writer(_jhmdb, 15, units=(PIXELS,), most=1, scores=False),
}
