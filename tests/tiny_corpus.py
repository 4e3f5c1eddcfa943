"""A corpus in NTU's layout that is small enough to prepare a hundred times in a test: videos of 64 x 36 pixels.

What a file holds depends on the clip's name without its action field, as in the synthetic set, so that renaming actions
renames files and changes nothing in them.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from pipeline.datasets import ntu
from pipeline.records import Listing, keyed_rng

WIDTH, HEIGHT, JOINTS = 64, 36, 25


def names(count: int) -> list[str]:
    """Clip names of distinct keys, sorted."""
    return sorted(f"S{i // 6 + 1:03d}C{i % 3 + 1:03d}P{i % 6 + 1:03d}R001A{i % 14 + 1:03d}" for i in range(count))


def write_corpus(root: Path, clips: list[str], *, frames: int = 18) -> Listing:
    """Write videos/ and skeletons/ below `root` and list them."""
    for name in clips:
        write_video(root / "videos" / f"{name}_rgb.avi", seed_key=name[:16], frames=frames)
        write_skeleton(root / "skeletons" / f"{name}.skeleton", joints_of_clip(name[:16], frames))
    return listing(root)


def listing(root: Path) -> Listing:
    """As the synthetic set's."""
    return ntu.listing(root / "videos", root / "skeletons", dataset="synthetic")


def joints_of_clip(key: str, frames: int) -> np.ndarray:
    """(T, 25, 2): a figure of joints that wanders through the picture."""
    rng = keyed_rng(0, "tiny joints", key)
    body = rng.uniform((-6, -12), (6, 12), (JOINTS, 2))
    path = np.linspace(rng.uniform((14, 14), (24, 20)), rng.uniform((40, 14), (50, 20)), frames)
    return path[:, None] + body


def write_video(path: Path, *, seed_key: str, frames: int) -> None:
    """MPEG-4 in AVI, a drifting texture, bytes a function of the arguments."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texture = keyed_rng(0, "tiny video", seed_key).integers(0, 255, (HEIGHT, 2 * WIDTH, 3), dtype=np.uint8)
    with av.open(str(path), "w", format="avi", container_options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("mpeg4", rate=30, options={"flags": "+bitexact", "qmin": "2", "qmax": "2"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = Fraction(1, 30)
        for t in range(frames):
            picture = np.ascontiguousarray(texture[:, t : t + WIDTH] // 2 + 4 * t)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def write_skeleton(path: Path, joints: np.ndarray, *, absent: frozenset[int] = frozenset(), width: int = WIDTH) -> None:
    """One body, joints (T, 25, 2) in pixels of a video of this `width`, nobody in the `absent` frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [str(len(joints))]
    for t, body in enumerate((joints + 0.5) * (1920 / width) - 0.5):  # colour pixels are of 1920 x 1080
        lines.append("0" if t in absent else "1")
        if t not in absent:
            lines += ["72057594037931101 0 1 1 1 1 0 0 0 2", str(JOINTS)]
            lines += [f"0 0 3 0 0 {x:.7g} {y:.7g} 1 0 0 0 2" for x, y in body]
    path.write_text("\n".join(lines) + "\n")
