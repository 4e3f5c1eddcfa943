"""`pipeline.decode.child_process`: what a clip holds depends on its video and the reader asked for, on nothing else."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from contracts.reader_contract import INSTALLED
from decode_children import count_starts, install
from picture_fixtures import build
from video_fixtures import VIDEOS, number_of

from pipeline.decode.child_process import DecodeProcess
from pipeline.decode.read import PICTURES
from pipeline.errors import DecodeError

pytestmark = pytest.mark.processes

# A file "plan" holds one misfortune: at the n-th packet that PyAV decodes, or after a share of the reply
MISFORTUNES = """
import signal
from pipeline.child import main
from pipeline.decode import pyav_reader
plan, packets = pathlib.Path(os.environ["HANGS"], "plan"), [0]
decoded, send = pyav_reader._decoded, main._send

def strikes(place, count):
    if not plan.exists():
        return None
    kind, where, at = plan.read_text().split()
    if where != place or count < float(at):
        return None
    plan.unlink()
    return kind

def suffer(kind):
    if kind == "hang":
        hang()
    if kind == "crash":
        ctypes.string_at(0)
    os.kill(os.getpid(), signal.SIGKILL)

def unlucky_decoded(*arguments):
    packets[0] += 1
    if kind := strikes("packet", packets[0]):
        suffer(kind)
    return decoded(*arguments)

def unlucky_send(replies, parts):
    packets[0] = 0
    data = b"".join(parts)
    if kind := strikes("reply", 1):
        send(replies, [memoryview(data[: len(data) // 3])])
        suffer(kind)
    send(replies, parts)

pyav_reader._decoded, main._send = unlucky_decoded, unlucky_send
"""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Processes that were started, which have the misfortune of the file "plan"; their budgets end when they hang."""
    install(monkeypatch, tmp_path, MISFORTUNES)
    return count_starts(monkeypatch, tmp_path)


def test_whatever_becomes_of_the_child_pixels_and_reader_stay(videos: Path, starts: list[int], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    options = {"box": (4, -2, 80, 60), "size": (31, 47)}
    calls = [(name, reader) for name in ("h264-mp4", "mpeg4-b0-avi") for reader in INSTALLED]
    with DecodeProcess() as decoder:
        expected = {}
        for name, reader in calls:
            path = build(name, videos)
            expected[name, reader] = decoder.read_frames(path, [39, 3, 17], reader=reader, **options)
        assert len(starts) == 1
        for _ in range(20):
            name, reader = calls[rng.integers(len(calls))]
            if rng.random() < 0.2:  # between two calls
                pid = starts[-1]
                os.kill(pid, signal.SIGKILL)
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            else:
                # OpenCV and decord have PyAV decode one packet, to know the size
                packet = int(rng.integers(1, 40)) if reader == "pyav" else 1
                place = f"packet {packet}" if rng.random() < 0.6 else "reply 1"
                (tmp_path / "plan").write_text(f"{rng.choice(['kill', 'hang', 'crash'])} {place}")
            before = len(starts)
            decoded = decoder.read_frames(build(name, videos), [39, 3, 17], reader=reader, **options)
            assert not (tmp_path / "plan").exists(), "it struck"
            assert len(starts) == before + 1
            assert decoded.reader == expected[name, reader].reader
            assert decoded.frames.tobytes() == expected[name, reader].frames.tobytes()


def test_the_reader_that_serves_is_told(videos: Path, starts: list[int]) -> None:
    with DecodeProcess() as decoder:
        for name, reader, served in (
            ("h264-mp4", "opencv", "opencv"),
            ("mirrored", "opencv", "pyav"),
            ("two-streams-best-last", "opencv", "pyav"),
            ("mpeg4-b2-avi", "decord", "pyav"),
            ("mpeg4-b0-avi", "decord", "decord"),
            ("jpg-6", "decord", PICTURES),
        ):
            if reader not in INSTALLED:
                continue
            numbers = (*VIDEOS[name].numbers,) if name in VIDEOS else tuple(range(3, 15))
            decoded = decoder.read_frames(build(name, videos), [11, 2], reader=reader)
            assert decoded.reader == served, name
            assert [number_of(frame) for frame in decoded.frames] == [numbers[11], numbers[2]]
    assert len(starts) == 1


def test_what_no_reader_can_decode_is_told_by_the_last(videos: Path, starts: list[int]) -> None:
    with DecodeProcess() as decoder:
        for reader in INSTALLED:
            with pytest.raises(DecodeError, match=r"too few frames \(got 40, expected frame 40\)") as caught:
                decoder.read_frames(build("mpeg4-b2-avi", videos), [40], reader=reader)
            assert caught.value.frames == 40
            with pytest.raises(DecodeError, match="cannot be opened as a video"):
                decoder.read_frames(build("text-avi", videos), [0], reader=reader)
    assert len(starts) == 1


def test_frames_that_are_turned_arrive(videos: Path, starts: list[int]) -> None:
    with DecodeProcess() as decoder:
        for name in ("rotated-90", "rotated-270", "rotated-90-av1", "jpg-6", "png-5"):
            frames = decoder.read_frames(build(name, videos), range(12)).frames
            first = 0 if name in VIDEOS else 3
            assert [number_of(frame) for frame in frames] == list(range(first, first + 12))
    assert len(starts) == 1, "none of them ends the process"
