"""Pose files that are traps: each has a name, writes itself into a folder, and must end in a SkeletonError.

Run as a program it reads all of them in one process with a bound on its memory, and prints a line of JSON for each: the
name, the class of the error, its text, and the peak of memory in bytes so far.

    python tests/hostile_poses.py FOLDER
"""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import sys
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from hostile_json import FRAMES, JOINTS, Trap, json_traps, text
from scipy.io import savemat

HEIGHT, WIDTH = 180, 320
MEMORY = 1 << 30


def folder_of(**files: str) -> Trap:
    def write(folder: Path) -> Path:
        for name, content in files.items():
            (folder / f"{name}.json").write_text(content)
        return folder

    return write


def fifo(folder: Path) -> Path:
    os.mkfifo(folder / "pose.json")
    return folder / "pose.json"


def fifo_behind_a_link(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    (folder / "pose.npz").symlink_to(folder / "pipe")
    return folder / "pose.npz"


def fifo_among_frames(folder: Path) -> Path:
    (folder / "v_0_keypoints.json").write_text('{"people": []}')
    os.mkfifo(folder / "v_1_keypoints.json")
    return folder


def device(suffix: str) -> Trap:
    def write(folder: Path) -> Path:
        (folder / f"pose{suffix}").symlink_to("/dev/zero")
        return folder / f"pose{suffix}"

    return write


def loop(folder: Path) -> Path:
    (folder / "pose.json").symlink_to(folder / "pose.json")
    return folder / "pose.json"


def npz(shape: tuple[int, ...], data: bytes = b"", *, descr: str = "<f4", name: str = "joints", **how: Any) -> Trap:
    """An array whose header claims a shape, with these bytes."""

    def write(folder: Path) -> Path:
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, {"descr": descr, "fortran_order": False, "shape": shape})
        with zipfile.ZipFile(folder / "pose.npz", "w", **how) as file:
            file.writestr(f"{name}.npy", head.getvalue() + data)
        return folder / "pose.npz"

    return write


def npz_header(head: str) -> Trap:
    """An array with this header, which numpy's own reader would evaluate."""

    def write(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "pose.npz", "w") as file:
            file.writestr("joints.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode())
        return folder / "pose.npz"

    return write


def npz_bomb(folder: Path) -> Path:
    """Half a gigabyte of zeros in half a megabyte, under a directory entry that says a kilobyte."""
    path = folder / "pose.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("joints.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": (1, 24, 17, 2)})
        for _ in range(64):
            member.write(bytes(1 << 23))
    data = path.read_bytes()
    entry = data.rindex(b"PK\x01\x02")
    for place in (22, entry + 24):  # the uncompressed size, before the member and in the directory
        data = data[:place] + struct.pack("<I", 128 + 24 * 17 * 2) + data[place + 4 :]
    path.write_bytes(data)
    return path


def mat_bomb(folder: Path) -> Path:
    """A gigabyte of zeros in a megabyte."""
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
    packer = zlib.compressobj()
    body = packer.compress(struct.pack("<II", 14, 1 << 30))
    body += b"".join(packer.compress(bytes(1 << 24)) for _ in range(64)) + packer.flush()
    (folder / "pose.mat").write_bytes(header + struct.pack("<II", 15, len(body)) + body)
    return folder / "pose.mat"


def mat_claims(folder: Path) -> Path:
    """2^31 - 1 rows of numbers, without the numbers."""
    matrix = struct.pack("<IIII", 6, 8, 6, 0) + struct.pack("<IIii", 5, 8, (1 << 31) - 1, 13)
    matrix += struct.pack("<HHI", 1, 1, ord("x")) + struct.pack("<II", 9, 0)
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
    (folder / "pose.mat").write_bytes(header + struct.pack("<II", 14, len(matrix)) + matrix)
    return folder / "pose.mat"


def mat_of(**variables: Any) -> Trap:
    def write(folder: Path) -> Path:
        savemat(folder / "pose.mat", variables)
        return folder / "pose.mat"

    return write


def huge(suffix: str) -> Trap:
    """A sparse file of a terabyte."""

    def write(folder: Path) -> Path:
        (folder / f"pose{suffix}").touch()
        os.truncate(folder / f"pose{suffix}", 1 << 40)
        return folder / f"pose{suffix}"

    return write


def bodies(count: int, place: float) -> Trap:
    """A .skeleton with a new body in each frame, all joints in one place."""
    joint = f"0.1 0.2 3 0 0 {place} {place} 0 0 0 0 2"
    frames = [f"1\n{10**16 + t} 0 1 1 1 1 0 0 0 2\n25\n" + "\n".join([joint] * 25) for t in range(count)]
    return text("\n".join([str(count), *frames]) + "\n", "pose.skeleton")


def traps() -> dict[str, Trap]:
    """All of them, by name."""
    return json_traps() | {
        "fifo": fifo,
        "fifo behind a link": fifo_behind_a_link,
        "fifo among frames": fifo_among_frames,
        "device .json": device(".json"),
        "device .npz": device(".npz"),
        "device .skeleton": device(".skeleton"),
        "device .mat": device(".mat"),
        "link to itself": loop,
        "huge .json": huge(".json"),
        "huge .npz": huge(".npz"),
        "huge .skeleton": huge(".skeleton"),
        "huge .mat": huge(".mat"),
        "folder, number twice": folder_of(a_1="{}", b_1="{}"),
        "folder, huge number": folder_of(a_0='{"people": []}', **{"9" * 200: '{"people": []}'}),
        "folder, null": folder_of(a_0="null"),
        "folder, pose of texts": folder_of(a_0='{"people": [{"pose_keypoints_2d": ["1", "2", "3"]}]}'),
        "npz, lying header": npz((2, 10**14, 25, 2)),
        "npz, huge empty": npz((0, 10**14, JOINTS, 2)),
        "npz, huge without joints": npz((10**9, 10**5, 0, 2)),
        "npz, negative": npz((-1, -24, 17, 2), bytes(24 * 17 * 8)),
        "npz, cut off": npz((1, 24, 17, 2), bytes(24 * 17 * 8 - 1)),
        "npz, objects": npz((1,), b"cos\nsystem\n(S'true'\ntR.", descr="|O"),
        "npz, texts": npz((1, 1, 1, 2), bytes(16), descr="<U2"),
        "npz, complex": npz((1, 24, 17, 2), bytes(24 * 17 * 16), descr="<c8"),
        "npz, bzip2": npz((1, 24, 17, 2), bytes(24 * 17 * 8), compression=zipfile.ZIP_BZIP2),
        "npz, lzma": npz((1, 24, 17, 2), bytes(24 * 17 * 8), compression=zipfile.ZIP_LZMA),
        "npz, other names": npz((1, 24, 17, 2), bytes(24 * 17 * 8), name="arr_0"),
        "npz, bomb": npz_bomb,
        "npz, header that fills the stack": npz_header("-" * 9000 + "1"),
        "npz, header that never ends": npz_header("(" * 9000),
        "npz, texts of no size": npz((10**10,), descr="<U0"),
        "npz, header of garbage": text(b"PK\x03\x04" + bytes(100), "pose.npz"),
        "mat, bomb": mat_bomb,
        "mat, claims": mat_claims,
        "mat, cells": mat_of(pos_img=np.array([[1], ["x"]], dtype=object)),
        "mat, NaN frames": mat_of(x=np.ones((2, 13)), y=np.ones((2, 13)), visibility=np.ones((2, 13)), nframes=np.nan),
        "mat, MATLAB 7.3": text(b"MATLAB 7.3 MAT-file".ljust(128) + b"\x89HDF\r\n\x1a\n", "pose.mat"),
        "skeleton, 20 joints": text("1\n1\n7 0 1 1 1 1 0 0 0 2\n20\n", "pose.skeleton"),
        "skeleton, 10^18 frames": text(f"{10**18}\n0\n", "pose.skeleton"),
        "skeleton, 10^18 bodies": text(f"1\n{10**18}\n", "pose.skeleton"),
        "skeleton, many bodies": bodies(3000, 1.0),
        "skeleton, a new body in each frame, of no size": bodies(FRAMES, 900.0),
        "suffix .pkl": text(b"cos\nsystem\n(S'true'\ntR.", "pose.pkl"),
        "suffix .txt": text("0 0.5 0.5 0.2 0.6\n", "pose.txt"),
    }


def main(folder: Path) -> None:
    from pipeline.errors import SkeletonError
    from pipeline.skeletons.of_video import persons_of_video
    from pipeline.skeletons.read import topology_of

    paths = {}
    for number, (name, write) in enumerate(traps().items()):
        (folder / str(number)).mkdir()
        paths[name] = write(folder / str(number))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    for name, path in paths.items():
        got = ["no error", ""]
        with suppress(SkeletonError):  # it may know the topology, since it asks for no video
            topology_of(path)
        try:
            joints = 25 if path.suffix == ".skeleton" else JOINTS
            persons_of_video(path, frames=FRAMES, height=HEIGHT, width=WIDTH, num_joints=joints)
        except SkeletonError as error:
            got = ["SkeletonError", str(error)]
        status = Path("/proc/self/status").read_text()  # getrusage would count what the parent had before the fork
        peak = int(status.split("VmHWM:")[1].split()[0]) << 10
        print(json.dumps([name, *got, peak]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
