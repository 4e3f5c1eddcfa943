"""Reads and writes one shard of prepared clips: an HDF5 file.

In: a ClipContent for each row of the shard (None for a hole). Out: the file's bytes, and rows read back. Axes of the
data sets, n rows of the shard: joints (n, R, M, T, V, 2) in pixels of the kept picture, scores (n, R, M, T, V),
frame_index (n, R, T), box (n, 4), label (n,), id (n,); frames are JPEG or PNG files one after the other in `frames`,
frame_offset (n, R, T + 1). Knows nothing of folders, commits or views.
"""

from __future__ import annotations

import io
import itertools
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from pipeline.commit import sha256
from pipeline.errors import CorruptError

JPEG_QUALITY = 95
PERSONS = 2  # M of every prepared clip: slots, empty ones hold NaN joints and zero scores


@dataclass(frozen=True, kw_only=True)
class ClipContent:
    """All that stage 1 knows of one clip.

    Attributes:
        frames: R tuples of T encoded pictures.
        joints: (R, M, T, V, 2) float32, pixels of the kept picture, NaN where absent.
        scores: (R, M, T, V) float32 in 0..1, 0 where a joint is not to be used.
        frame_index: (R, T) int64, frames of the video and of the skeleton alike.
        box: (x0, y0, x1, y1) of the geometry, source pixels.
    """

    frames: tuple[tuple[bytes, ...], ...]
    joints: np.ndarray
    scores: np.ndarray
    frame_index: np.ndarray
    box: tuple[int, int, int, int]

    def digest(self) -> str:
        """SHA-256 over everything above."""
        return sha256(
            *(picture for draw in self.frames for picture in draw),
            np.ascontiguousarray(self.joints, "<f4").tobytes(),
            np.ascontiguousarray(self.scores, "<f4").tobytes(),
            np.ascontiguousarray(self.frame_index, "<i8").tobytes(),
            np.asarray(self.box, "<i4").tobytes(),
        )


def encode_picture(picture: np.ndarray, codec: str) -> bytes:
    """(H, W, 3) uint8 RGB to JPEG quality 95 in 4:4:4 ("jpeg95"), or to PNG ("lossless")."""
    out = io.BytesIO()
    if codec == "jpeg95":
        Image.fromarray(picture).save(out, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    else:
        Image.fromarray(picture).save(out, "PNG", compress_level=1)
    return out.getvalue()


def decode_picture(data: bytes | memoryview) -> np.ndarray:
    """The inverse of `encode_picture`: (H, W, 3) uint8 RGB."""
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def encode_shard(
    clips: list[ClipContent | None], *, ids: list[str], labels: list[int], draws: int, num_frames: int, num_joints: int
) -> bytes:
    """The HDF5 file of a shard; equal content gives equal bytes (no time stamps are tracked)."""
    n, shape = len(clips), (draws, PERSONS, num_frames, num_joints)
    joints = np.full((n, *shape, 2), np.nan, np.float32)
    scores = np.zeros((n, *shape), np.float32)
    frame_index = np.full((n, draws, num_frames), -1, np.int64)
    offsets = np.zeros((n, draws, num_frames + 1), np.int64)
    boxes = np.zeros((n, 4), np.int32)
    pictures: list[bytes] = []
    position = 0
    for i, clip in enumerate(clips):
        if clip is None:
            offsets[i] = position
            continue
        joints[i], scores[i], frame_index[i], boxes[i] = clip.joints, clip.scores, clip.frame_index, clip.box
        for r, draw in enumerate(clip.frames):
            offsets[i, r] = position + np.cumsum([0, *map(len, draw)])
            position = int(offsets[i, r, -1])
            pictures.extend(draw)
    arrays = {
        "frames": np.frombuffer(b"".join(pictures), np.uint8),
        "frame_offset": offsets,
        "joints": joints,
        "scores": scores,
        "frame_index": frame_index,
        "box": boxes,
        "label": np.asarray(labels, np.int64),
        "id": np.asarray([name.encode() for name in ids], dtype=h5py.string_dtype("utf-8")),
    }
    out = io.BytesIO()
    with h5py.File(out, "w", libver="v110", track_order=False) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, track_times=False)
    return out.getvalue()


class ShardReader:
    """Reads clips of one prepared shard; open it in the process that uses it, since HDF5 handles do not cross a fork.

    Raises:
        CorruptError: the file is missing or is not the HDF5 file that was committed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = h5py.File(path, "r")
            self._offsets = self._file["frame_offset"][()]
        except (OSError, KeyError) as error:
            raise CorruptError(
                path, f"cannot be read as a prepared shard ({error})", remedy="run `star verify` on its folder"
            ) from None

    def __enter__(self) -> ShardReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def clip(self, i: int) -> ClipContent:
        """Row i of the shard, still encoded.

        Raises:
            CorruptError: HDF5 cannot read it.
        """
        try:
            offsets = self._offsets[i]
            start = int(offsets[0, 0])
            data = self._file["frames"][start : int(offsets[-1, -1])].tobytes()
            frames = tuple(tuple(data[a - start : b - start] for a, b in itertools.pairwise(draw)) for draw in offsets)
            return ClipContent(
                frames=frames,
                joints=self._file["joints"][i],
                scores=self._file["scores"][i],
                frame_index=self._file["frame_index"][i],
                box=tuple(int(v) for v in self._file["box"][i]),  # type: ignore[arg-type]
            )
        except (OSError, KeyError, RuntimeError) as error:
            raise CorruptError(
                self.path, f"row {i} cannot be read ({error})", remedy="run `star verify` on its folder"
            ) from None
