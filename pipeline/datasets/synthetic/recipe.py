"""The synthetic data set, in the layout of NTU RGB+D, for the demo, the tests and the benchmarks.

In: a number of clips for each class and a seed. Out: names, and for each name an MPEG-4 video and a .skeleton file of
articulated people who do one of 14 actions in a room that three cameras see. Some pairs of actions differ in the order
of time alone, some in a thing that lies out of reach of every joint, some in a small movement of the hands. A clip is a
pure function of its name and the seed. It is listed and prepared as NTU.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import numpy as np

from pipeline.artifacts.files import write_atomic
from pipeline.datasets import ntu
from pipeline.datasets.synthetic.actions import MOVEMENTS
from pipeline.datasets.synthetic.camera import ANGLES, colour_pixels
from pipeline.datasets.synthetic.encode import encode_avi, skeleton_text
from pipeline.datasets.synthetic.render import frames
from pipeline.datasets.synthetic.scene import scene
from pipeline.errors import ConfigError, DataError
from pipeline.records import Listing, keyed_rng

VERSION = 4  # raised whenever the pixels or joints of a name and a seed change
# many, so that each class is seen on many bodies and clothes
SUBJECTS = range(1, 31)


def clip_names(clips_per_class: int, *, seed: int = 0) -> list[str]:
    """Names of `clips_per_class` clips of each class, the classes in turn; more clips keep the names of fewer.

    Of every three clips of a class, two have a training and one a test subject of xsub, and each comes from another
    camera. All classes get the same subjects, cameras and replications. The seed decides which
    subjects come first.

    Raises ConfigError: less than one clip.
    """
    if clips_per_class < 1:
        raise ConfigError("clips_per_class", "is too small", got=clips_per_class, expected="1 or more")
    rng = keyed_rng(seed, "synthetic names")
    train = rng.permutation(sorted(_train_subjects()))
    test = rng.permutation(sorted(set(SUBJECTS) - _train_subjects()))
    names = []
    for index in range(clips_per_class):
        triple, position = divmod(index, 3)
        subject = test[triple % len(test)] if position == 2 else train[(2 * triple + position) % len(train)]
        number = (triple + position) % len(ANGLES) + 1
        # 30 triples have every subject before every camera, 60 in both replications; then another setup begins
        replication, setup = triple // 30 % 2 + 1, triple // 60 + 1
        key = f"S{setup:03d}C{number:03d}P{subject:03d}R{replication:03d}"
        names += [f"{key}A{action:03d}" for action in range(1, len(MOVEMENTS) + 1)]
    return names


def write_clip(root: Path, name: str, *, seed: int) -> None:
    """Write root/videos/<name>_rgb.avi and root/skeletons/<name>.skeleton, unless both are there and whole.

    Files are written atomically; a damaged one is written again.

    Raises:
        DataError: the set has no clip of this name, or the files there were made from another seed or version.
        ArtifactError: the disk is full or the folder cannot be written.
    """
    video, skeleton = root / "videos" / f"{name}_rgb.avi", root / "skeletons" / f"{name}.skeleton"
    comment = f"synthetic set, version {VERSION}, seed {seed}"
    if _whole_avi(video, comment) and _whole_skeleton(skeleton):
        return
    clip = scene(name, seed=seed)
    write_atomic(video, encode_avi(frames(clip, seed=seed), comment=comment))
    write_atomic(skeleton, skeleton_text(clip, seed=seed).encode("ascii"))


def painted_joints(name: str, *, seed: int) -> np.ndarray:
    """Where the renderer puts the joints of a clip: float64 (M, T, 25, 2) in pixels, in every frame of the video.

    The skeleton file holds the same places to seven digits, in pixels of 1920 x 1080, except in frames in which the
    sensor lost the person.

    Raises DataError: the set has no clip of this name.
    """
    clip = scene(name, seed=seed)
    return colour_pixels(clip.camera.see(clip.joints))


def listing(root: Path) -> Listing:
    """All clips below `root`, as the recipe for NTU finds them; see `pipeline.datasets.ntu.listing`."""
    return ntu.listing(root / "videos", root / "skeletons", dataset="synthetic")


def _train_subjects() -> set[int]:
    splits = json.loads(files("manifests").joinpath("synthetic/splits.json").read_text(encoding="utf-8"))
    return set(splits["xsub"]["train_subjects"])


def _whole_avi(path: Path, comment: str) -> bool:
    """Whether the file is an AVI as long as its header says; DataError if it was made from another seed or version."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        head = file.read(8192)
    if len(head) < 12 or head[:4] != b"RIFF" or int.from_bytes(head[4:8], "little") + 8 != path.stat().st_size:
        return False
    mark = head.find(b"synthetic set, version ")
    found = head[mark : head.find(b"\0", mark)].decode("ascii", "replace") if mark >= 0 else "another video"
    if found != comment:
        problem = "exists and was made with another seed or version"
        raise DataError(path, problem, got=found, expected=comment, remedy="choose another folder, or delete this one")
    return True


def _whole_skeleton(path: Path) -> bool:
    """Whether the file has all the lines that its counts announce."""
    if not path.is_file():
        return False
    lines = path.read_bytes().split(b"\n")
    at, left = 1, int(lines[0]) if lines[0].isdigit() else -1
    while left > 0 and at < len(lines) and lines[at].isdigit():
        at += 1 + 27 * int(lines[at])
        left -= 1
    return left == 0 and at == len(lines) - 1 and not lines[-1]
