"""Which files ffmpeg may open as a video, and by which suffixes a folder's videos are known.

In: the demuxers of this FFmpeg. Out: the names of those that may open a file, and suffixes. Left out are those that
open other files or addresses (playlists, scripts, patterns of names, devices), single pictures, which
`pipeline.decode.picture` reads, and ffmpeg's guess that a text is a terminal's animation. It opens no video.
"""

from __future__ import annotations

import functools
from os import PathLike

import av
from av.format import ContainerFormat

from pipeline.decode.regular import open_regular

# Demuxers that lead to other files, besides those that ffmpeg marks as having no file of their own; then those that
# take letters for pictures
_REFUSED = """
    hls dash concat imf sdp rtsp rtp sap webm_dash_manifest avisynth vapoursynth vobsub image2 image2pipe
    tty bin xbin adf idf data ffmetadata
"""
# What FFmpeg 8.1 lists for the containers that it reads. Left out are those of sound, pictures, text, subtitles and
# lists of files, and of raw pixels, which do not tell their size. The first line are cameras and recorders, which it
# opens and does not list.
_SUFFIXES = """
    avchd divx dvr-ms m2p mjpeg mod mpe mpv mts qt rmvb tod vro xvid
    264 265 266 3g2 3gp amv apng apv asf avc avi avs2 avs3 bmv cavs cdxl cpk dav dif dnxhd dnxhr drc dv dvd evc f4v flm
    flv gif gxf h261 h263 h264 h265 h266 h26l hevc ifv imx ipu ism ismv ivf ivr kux m1v m2t m2ts m2v m4v mj2 mjpg mk3d
    mkv moflex mov mp4 mpeg mpg mxf nsv nut obu ogg ogv pdv psp rcv rm roq smk swf ts ty usm vc1 vc2 viv vivo vob vvc
    webm wmv wtv xmv y4m yop
"""

# Suffixes of videos, with their dot: compare with `path.suffix.lower()`. They say what is listed as a video; what a
# file is, its content decides when it is read.
VIDEO_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())

# The first bytes of what names other files, to say so
_LISTS = {b"#EXTM3U": "a playlist", b"ffconcat": "a script of videos", b"v=0": "a session description"}
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"II*\0", b"MM\0*")


@functools.cache
def demuxers() -> tuple[str, ...]:
    """Names of the demuxers that may open a file, sorted: each reads that file and nothing else."""
    forms = [form for form in map(ContainerFormat, av.formats_available) if form.is_input and not form.no_file]
    names = {form.name for form in forms} - set(_REFUSED.split())
    return tuple(sorted(name for name in names if not name.endswith("_pipe")))


def what_it_is(path: str | PathLike[str]) -> str:
    """What the first bytes of a file say that none of `demuxers` opens: the middle of a sentence, or ""."""
    with open_regular(path) as file:
        head = file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")
    for first, name in _LISTS.items():
        if head.startswith(first):
            return f"is {name}, which names other files, and no video"
    if head.startswith(b"<") and (b"<MPD" in head or b"<SmoothStreaming" in head):
        return "is a playlist, which names other files, and no video"
    if head.startswith(_PICTURES) or head[8:12] == b"WEBP":
        return "is a single picture and no video"
    return ""
