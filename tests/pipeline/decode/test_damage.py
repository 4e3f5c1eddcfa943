"""Damaged videos: of every kind, the frames are the right ones or there is a DecodeError; nothing in between.

`KINDS` is the list of what is noticed in an AVI, the container of NTU RGB+D. What no decoder can notice is a changed
bit that leaves a valid stream: pixels may then be wrong; that no frame is taken for another one is tested.
A hole in a Matroska file can go unnoticed: it states neither the number of its frames nor a rate they must keep.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from video_fixtures import Stream, encode, number_of

from pipeline.decode.read import probe, read_frames
from pipeline.errors import DecodeError

FRAMES = 40
Damage = Callable[[bytearray, np.random.Generator, list[tuple[int, int]]], bytes | bytearray]


def _hole(data: bytearray, rng: np.random.Generator, packets: list[tuple[int, int]]) -> bytearray:
    at = int(rng.integers(packets[0][0], packets[-1][0]))
    data[at : at + 2000] = bytes(2000)
    return data


def _tail_of_zeros(data: bytearray, rng: np.random.Generator, packets: list[tuple[int, int]]) -> bytearray:
    at = int(rng.integers(packets[0][0], packets[-1][0]))
    data[at:] = bytes(len(data) - at)
    return data


def _payload(data: bytearray, rng: np.random.Generator, packets: list[tuple[int, int]]) -> bytearray:
    at, size = packets[int(rng.integers(FRAMES))]
    data[at + size // 4 : at + size] = rng.bytes(size - size // 4)
    return data


def _chunk_name(data: bytearray, rng: np.random.Generator, packets: list[tuple[int, int]]) -> bytearray:
    at, _ = packets[int(rng.integers(1, FRAMES))]
    data[at - 8 : at - 4] = b"\xff\x00\xff\x00"
    return data


def _cut(data: bytearray, rng: np.random.Generator, packets: list[tuple[int, int]]) -> bytearray:
    return data[: int(rng.integers(12, len(data) - 100))]


def _cut_between_frames(data: bytearray, rng: np.random.Generator, packets: list[tuple[int, int]]) -> bytearray:
    return data[: packets[int(rng.integers(1, FRAMES))][0] - 8]


def _part_removed(data: bytearray, rng: np.random.Generator, packets: list[tuple[int, int]]) -> bytearray:
    at = int(rng.integers(packets[0][0], packets[-3][0]))
    return data[:at] + data[at + 1000 :]


def _part_repeated(data: bytearray, rng: np.random.Generator, packets: list[tuple[int, int]]) -> bytearray:
    start, end = sorted(rng.choice(np.arange(1, FRAMES), 2, replace=False))
    return data[: packets[end][0] - 8] + data[packets[start][0] - 8 :]


def _no_index(data: bytearray, rng: np.random.Generator, packets: list[tuple[int, int]]) -> bytearray:
    at = data.rindex(b"idx1")
    data[at:] = bytes(len(data) - at)
    return data


def _no_header(data: bytearray, rng: np.random.Generator, packets: list[tuple[int, int]]) -> bytearray:
    data[: int(rng.integers(4, 200))] = b""
    return data


def _zero_bytes(data: bytearray, rng: np.random.Generator, packets: list[tuple[int, int]]) -> bytes:
    return b""


def _text(data: bytearray, rng: np.random.Generator, packets: list[tuple[int, int]]) -> bytes:
    return b"404 Not Found\n" * int(rng.integers(1, 1000))


KINDS: dict[str, Damage] = {
    "hole of zeros": _hole,
    "tail of zeros": _tail_of_zeros,
    "a frame's pixels overwritten": _payload,
    "a chunk's name overwritten": _chunk_name,
    "cut off": _cut,
    "cut off between frames": _cut_between_frames,
    "part removed": _part_removed,
    "part repeated": _part_repeated,
    "index overwritten": _no_index,
    "start removed": _no_header,
    "zero bytes": _zero_bytes,
    "text": _text,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[tuple[int, int]]]:
    """An AVI as those of NTU RGB+D: MPEG-4 without B-frames, a key frame every 12 frames."""
    path = tmp_path_factory.mktemp("whole") / "whole.avi"
    encode(path, Stream("mpeg4", height=240, width=320), range(FRAMES))
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    return path.read_bytes(), packets


def _frames_or_refusal(path: Path) -> list[tuple[int, int | None]]:
    """(asked, shown) for frames spread over the video, drawn again once as stage 1 does; empty if refused."""
    try:
        count = probe(path).frames
        for last_try in (False, True):
            asked = np.linspace(0, count - 1, 16).astype(int)
            try:
                frames = read_frames(path, asked)
                return [(int(i), number_of(frame)) for i, frame in zip(asked, frames, strict=True)]
            except DecodeError as error:
                if last_try or not error.frames:
                    raise
                count = error.frames
    except DecodeError:
        pass
    return []


@pytest.mark.parametrize("kind", KINDS)
def test_damage_gives_the_right_frames_or_a_refusal(
    kind: str, whole: tuple[bytes, list[tuple[int, int]]], tmp_path: Path
) -> None:
    data, packets = whole
    for seed in range(10):
        path = tmp_path / f"{seed}.avi"
        path.write_bytes(KINDS[kind](bytearray(data), np.random.default_rng(seed), packets))
        shown = _frames_or_refusal(path)
        assert all(asked == number for asked, number in shown), f"seed {seed}: {shown}"
        if kind == "index overwritten":
            assert len(shown) == 16, "nothing that is needed is missing"
            assert shown[-1][0] == FRAMES - 1
        elif kind != "a frame's pixels overwritten":  # a frame that no wanted one depends on may well be damaged
            assert not shown, f"seed {seed} passes for whole"


def test_flipped_bits_move_no_frame(whole: tuple[bytes, list[tuple[int, int]]], tmp_path: Path) -> None:
    _flip_bits(whole, tmp_path, range(60))


@pytest.mark.soak
def test_flipped_bits_move_no_frame_in_a_long_campaign(
    whole: tuple[bytes, list[tuple[int, int]]], tmp_path: Path
) -> None:
    seed, count = int(os.environ.get("SEED", 0)), int(os.environ.get("N", 50))
    _flip_bits(whole, tmp_path, range(100_000 * seed, 100_000 * seed + 100 * count))


def _flip_bits(whole: tuple[bytes, list[tuple[int, int]]], folder: Path, seeds: range) -> None:
    data, packets = whole
    for seed in seeds:
        rng = np.random.default_rng(seed)
        damaged = bytearray(data)
        for at in rng.integers(packets[0][0], packets[-1][0], int(rng.integers(1, 4))):
            damaged[at] ^= 1 << int(rng.integers(8))
        path = folder / "flipped.avi"
        path.write_bytes(damaged)
        for asked, number in _frames_or_refusal(path):
            assert number in (asked, None), f"seed {seed}: frame {asked} shows {number}"
