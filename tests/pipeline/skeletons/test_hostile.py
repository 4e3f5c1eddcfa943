"""Pose files that are traps or damaged: each is told as a SkeletonError, in a time and memory that it does not set."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_poses import MEMORY, traps
from pose_files import WRITERS, wanderers

from pipeline.errors import SkeletonError
from pipeline.skeletons.of_video import persons_of_video

FRAMES, SIZE = 6, (180, 320)
VALUES = [None, True, 3, -1, 1e999, float("nan"), 10**30, "x", "3", [], {}, [1], [[None]], {"id": 1}, 0.5, 2]


@pytest.mark.processes
def test_every_trap_is_told_within_a_bound_of_memory(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    program = [sys.executable, str(root / "tests" / "hostile_poses.py"), str(tmp_path)]
    ran = subprocess.run(program, cwd=root, env={"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}, capture_output=True)
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert [line[0] for line in lines] == list(traps())
    for name, kind, told, _ in lines:
        assert kind == "SkeletonError", (name, told)
        assert str(tmp_path) in told, name
        assert len(told) < 700, name
    assert max(line[3] for line in lines) < MEMORY


@pytest.mark.parametrize(
    ("trap", "told"),
    [
        ("all: null", "holds no poses of a known form (expected OpenPose"),
        ("MMPose", "looks like the output of MMPose's inferencer"),
        ("suffix .txt", "looks like Ultralytics' labels"),
        ("suffix .pkl", "is of an unknown pose format (expected a folder, or .skeleton .mat .npz .json)"),
        ("skeleton, 20 joints", "has 20 joints (Kinect v1), NTU RGB+D has 25; write `joints`"),
        ("npz, lying header", "whose header claims (2, 100000000000000, 25, 2), of which the bytes are not there"),
        ("fifo", "is not a regular file"),
        ("frame 3000000", "got 3000001 frames of poses, expected 24, the video's, give or take 2"),
        ("frame -1", "has an impossible frame number (got frame -1"),
        ("results, person twice", "has body 4 twice in frame 0"),
        ("joints differ", "people of different numbers of joints (got 17 in frame 0, 18 in frame 1)"),
        ("mat, bomb", "larger than 64 MiB"),
        ("name twice", "the name 'joints' twice"),
        ("deep list", "cannot be read as JSON"),
    ],
)
def test_the_cause_is_named(trap: str, told: str, tmp_path: Path) -> None:
    path = traps()[trap](tmp_path)
    with pytest.raises(SkeletonError) as caught:
        persons_of_video(path, frames=24, height=180, width=320, num_joints=25 if path.suffix == ".skeleton" else 17)
    assert told in str(caught.value)


@pytest.mark.parametrize("name", WRITERS)
def test_a_damaged_file_is_read_or_told(name: str, tmp_path: Path) -> None:
    """Values exchanged anywhere in JSON, bytes anywhere in the others: a Skeleton in frames, or a SkeletonError."""
    writer, rng = WRITERS[name], np.random.default_rng(len(name))
    people = wanderers(FRAMES, writer.joints, SIZE)
    path = writer(tmp_path / "walk", people)
    file = sorted(path.iterdir())[2] if path.is_dir() else path
    whole = file.read_bytes()
    told: list[str] = []
    for _ in range(80):
        file.write_bytes(_other_values(whole, rng) if file.suffix == ".json" else _other_bytes(whole, rng))
        try:
            persons, facts = persons_of_video(path, frames=FRAMES, height=180, width=320, num_joints=writer.joints)
        except SkeletonError as error:
            told.append(str(error))
        else:
            assert persons.joints.shape[1:] == (FRAMES, writer.joints, 2)
            json.dumps(facts)
    assert len(told) > 10
    assert all(str(path) in text for text in told)


def _other_values(whole: bytes, rng: np.random.Generator) -> bytes:
    """JSON in which one value, wherever it stands, is another."""
    content = json.loads(whole)
    places: list[tuple[Any, Any]] = []
    pending = [content]
    while pending:
        node = pending.pop()
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        deep = [key for key in keys if isinstance(node[key], list | dict)]
        plain = [key for key in keys if key not in deep]
        pending += [node[key] for key in deep]
        places += [(node, key) for key in deep + plain[:3]]
    node, key = places[rng.integers(len(places))]
    node[key] = VALUES[rng.integers(len(VALUES))]
    return json.dumps(content).encode()


def _other_bytes(whole: bytes, rng: np.random.Generator) -> bytes:
    """Bytes of which a few are others, or the end is missing."""
    data = bytearray(whole)
    reach = len(data) if rng.random() < 0.5 else 400  # headers are at the front
    for place in rng.integers(0, min(reach, len(data)), rng.integers(1, 5)):
        data[place] = rng.integers(256)
    return bytes(data[: rng.integers(len(data))] if rng.random() < 0.1 else data)
