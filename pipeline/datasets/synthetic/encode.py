"""The two files of a clip in NTU RGB+D's formats: an AVI with MPEG-4 Part 2, and a .skeleton text.

In: frames, or a Scene. Out: bytes or text in memory, the same for the same input and library versions; it writes no
file. The text holds exactly the joints that are painted, as pixels of 1920 x 1080, as the format has them; only their
tracking states simulate a sensor.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.synthetic.body import HIPS, NUM_JOINTS, SPINE_BASE, SPINE_SHOULDER, Array
from pipeline.datasets.synthetic.camera import HEIGHT, WIDTH, colour_pixels, depth_pixels, ntu_pixels
from pipeline.datasets.synthetic.scene import FRAMES_PER_SECOND, Scene
from pipeline.records import keyed_rng

QUANTISER = "2"  # MPEG-4's finest: about 0.8 Mbit/s for a static camera
TRACKED, INFERRED = 2, 1
FIRST_BODY_ID = 2**56  # 17 digits, as from Kinect v2: as float64, neighbours would be equal

# The parent of each joint, -1 for the root. NTU gives the ends of the chains no orientation.
PARENTS = (-1, 0, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 1, 7, 6, 11, 10)
ENDS = (3, 15, 19, 21, 22, 23, 24)


def encode_avi(pictures: Iterable[NDArray[np.uint8]], *, comment: str) -> bytes:
    """Frames "yuv420p" (H * 3/2, W) as AVI bytes: MPEG-4 Part 2, DIVX, 30 fps, no B-frames, as NTU's videos."""
    target = io.BytesIO()
    with av.open(target, mode="w", format="avi", container_options={"fflags": "+bitexact"}) as container:
        container.metadata["comment"] = comment
        options = {"flags": "+bitexact", "qmin": QUANTISER, "qmax": QUANTISER}
        stream = container.add_stream("mpeg4", rate=FRAMES_PER_SECOND, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.codec_tag = "DIVX"
        stream.codec_context.time_base = Fraction(1, FRAMES_PER_SECOND)
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="yuv420p")))
        container.mux(stream.encode())
    return target.getvalue()


def skeleton_text(scene: Scene, *, seed: int) -> str:
    """The .skeleton text of a scene: for each frame its bodies, for each body 10 fields and 25 joints of 12 fields.

    Field names and their order are those of NTU RGB+D's reader: x y z depthX depthY colorX colorY orientationW X Y Z
    trackingState. As there, colour pixels are of 1920 x 1080, of which the video is a smaller copy. A frame in which
    the sensor lost everybody has the line "0" and nothing else.
    """
    seen = scene.camera.see(scene.joints)
    fields = np.concatenate([seen, depth_pixels(seen), ntu_pixels(seen), _orientations(seen)], axis=-1)
    states = np.where(scene.doubtful | hidden(seen), INFERRED, TRACKED)
    people, length = scene.lost.shape
    first = FIRST_BODY_ID + int(keyed_rng(seed, "synthetic body", scene.record.key).integers(1000, 99000))
    lines = [str(length)]
    for frame in range(length):
        present = [member for member in range(people) if not scene.lost[member, frame]]
        lines.append(str(len(present)))
        for member in present:
            lean = seen[member, frame, SPINE_SHOULDER] - seen[member, frame, SPINE_BASE]
            lines.append(f"{first + member} 0 1 1 1 1 0 {lean[0]:.7g} {-lean[2]:.7g} 2")
            lines.append(str(NUM_JOINTS))
            for values, state in zip(fields[member, frame].tolist(), states[member, frame].tolist(), strict=True):
                lines.append(" ".join(f"{value:.7g}" for value in values) + f" {state}")
    return "\n".join(lines) + "\n"


def hidden(seen: Array) -> NDArray[np.bool_]:
    """Which joints (M, T, 25) lie behind a trunk, from joints (M, T, 25, 3) in the sensor's frame.

    In the picture, the trunk is a capsule from the spine's base to the shoulders, 1.2 times as wide as the hips.
    """
    pixels = colour_pixels(seen)
    behind = np.zeros(seen.shape[:3], dtype=bool)
    for member in range(seen.shape[0]):
        low, high = pixels[member, :, None, SPINE_BASE], pixels[member, :, None, SPINE_SHOULDER]
        axis = high - low
        along = ((pixels - low) * axis).sum(-1) / np.maximum((axis * axis).sum(-1), 1e-6)
        nearest = low + np.clip(along, 0.0, 1.0)[..., None] * axis
        radius = 1.2 * np.linalg.norm(pixels[member, :, HIPS[0]] - pixels[member, :, HIPS[1]], axis=-1) / 2
        depth = seen[member, :, [SPINE_BASE, SPINE_SHOULDER], 2].mean(axis=0)
        covered = np.linalg.norm(pixels - nearest, axis=-1) < radius[None, :, None]
        behind |= covered & (seen[..., 2] > depth[None, :, None] + 0.12)
    return behind


def _orientations(seen: Array) -> Array:
    """Unit quaternions (M, T, 25, 4), w x y z: the shortest turn of the y axis into each joint's bone; 0 at the ends.

    Kinect's y axis lies along the bone that leads to the joint; the turn about the bone itself is not modelled.
    """
    bones = seen - seen[:, :, list(PARENTS)]
    bones[:, :, SPINE_BASE] = (0.0, 1.0, 0.0)
    bones /= np.maximum(np.linalg.norm(bones, axis=-1, keepdims=True), 1e-9)
    x, y, z = np.moveaxis(bones, -1, 0)
    turn = np.stack([1.0 + y, z, np.zeros_like(y), -x], axis=-1)
    turn /= np.maximum(np.linalg.norm(turn, axis=-1, keepdims=True), 1e-9)
    turn[:, :, list(ENDS)] = 0.0
    return turn
