"""`pipeline.decode`: every reader under one contract, then real files, folders, damage, and what a caller may ask."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import av
import cv2
import numpy as np
import pytest
from contracts.reader_contract import INSTALLED, ReaderContract
from hypothesis import example, given, settings
from hypothesis import strategies as st
from picture_fixtures import BROKEN_FOLDERS, FOLDERS, build, write_frames_folder
from video_fixtures import VIDEOS, Stream, Video, encode, number_of

from pipeline.decode.mpeg4_packets import packets_needed
from pipeline.decode.read import VideoInfo, count_frames, probe, read_frames
from pipeline.errors import ConfigError, DecodeError

READS_AV1 = cv2.__version__.startswith("4.")


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


class TestPyav(ReaderContract):
    reader = "pyav"
    refusals: ClassVar[dict[str, str]] = {}


class TestOpencv(ReaderContract):
    reader = "opencv"
    refusals: ClassVar[dict[str, str]] = {
        "two-streams-best-last": "not the first",
        "mirrored": "mirrored",
        "mpeg2-vob": "loses a frame in OpenCV",
        **{"mjpeg-exif-2": "mirrored", "mjpeg-exif-3": "turned by its frames", "mjpeg-exif-6": "turned by its frames"},
        **({} if READS_AV1 else {"rotated-90-av1": "no frame that OpenCV can decode"}),
    }


@pytest.mark.skipif("decord" not in INSTALLED, reason="decord has wheels for x86-64 Linux only")
class TestDecord(ReaderContract):
    reader = "decord"
    refusals: ClassVar[dict[str, str]] = {
        **{name: "B-frames" for name in VIDEOS if any(part in name for part in ("-b1", "-b2", "open-gop", "packed"))},
        **dict.fromkeys(["h264-MTS", "mpeg2-vob", "mpeg2-mpg"], "B-frames"),
        **dict.fromkeys(["gif", "gif-uneven", "vp8-ogv", "wmv2-asf", "wmv2-wmv"], "a container in which"),
        **dict.fromkeys(["flv", "h264-nut", "apng"], "a container in which"),
        **dict.fromkeys(
            [name for name in VIDEOS if name.startswith(("rotated", "mjpeg-exif", "mirrored"))], "is turned"
        ),
        **dict.fromkeys(["variable-rate-mp4", "variable-rate-mkv", "one-frame-h264-b"], "B-frames"),
        **dict.fromkeys(["two-streams-best-first", "two-streams-best-last"], "turned .* or has several"),
    }


class TestPictures(ReaderContract):
    reader = "pyav"
    refusals: ClassVar[dict[str, str]] = {}
    whole: ClassVar[dict[str, Video]] = FOLDERS
    broken: ClassVar[dict[str, object]] = BROKEN_FOLDERS

    def test_the_sentence_tells_what_is_wrong(self, broken_name: str, videos: Path) -> None:
        with pytest.raises(DecodeError, match=broken_name):
            self.read(build(broken_name, videos), range(12))


REAL = {  # and what of each the other readers may refuse
    "ntu/videos/S001C001P001R001A001_rgb.avi": {},
    "ntu/videos/mmaction2__S001C001P001R001A001_rgb.avi": {"decord": "B-frames"},
    "video/mma__test.avi": {"decord": "B-frames"},
    "video/tc__h264_10bits.mp4": {"decord": "B-frames"},
    "video/tc__bt709_full_range.mp4": {"decord": "B-frames"},
    "video/tc__h265_video.mp4": {"decord": "B-frames"},
    "video/tc__av1_video.mkv": {"opencv": "no frame that OpenCV can decode", "decord": "by decord"},
    "video/vf__v_ZNVhz7ctTq0.mp4": {},
    "video/decord__video_0.mov": {},
    "video/decord__video_90.mov": {"decord": "is turned"},
    "video/decord__video_180.mov": {"decord": "is turned"},
    "video/decord__unordered.mov": {"decord": "B-frames"},
    "video/tv__RATRACE_wave_f_nm_np1_fr_goo_37.avi": {"decord": "B-frames"},
    "video/tv__v_SoccerJuggling_g23_c01.avi": {},
    "video_jhmdb/clap__boomsnapclap!_clap_u_nm_np1_fr_med_0.avi": {},
}


@pytest.mark.parametrize("name", REAL)
def test_readers_agree_on_real_files(name: str, test_data: Path) -> None:
    path, refusals = test_data / name, REAL[name]
    indices = np.linspace(0, min(count_frames(path) - 1, 30), 8).astype(int)
    reference = read_frames(path, indices, size=(64, 96)).astype(int)
    for reader in INSTALLED[1:]:
        try:
            frames = read_frames(path, indices, reader=reader, size=(64, 96)).astype(int)
        except DecodeError as error:
            if reader in refusals and re.search(refusals[reader], str(error)):
                continue  # OpenCV 5 refuses AV1, OpenCV 4 reads it
            raise
        # they round differently on the way to RGB: 1.7 on average, 2.9 where there are 10 bits
        assert np.abs(frames - reference).mean(axis=(1, 2, 3)).max() < 3


@pytest.mark.parametrize(
    ("name", "info", "decoded"),
    [
        ("ntu/videos/S001C001P001R001A001_rgb.avi", VideoInfo(103, 1080, 1920), 103),
        ("video/tv__RATRACE_wave_f_nm_np1_fr_goo_37.avi", VideoInfo(73, 240, 560), 72),
        ("video/tv__TrumanShow_wave_f_nm_np1_fr_med_26.avi", VideoInfo(49, 240, 432), 48),
        ("video_jhmdb/clap__boomsnapclap!_clap_u_nm_np1_fr_med_0.avi", VideoInfo(40, 240, 320), 40),
        ("video/decord__video_90.mov", VideoInfo(3, 568, 320), 3),
    ],
)
def test_counts_and_sizes_of_real_files(name: str, info: VideoInfo, decoded: int, test_data: Path) -> None:
    path = test_data / name
    assert probe(path) == info
    with pytest.raises(DecodeError, match="too few frames") as caught:
        read_frames(path, [info.frames + 5], size=(8, 8))
    assert caught.value.frames == decoded
    assert len(read_frames(path, [decoded - 1], size=(8, 8))) == 1


def test_pictures_left_out_change_nothing(test_data: Path) -> None:
    path = test_data / "ntu/videos/S001C001P001R001A001_rgb.avi"
    every = read_frames(path, range(103), box=(600, 200, 1240, 840), size=(48, 48))
    for wanted in ([102], [11, 12, 13], [0, 40, 95], np.linspace(3, 99, 16).astype(int)):
        np.testing.assert_array_equal(
            read_frames(path, wanted, box=(600, 200, 1240, 840), size=(48, 48)), every[np.asarray(wanted)]
        )


@settings(max_examples=50, deadline=None)
@given(
    kinds=st.lists(st.sampled_from("IPPPPS"), min_size=1, max_size=40),
    wanted=st.sets(st.integers(0, 39), min_size=1, max_size=8),
)
def test_packets_needed_are_those_back_to_the_last_key_frame(kinds: list[str], wanted: set[int]) -> None:
    kinds[0] = "I"
    wanted = {number for number in wanted if number < len(kinds)} or {0}
    expected = set()
    for number in wanted:
        while kinds[number] != "I":
            expected.add(number)
            number -= 1
        expected.add(number)
    expected |= {number for number, kind in enumerate(kinds) if kind == "I" and number < max(wanted)}
    assert packets_needed([_vop(kind) for kind in kinds], sorted(wanted)) == sorted(expected)


def _vop(kind: str, length: int = 60) -> bytes:
    headers = b"\x00\x00\x01\x20 headers" if kind == "I" else b""
    return headers + b"\x00\x00\x01\xb6" + bytes(["IPBS".index(kind) << 6 | 7]) + b"\x77" * length


@pytest.mark.parametrize(
    "odd",
    [
        _vop("B"),
        _vop("P") + _vop("P"),
        _vop("P", length=3),
        b"",
        b"\x00\x00\x01\xb2DivX503b1393p" + _vop("P"),
    ],
    ids=["B", "packed", "perhaps empty", "nothing", "headers"],
)
def test_nothing_is_left_out_where_it_cannot_be_proven(odd: bytes) -> None:
    stream = [_vop("I"), *[_vop("P")] * 5]
    assert packets_needed(stream, [2]) == [0, 1, 2]
    assert packets_needed([*stream, odd], [2]) is None
    assert packets_needed([*stream, odd], [40]) is None
    assert packets_needed([odd, *stream], [2]) is None
    assert packets_needed([], [0]) is None


# ---- folders of pictures ----


@pytest.mark.parametrize(
    "name", [lambda i: f"{i + 1:06d}", lambda i: f"img_{i + 8}", lambda i: f"v_3_frame{i}"], ids=["penn", "bare", "two"]
)
def test_a_folder_is_read_in_the_order_of_its_numbers(name: Callable[[int], str], tmp_path: Path) -> None:
    write_frames_folder(tmp_path / "clip", range(30, 50), name)
    (tmp_path / "clip" / "notes.txt").write_text("no picture")
    assert probe(tmp_path / "clip") == VideoInfo(20, 64, 96)
    frames = read_frames(tmp_path / "clip", [19, 0, 7, 7])
    assert [number_of(frame) for frame in frames] == [49, 30, 37, 37]
    with pytest.raises(DecodeError, match="too few") as caught:
        read_frames(tmp_path / "clip", [20])
    assert caught.value.frames == 20


def test_a_folder_with_a_gap_or_a_damaged_picture_is_refused(tmp_path: Path) -> None:
    write_frames_folder(tmp_path / "clip", range(12), lambda i: f"{i:06d}")
    damaged = tmp_path / "clip" / "000005.jpg"
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(DecodeError, match=r"000005\.jpg"):
        read_frames(tmp_path / "clip", range(12))
    damaged.unlink()
    with pytest.raises(DecodeError, match=r"gap or a repeat.*000006"):
        probe(tmp_path / "clip")
    (tmp_path / "none").mkdir()
    with pytest.raises(DecodeError, match="no pictures"):
        probe(tmp_path / "none")


def test_the_real_folder_of_frames(test_data: Path) -> None:
    assert probe(test_data / "frames_dir") == VideoInfo(10, 240, 320)
    frames = read_frames(test_data / "frames_dir", [9, 2])
    for frame, name in zip(frames, ["000010.jpg", "000003.jpg"], strict=True):
        with av.open(str(test_data / "frames_dir" / name)) as container:
            expected = next(container.decode(video=0)).to_ndarray(format="rgb24")
        assert np.abs(frame.astype(int) - expected).mean() < 2


# ---- damage ----


def _packet_places(path: Path) -> list[tuple[int, int]]:
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """40 frames, key frames at 0, 12, 24 and 36; the pixels of frame 14 are overwritten."""
    path = tmp_path / "damaged.avi"
    encode(path, Stream("mpeg4", height=240, width=320))
    at, size = _packet_places(path)[14]
    data = bytearray(path.read_bytes())
    # the picture's own header stays whole
    data[at + size // 4 : at + size] = np.random.default_rng(0).bytes(size - size // 4)
    path.write_bytes(data)
    return path


def test_a_damaged_frame_fails_up_to_the_next_key_frame(damaged: Path) -> None:
    assert count_frames(damaged) == 40
    right = [number_of(frame) for frame in read_frames(damaged, [*range(14), *range(24, 40)])]
    assert right == [*range(14), *range(24, 40)]
    for number in (14, 15, 23):
        with pytest.raises(DecodeError, match="damaged at frame 14") as caught:
            read_frames(damaged, [3, number])
        assert caught.value.frames is None, "no reason to draw again"
    assert read_frames(damaged, [3, 14, 23], allow_corrupt=True).shape == (3, 240, 320, 3)


def test_frames_lost_in_an_avi_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "lost.avi"
    encode(path, Stream("mpeg4", height=240, width=320))
    at, _ = _packet_places(path)[14]
    data = bytearray(path.read_bytes())
    data[at - 8 : at - 4] = b"\xff\x00\xff\x00"  # the chunk's name
    path.write_bytes(data)
    for look in (probe, count_frames):
        with pytest.raises(DecodeError, match=r"index cannot be found \(got 39, expected 40\)"):
            look(path)


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mp4", ".gif", ".ogv"])
@settings(max_examples=12, deadline=None)
@example(kept=0.8125)  # the MP4 then ends before its header names a codec
@given(kept=st.floats(0.05, 0.98))
def test_no_cut_off_file_passes_as_whole(
    suffix: str, kept: float, videos: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    names = {".avi": "mpeg4-b0-avi", ".mkv": "mpeg4-b0-mkv", ".mp4": "h264-mp4", ".gif": "gif", ".ogv": "vp8-ogv"}
    whole = build(names[suffix], videos)
    path = tmp_path_factory.mktemp("cut") / f"cut{suffix}"
    path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * kept)])
    with pytest.raises(DecodeError):
        probe(path)


@pytest.mark.parametrize("packet", [188, 192])
def test_a_transport_stream_ends_with_a_packet(packet: int, videos: Path, tmp_path: Path) -> None:
    """A camera's .mts has four bytes of a clock before each."""
    data = build("h264-MTS", videos).read_bytes()
    clock = bytes(packet - 188)
    data = b"".join(clock + data[at : at + 188] for at in range(0, len(data), 188))
    path = tmp_path / "it.mts"
    path.write_bytes(data)
    assert probe(path).frames == 40
    for missing in (1, 100, packet - 1, packet + 1):
        path.write_bytes(data[:-missing])
        with pytest.raises(DecodeError, match=f"is cut off: {missing % packet} or more bytes are missing"):
            probe(path)


def test_half_a_frame_is_refused_where_each_is_a_picture_of_its_own(videos: Path, tmp_path: Path) -> None:
    """As a camera writes it that had no time; nothing marks the frame as damaged."""
    whole = build("mjpeg-avi", videos)
    data = bytearray(whole.read_bytes())
    at, size = _packet_places(whole)[14]
    kept = size * 4 // 5
    data[at + kept : at + size] = b"\xff\xd9" + bytes(size - kept - 2)
    path = tmp_path / "half.avi"
    path.write_bytes(data)
    with pytest.raises(DecodeError, match="is damaged: packet 14 cannot be decoded"):
        read_frames(path, [3, 20])
    assert [number_of(frame) for frame in read_frames(path, [3, 20], allow_corrupt=True)] == [3, 20]


def test_a_gif_whose_blocks_make_no_sense_is_refused(videos: Path, tmp_path: Path) -> None:
    whole = build("gif", videos)
    data = bytearray(whole.read_bytes())
    at, size = _packet_places(whole)[14]
    data[at + size // 3 : at + size - 2] = bytes(size - 2 - size // 3)
    (tmp_path / "it.gif").write_bytes(data)
    with pytest.raises(DecodeError, match="is cut off"):
        probe(tmp_path / "it.gif")


# ---- what a caller may ask, and what the errors carry ----


@pytest.mark.parametrize("indices", [[], [-1], [0.5], [[0]]])
def test_impossible_frames(indices: list[object], videos: Path) -> None:
    with pytest.raises(DecodeError, match="cannot have frames of these numbers"):
        read_frames(build("mpeg4-b0-avi", videos), indices)


@pytest.mark.parametrize("options", [{"reader": "mystery"}, {"box": (4, 0, 4, 9)}, {"size": (0, 5)}])
def test_impossible_options(options: dict[str, object], videos: Path) -> None:
    with pytest.raises(ConfigError):
        read_frames(build("mpeg4-b0-avi", videos), [0], **options)  # type: ignore[arg-type]


def test_names_that_look_like_something_else(videos: Path, tmp_path: Path) -> None:
    data = build("seven-frames", videos).read_bytes()
    for name in ("http:clip.avi", "a %03d b.avi", "concat:x|y.avi", "ü \udcff.avi"):
        path = tmp_path / name
        path.write_bytes(data)
        assert [number_of(frame) for frame in read_frames(path, [6, 0])] == [6, 0]


def test_the_count_survives_pickling() -> None:
    error = DecodeError("clip.avi", "has too few frames", got=3, expected="frame 7", frames=3)
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.frames, str(copy), type(copy)) == (3, str(error), DecodeError)


def test_frames_discarded_by_an_edit_list_are_not_counted(tmp_path: Path) -> None:
    """An MP4 cut without re-encoding starts at a key frame that is decoded and not shown."""
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    encode(whole, Stream("libx264", gop=40))
    with av.open(str(whole)) as source, av.open(str(cut), "w", options={"avoid_negative_ts": "disabled"}) as sink:
        track = sink.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = track
                packet.pts -= 5 * 512
                packet.dts -= 5 * 512
                sink.mux(packet)
    assert count_frames(cut) == 35
    assert [number_of(frame) for frame in read_frames(cut, range(35))] == list(range(5, 40))
