"""Prepared shards: what was written comes back, equal content is equal bytes, and damage is told."""

from __future__ import annotations

import dataclasses
import io
import itertools
import time
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from pipeline import config
from pipeline.config import PrepareOptions
from pipeline.errors import CorruptError
from pipeline.prepare.hdf5 import (
    MIN_PICTURE,
    ClipContent,
    ShardReader,
    decode_picture,
    decode_pictures,
    encode_picture,
    encode_shard,
    known_bytes,
)

DRAWS, PERSONS, FRAMES, JOINTS = 2, 2, 4, 5


def _clip(seed: int, codec: str = "lossless", side: int = 16, *, xyz: bool = False) -> ClipContent:
    rng = np.random.default_rng(seed)
    shape = (DRAWS, PERSONS, FRAMES, JOINTS)
    pictures = rng.integers(0, 256, (DRAWS, FRAMES, side, side, 3), dtype=np.uint8)
    joints = rng.uniform(-20, 150, (*shape, 2)).astype(np.float32)
    joints[:, 1, 2] = np.nan
    return ClipContent(
        frames=tuple(tuple(encode_picture(picture, codec) for picture in draw) for draw in pictures),
        joints=joints,
        scores=rng.uniform(0, 1, shape).astype(np.float32),
        frame_index=np.sort(rng.integers(0, 100, (DRAWS, FRAMES))),
        box=(-4, 2, 60, 66),
        xyz=np.where(np.isnan(joints[..., :1]), joints[..., :1], rng.normal(size=(*shape, 3))).astype(np.float32)
        if xyz
        else None,
    )


def _encoded(clips: list[ClipContent | None]) -> bytes:
    ids = [f"S001C001P001R001A{i:03d}" for i in range(len(clips))]
    labels = list(range(len(clips)))
    return bytes(
        encode_shard(clips, ids=ids, labels=labels, draws=DRAWS, persons=PERSONS, num_frames=FRAMES, num_joints=JOINTS),
    )


def _reader(path: Path, rows: int) -> ShardReader:
    return ShardReader(path, (rows, DRAWS, PERSONS, FRAMES, JOINTS))


def _same(one: ClipContent, other: ClipContent) -> None:
    assert one.frames == other.frames
    assert one.box == other.box
    for name in ("joints", "scores", "frame_index"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (one.xyz is None) == (other.xyz is None)
    if one.xyz is not None and other.xyz is not None:
        np.testing.assert_array_equal(one.xyz, other.xyz)
    assert one.digest() == other.digest()


@pytest.mark.parametrize("xyz", [False, True])
def test_clips_come_back_and_holes_stay_holes(tmp_path: Path, xyz: bool) -> None:
    clips = [_clip(0, xyz=xyz), None, _clip(1), None, None, _clip(2, xyz=xyz)]
    (tmp_path / "x.h5").write_bytes(_encoded(clips))
    with _reader(tmp_path / "x.h5", len(clips)) as reader:
        for i in (5, 0, 2):
            expected = clips[i]
            assert expected is not None
            _same(reader.clip(i), expected)


def test_the_layout_is_the_documented_one(tmp_path: Path) -> None:
    clips = [_clip(0), None, _clip(1)]
    (tmp_path / "x.h5").write_bytes(_encoded(clips))
    with h5py.File(tmp_path / "x.h5") as file:
        shapes = {name: data.shape for name, data in file.items() if name != "frames"}
        assert shapes == {
            "joints": (3, DRAWS, PERSONS, FRAMES, JOINTS, 2),
            "scores": (3, DRAWS, PERSONS, FRAMES, JOINTS),
            "frame_index": (3, DRAWS, FRAMES),
            "frame_offset": (3, DRAWS, FRAMES + 1),
            "box": (3, 4),
            "label": (3,),
            "id": (3,),
        }
        assert file["id"].asstr()[2] == "S001C001P001R001A002"
        assert file["label"][()].tolist() == [0, 1, 2]
        assert np.isnan(file["joints"][1]).all()
        assert (file["scores"][1] == 0).all()
        assert (file["frame_index"][1] == -1).all()
        start, end = file["frame_offset"][2, 1, 3:5]
        assert clips[2] is not None
        assert file["frames"][start:end].tobytes() == clips[2].frames[1][3]


def test_places_in_space_are_kept_where_a_clip_has_them(tmp_path: Path) -> None:
    (tmp_path / "x.h5").write_bytes(_encoded([_clip(0), _clip(1, xyz=True)]))
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["xyz"].shape == (2, DRAWS, PERSONS, FRAMES, JOINTS, 3)
        assert np.isnan(file["xyz"][0]).all()
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        del file["xyz"]
        file["xyz"] = np.zeros((2, DRAWS, PERSONS, FRAMES, JOINTS, 2), np.float32)
    with pytest.raises(CorruptError, match="xyz is of shape"):
        _reader(tmp_path / "x.h5", 2)


def test_equal_content_is_equal_bytes_whenever_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    first = _encoded([_clip(0), None])
    monkeypatch.setattr(time, "time", lambda: 4e9)
    time.sleep(1.1)  # the clock of HDF5's time stamps has whole seconds
    assert _encoded([_clip(0), None]) == first


def test_a_shard_without_any_clip_is_a_shard(tmp_path: Path) -> None:
    (tmp_path / "x.h5").write_bytes(_encoded([None, None]))
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["frames"].shape == (0,)


def test_every_part_of_a_clip_is_in_its_digest() -> None:
    clip = _clip(0, xyz=True)
    assert clip.xyz is not None
    xyz, scores, joints, index = clip.xyz.copy(), clip.scores.copy(), clip.joints.copy(), clip.frame_index.copy()
    xyz[0, 0, 1, 2, 2] += 0.001
    scores[0, 0, 0, 0] += 0.001
    joints[1, 0, 3, 4, 1] += 0.001
    index[1, 2] += 1
    first, second = clip.frames[0][:2]
    moved = (first + second[:1], second[1:], *clip.frames[0][2:])  # the same bytes, another boundary
    changed = [
        dataclasses.replace(clip, scores=scores),
        dataclasses.replace(clip, xyz=xyz),
        dataclasses.replace(clip, xyz=None),
        dataclasses.replace(clip, joints=joints),
        dataclasses.replace(clip, frame_index=index),
        dataclasses.replace(clip, box=(-4, 2, 60, 68)),
        dataclasses.replace(clip, frames=(clip.frames[1], clip.frames[0])),
        dataclasses.replace(clip, frames=(moved, clip.frames[1])),
    ]
    digests = [clip.digest(), *(other.digest() for other in changed)]
    assert len(set(digests)) == len(digests)
    assert dataclasses.replace(clip).digest() == clip.digest()


@pytest.mark.parametrize("codec", ["jpeg95", "lossless"])
def test_pictures_decode_to_pillows_pixels(codec: str) -> None:
    rng = np.random.default_rng(0)
    for number in range(40):
        side, coarse = int(rng.integers(1, 140)), int(rng.integers(1, 140))
        noise = Image.fromarray(rng.integers(0, 256, (coarse, coarse, 3), dtype=np.uint8)).resize((side, side + number))
        data = encode_picture(np.asarray(noise), codec)
        with Image.open(io.BytesIO(data)) as picture:
            np.testing.assert_array_equal(decode_picture(data), np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("codec", ["jpeg95", "lossless"])
def test_a_picture_that_is_not_whole_is_an_error(codec: str) -> None:
    data = encode_picture(np.zeros((32, 32, 3), np.uint8), codec)
    for damaged in (b"", b"hello", data[:-2], data[: len(data) // 2], b"x" * 20 + data[20:]):
        with pytest.raises(CorruptError, match="cannot be decoded"):
            decode_picture(damaged)


def test_lossless_is_exact_and_jpeg_is_close() -> None:
    rows, columns = np.mgrid[:128, :128]
    picture = np.stack([rows * 2, columns * 2, (rows + columns)], axis=-1).astype(np.uint8)
    np.testing.assert_array_equal(decode_picture(encode_picture(picture, "lossless")), picture)
    lossy = decode_picture(memoryview(encode_picture(picture, "jpeg95")))
    assert (lossy.shape, lossy.dtype) == ((128, 128, 3), np.uint8)
    error = np.abs(lossy.astype(int) - picture).mean()
    assert 0 < error < 1.5
    # 4:4:4: a colour edge of one pixel stays one pixel wide
    edge = np.zeros((16, 16, 3), np.uint8)
    edge[:, 8:] = (255, 0, 0)
    assert np.abs(decode_picture(encode_picture(edge, "jpeg95")).astype(int) - edge).max() < 12


@pytest.mark.parametrize("xyz", [False, True])
@pytest.mark.parametrize("codec", ["jpeg95", "lossless"])
def test_sizes_are_known_before_anything_is_made(codec: str, xyz: bool) -> None:
    clips: list[ClipContent | None] = [_clip(i, codec, side=128, xyz=xyz) if i % 3 else None for i in range(40)]
    pictures = [p for clip in clips if clip is not None for p in itertools.chain(*clip.frames)]
    size = len(_encoded(clips)) - sum(map(len, pictures))
    size += len(clips) * DRAWS * (config.FRAMES - FRAMES) * (PERSONS * JOINTS * (24 if xyz else 12) + 16)  # as if of 16
    known = known_bytes(len(clips), 1, PrepareOptions(draws=DRAWS, max_persons=PERSONS), JOINTS, xyz=xyz)
    assert 0.5 * known < size < known  # the rest is for the lines in three JSON files
    assert min(map(len, pictures)) > MIN_PICTURE[codec]


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    whole = _encoded([_clip(0)])
    for name, data in (("empty", b""), ("text", b"hello" * 100), ("cut", whole[: len(whole) // 2])):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CorruptError, match="star verify"):
            _reader(tmp_path / name, 1)
    with pytest.raises(CorruptError):
        _reader(tmp_path / "nothing", 1)


@pytest.mark.parametrize("name", ["frames", "frame_offset", "joints", "scores", "frame_index", "box"])
@pytest.mark.parametrize("change", ["flat", "exchanged", "fewer"])
def test_an_array_of_another_shape_is_refused(tmp_path: Path, name: str, change: str) -> None:
    """Of the right number of values, or of fewer."""
    path = tmp_path / "x.h5"
    path.write_bytes(_encoded([_clip(0), _clip(1)]))
    with h5py.File(path, "r+") as file:
        array = file[name][()]
        del file[name]
        if change == "fewer":
            array = array[..., :-1]
        elif change == "flat":
            array = array.reshape(-1) if name != "frames" else array.reshape(1, -1)
        else:
            array = array.reshape(*array.shape[:-2], *array.shape[:-3:-1]) if array.ndim > 1 else array[None]
        file.create_dataset(name, data=array)
        of_frames = name == "frames" and change == "fewer"  # whose length is that of the pictures
    if of_frames:
        with _reader(path, 2) as reader:
            assert reader.clip(1).digest() != _clip(1).digest()
        return
    with pytest.raises(CorruptError, match=rf"cannot be read as a prepared shard \({name} is of shape"):
        _reader(path, 2)


def test_a_file_of_other_sizes_than_the_options_is_refused(tmp_path: Path) -> None:
    path, sizes = tmp_path / "x.h5", (2, DRAWS, PERSONS, FRAMES, JOINTS)
    path.write_bytes(_encoded([_clip(0), None]))
    for axis in range(5):
        with pytest.raises(CorruptError, match="is of shape"):
            ShardReader(path, (*sizes[:axis], sizes[axis] + 1, *sizes[axis + 1 :]))  # type: ignore[arg-type]
    with ShardReader(path, sizes) as reader:
        assert [reader.holds_pictures(row) for row in range(2)] == [True, False]


def test_whatever_bit_is_flipped_reading_gives_the_clip_or_an_error_or_another_digest(tmp_path: Path) -> None:
    clip = _clip(0)
    whole = _encoded([clip, _clip(1)])
    rng = np.random.default_rng(0)
    head = rng.integers(0, 8 * 6000, 60)  # HDF5's own bytes lie at the front
    outcomes = {"same": 0, "other": 0, "error": 0}
    for place in [*head, *rng.integers(0, 8 * len(whole), 60)]:
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << int(place % 8)
        (tmp_path / "x.h5").write_bytes(flipped)
        try:
            with _reader(tmp_path / "x.h5", 2) as reader:
                outcomes["same" if reader.clip(0).digest() == clip.digest() else "other"] += 1
        except CorruptError:
            outcomes["error"] += 1
    assert min(outcomes.values()) > 0, outcomes


@pytest.mark.parametrize("codec", ["JPEG", "PNG"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_picture_that_claims_to_be_huge_takes_no_memory(codec: str, progressive: bool) -> None:
    """Three thousand megabytes by its header; by another byte of it, a few hundred."""
    out = io.BytesIO()
    Image.new("RGB", (48, 32)).save(out, codec, progressive=progressive)
    data = bytearray(out.getvalue())
    assert decode_picture(bytes(data)).shape == (32, 48, 3)
    if codec == "PNG":
        data[16:24] = (30000).to_bytes(4, "big") * 2
    else:
        at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
        data[at + 5 : at + 9] = (30000).to_bytes(2, "big") * 2
    tracemalloc.start()
    with pytest.raises(CorruptError, match="cannot be decoded"):
        decode_picture(bytes(data))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_pictures_of_one_clip_have_one_size() -> None:
    large, small = (encode_picture(np.zeros((side, 16, 3), np.uint8), "lossless") for side in (16, 24))
    assert decode_pictures([large, large]).shape == (2, 16, 16, 3)
    with pytest.raises(CorruptError, match="differ in size"):
        decode_pictures([large, small])
