"""`pipeline.decode.containers` and what it guards: only files that hold their own frames are opened."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from av.format import ContainerFormat
from contracts.reader_contract import INSTALLED
from picture_fixtures import build
from video_fixtures import VIDEOS, number_of

from pipeline.decode import picture_folder
from pipeline.decode.containers import VIDEO_SUFFIXES, demuxers
from pipeline.decode.read import probe, read_frames
from pipeline.decode.regular import open_regular
from pipeline.errors import DecodeError


def test_every_suffix_that_we_write_is_a_videos() -> None:
    assert {video.suffix.lower() for video in VIDEOS.values()} <= VIDEO_SUFFIXES
    assert {".mts", ".3gp", ".gif", ".ogv", ".asf", ".vob", ".m2ts", ".wmv", ".flv", ".mxf", ".qt"} <= VIDEO_SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in VIDEO_SUFFIXES)


def test_pictures_poses_sound_and_lists_are_no_videos() -> None:
    assert not VIDEO_SUFFIXES & picture_folder.SUFFIXES
    others = (
        ".json .npz .npy .mat .skeleton .txt .csv .pkl .xml .srt .vtt .wav .mp3 .flac .m4a .m3u8 .mpd .sdp .h5 .zip"
    )
    assert not VIDEO_SUFFIXES & set(others.split())


def test_no_demuxer_leads_elsewhere() -> None:
    names = demuxers()
    assert {"avi", "matroska,webm", "mpegts", "gif", "ogg", "asf", "mpeg", "flv", "mjpeg", "nut"} <= set(names)
    assert not {"hls", "concat", "dash", "image2", "sdp", "rtsp", "lavfi", "imf", "vobsub", "tty"} & set(names)
    assert not any(ContainerFormat(name).no_file or name.endswith("_pipe") for name in names)


# What names other files: each would give frames, if it were followed
LEADING: dict[str, Callable[[Path], str]] = {
    "HLS": lambda video: f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:1.6,\n{video}\n#EXT-X-ENDLIST\n",
    "HLS beside": lambda video: f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1.6,\n{video.name}\n#EXT-X-ENDLIST\n",
    "concat": lambda video: f"ffconcat version 1.0\nfile '{video}'\n",
    "concat beside": lambda video: f"ffconcat version 1.0\nfile {video.name}\n",
    "DASH": lambda video: (
        '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-on-'
        'demand:2011" type="static" mediaPresentationDuration="PT1S"><Period><AdaptationSet><Representation id="1" '
        f'mimeType="video/mp4"><BaseURL>{video.name}</BaseURL></Representation></AdaptationSet></Period></MPD>'
    ),
    "SDP": lambda _: "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
}


@pytest.mark.parametrize("reader", INSTALLED)
@pytest.mark.parametrize("kind", LEADING)
def test_what_names_other_files_is_refused_by_any_suffix(kind: str, reader: str, tmp_path: Path) -> None:
    video = build("h264-open-gop-ts", tmp_path)
    for suffix in (".m3u8", ".avi", ".mp4", ".ts", ".ffconcat", ".mpd", ".sdp"):
        path = tmp_path / f"list{suffix}"
        path.write_text(LEADING[kind](video))
        for look in (probe, lambda path: read_frames(path, [0], reader=reader)):
            with pytest.raises(DecodeError, match=r"names other files, and no video; replace the file$"):
                look(path)


def test_a_pattern_of_names_is_a_name(tmp_path: Path) -> None:
    """Of a file that is there, and of one that is not."""
    data = build("h264-mp4", tmp_path).read_bytes()
    for name in ("img_%05d.mp4", "img_*.mp4", "img_00001.mp4,img_00002.mp4", "pipe:0", "fd:", "lavfi:testsrc", "-"):
        (tmp_path / name).write_bytes(data)
        assert number_of(read_frames(tmp_path / name, [7])[0]) == 7
    for number in range(3):
        shutil.copy(build("jpg-1", tmp_path) / "img_00003.jpg", tmp_path / f"img_{number:05d}.jpg")
    with pytest.raises(DecodeError, match="cannot be read"):
        probe(tmp_path / "img_%05d.jpg")
    with pytest.raises(DecodeError, match="is a single picture and no video"):
        probe(tmp_path / "img_00001.jpg")


def test_names_from_the_working_directory_select_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = build("mpeg4-b0-avi", tmp_path).read_bytes()
    monkeypatch.chdir(tmp_path)
    for reader in INSTALLED:
        for name in ("http:clip.avi", "concat:x|y.avi", "file:clip.avi", "subfile,,start,0,end,9,,:x.avi"):
            Path(name).write_bytes(data)
            assert number_of(read_frames(name, [7], reader=reader)[0]) == 7


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


SPECIAL: dict[str, Callable[[Path], object]] = {
    "a named pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a socket": _socket,
    "a folder": Path.mkdir,
}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_regular_file_is_never_opened(
    kind: str, linked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's name must be short
    path = Path("it.avi")
    SPECIAL[kind](path)
    if linked:
        Path("link.avi").symlink_to(path)
        path = Path("link.avi")
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(DecodeError, match=rf"is not a regular file \(got {kind}\); check the path"):
        open_regular(path)
    if kind != "a folder":
        with pytest.raises(DecodeError, match="is not a regular file"):
            probe(path)


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "link.avi").symlink_to(build("mpeg4-b0-avi", tmp_path))
    assert number_of(read_frames(tmp_path / "link.avi", [9])[0]) == 9
