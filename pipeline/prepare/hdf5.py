"""Reads and writes one shard of prepared clips: an HDF5 file.

In: a ClipContent for each row of the shard (None for a hole). Out: the file's bytes, and rows read back. Axes of the
data sets, n rows of the shard: joints (n, R, M, T, V, 2) in pixels of the kept picture, scores (n, R, M, T, V), xyz
(n, R, M, T, V, 3) unless no row has it, frame_index (n, R, T), box (n, 4), label (n,), id (n,); frames are JPEG or PNG
files one after the other in `frames`, frame_offset (n, R, T + 1). Independent of folders, commits and views.

A file may come from a stranger: data sets that lie elsewhere (links, external or virtual ones), pass through filters,
are of other sizes than the folder's options say, or larger than the file, are refused before any of them is read.
"""

from __future__ import annotations

import errno
import functools
import io
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from pipeline.artifacts.boundary import open_regular
from pipeline.artifacts.fingerprint import sha256
from pipeline.config import FRAMES, PrepareOptions
from pipeline.errors import ArtifactError, CorruptError

JPEG_QUALITY = 95
LONGEST_SIDE = 4096  # pixels of a kept picture
JPEG_END, PNG_END = b"\xff\xd9", b"IEND"
MIN_PICTURE = {"jpeg95": 2000, "lossless": 6000}  # bytes: a third of those of pictures of people
# the errors that h5py and numpy raise for a damaged file
_UNREADABLE = (OSError, KeyError, RuntimeError, ValueError, TypeError, IndexError, OverflowError, MemoryError)
# failures of the system, not of the file: no file handles, no memory, a file system that is offline or denies access
_TRANSIENT = {
    errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT,
}  # fmt: skip
_VERIFY = "run `star verify` on its folder"
ID_BYTES, JSON_BYTES, HDF5_BYTES = 64, 1500, 6000  # of a row, of a row, of a shard: measured, for `known_bytes`
ARRAYS = {"frames": "|u1", "frame_offset": "<i8", "joints": "<f4", "scores": "<f4", "frame_index": "<i8", "box": "<i4"}
XYZ = "xyz"  # an array that a file may lack


@dataclass(frozen=True, kw_only=True)
class ClipContent:
    """The content of one prepared clip.

    Attributes:
        frames: R tuples of T encoded pictures.
        joints: (R, M, T, V, 2) float32, pixels of the kept picture, NaN where absent.
        scores: (R, M, T, V) float32 in 0..1, 0 where a joint is not to be used.
        frame_index: (R, T) int64, frames of the video and of the skeleton alike.
        box: (x0, y0, x1, y1) of the geometry, source pixels.
        xyz: (R, M, T, V, 3) float32, metres in the camera's frame, NaN where absent; None where all are.
    """

    frames: tuple[tuple[bytes, ...], ...]
    joints: np.ndarray
    scores: np.ndarray
    frame_index: np.ndarray
    box: tuple[int, int, int, int]
    xyz: np.ndarray | None = None

    def digest(self) -> str:
        """SHA-256 over all attributes and the length of each picture."""
        return sha256(
            np.array([[len(picture) for picture in draw] for draw in self.frames], "<i8").tobytes(),
            *(picture for draw in self.frames for picture in draw),
            np.ascontiguousarray(self.joints, "<f4").tobytes(),
            np.ascontiguousarray(self.scores, "<f4").tobytes(),
            np.ascontiguousarray(self.frame_index, "<i8").tobytes(),
            np.asarray(self.box, "<i4").tobytes(),
            *([] if self.xyz is None else [np.ascontiguousarray(self.xyz, "<f4").tobytes()]),
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
    """The inverse of `encode_picture`: (H, W, 3) uint8 RGB.

    OpenCV's decoder gives the same pixels as Pillow's (a test compares them) in half the time, and releases Python's
    lock, for which the many decoding threads of a GPU would queue.

    Raises CorruptError: it is not a whole picture, or a side is longer than `LONGEST_SIDE`.
    """
    import cv2  # not above: without a working OpenCV all that needs no pictures still runs

    whole = bytes(data[-2:]) == JPEG_END or bytes(data[-8:-4]) == PNG_END  # OpenCV would fill a missing end with grey
    if whole and max(_claimed_size(bytes(data))) > LONGEST_SIDE:
        whole = False  # nothing that large is kept: its pixels are not allocated
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if whole else None
    if picture is None:
        raise CorruptError("a picture", "cannot be decoded", got=f"{len(data)} bytes", expected="a whole JPEG or PNG")
    return picture


def decode_pictures(pictures: Sequence[bytes]) -> np.ndarray:
    """(T, H, W, 3) uint8 RGB. Raises CorruptError: as `decode_picture`, or they differ in size."""
    decoded = [decode_picture(picture) for picture in pictures]
    if len({picture.shape for picture in decoded}) > 1:
        raise CorruptError("the pictures of a clip", "differ in size")
    return np.stack(decoded)


def _claimed_size(data: bytes) -> tuple[int, int]:
    """(height, width) in the header of a JPEG or PNG; (0, 0) where there is none, which the decoder then tells."""
    if data.startswith(b"\x89PNG"):
        return int.from_bytes(data[20:24]), int.from_bytes(data[16:20])
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        if 0xC0 <= data[at + 1] <= 0xCF and data[at + 1] not in (0xC4, 0xC8, 0xCC):  # a frame header
            return int.from_bytes(data[at + 5 : at + 7]), int.from_bytes(data[at + 7 : at + 9])
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return 0, 0


def encode_shard(
    clips: list[ClipContent | None],
    *,
    ids: list[str],
    labels: list[int],
    draws: int,
    persons: int,
    num_frames: int,
    num_joints: int,
) -> memoryview:
    """The HDF5 file of a shard; equal content gives equal bytes (no time stamps are tracked).

    `persons` is M: slots, of which empty ones hold NaN joints and zero scores.
    """
    n, shape = len(clips), (draws, persons, num_frames, num_joints)
    arrays = {
        "frame_offset": _offsets(clips, draws, num_frames),
        "joints": np.full((n, *shape, 2), np.nan, np.float32),
        "scores": np.zeros((n, *shape), np.float32),
        "frame_index": np.full((n, draws, num_frames), -1, np.int64),
        "box": np.zeros((n, 4), np.int32),
        "label": np.asarray(labels, np.int64),
        "id": np.asarray([name.encode() for name in ids], dtype=h5py.string_dtype("utf-8")),
    }
    for i, clip in enumerate(clips):
        if clip is not None:
            for name in ("joints", "scores", "frame_index", "box"):
                arrays[name][i] = getattr(clip, name)
    if any(clip is not None and clip.xyz is not None for clip in clips):
        arrays[XYZ] = np.full((n, *shape, 3), np.nan, np.float32)
        for i, clip in enumerate(clips):
            if clip is not None and clip.xyz is not None:
                arrays[XYZ][i] = clip.xyz
    out = io.BytesIO()
    with h5py.File(out, "w", libver="v110", track_order=False) as file:
        frames = file.create_dataset("frames", (arrays["frame_offset"].max(initial=0),), np.uint8, track_times=False)
        for i, clip in enumerate(clips):
            if clip is not None:  # clip by clip: a shard is large, and is in memory once already
                start, end = arrays["frame_offset"][i, 0, 0], arrays["frame_offset"][i, -1, -1]
                frames[start:end] = np.frombuffer(b"".join(itertools.chain(*clip.frames)), np.uint8)
        for name, array in arrays.items():
            file.create_dataset(name, data=array, track_times=False)
    return out.getbuffer()


def _offsets(clips: list[ClipContent | None], draws: int, num_frames: int) -> np.ndarray:
    """(n, R, T + 1) int64: picture t of draw r of row i is frames[o[i, r, t] : o[i, r, t + 1]]; holes are empty."""
    lengths = np.zeros((len(clips), draws, num_frames), np.int64)
    for i, clip in enumerate(clips):
        if clip is not None:
            lengths[i] = [[len(picture) for picture in draw] for draw in clip.frames]
    stops = np.cumsum(lengths).reshape(lengths.shape)
    return np.concatenate([(stops - lengths)[..., :1], stops], axis=-1)


def known_bytes(rows: int, shards: int, options: PrepareOptions, num_joints: int, *, xyz: bool = False) -> int:
    """Bytes of rows and shards without pictures: arrays (`xyz`: that too), HDF5's structures, and a line a row in three
    JSON files."""
    draw = options.max_persons * FRAMES * num_joints * (6 if xyz else 3) * 4 + FRAMES * 8 + (FRAMES + 1) * 8
    arrays = options.draws * draw + 4 * 4 + 8
    return rows * (arrays + ID_BYTES + JSON_BYTES) + shards * HDF5_BYTES


class ShardReader:
    """Reads clips of one prepared shard; open it in the process that uses it, since HDF5 handles do not cross a fork.

    `sizes` are the (n, R, M, T, V) that the file must be of, as `Shard.reader` knows them.

    Raises CorruptError: the file is missing, or is no HDF5 file of such sizes. BoundaryError: it is a link out of its
    folder, or no regular file.
    """

    def __init__(self, path: Path, sizes: tuple[int, int, int, int, int]) -> None:
        self.path = path
        try:
            os.close(open_regular(path, root=os.path.realpath(path.parent)))
            self._file = h5py.File(path, "r")
            kinds = ARRAYS if self._file.get(XYZ, getlink=True) is None else {**ARRAYS, XYZ: "<f4"}
            self._arrays = {name: _own_array(self._file, name, kind) for name, kind in kinds.items()}
            _require_shapes(self._arrays, *sizes)
            self._offsets = self._arrays["frame_offset"][()]
        except FileNotFoundError:
            remedy = "restore it from a copy, or run the same `star prepare` again"
            raise CorruptError(path, "is missing", remedy=remedy) from None
        except _UNREADABLE as error:
            _raise_if_transient(error, path)
            raise CorruptError(path, f"cannot be read as a prepared shard ({error})", remedy=_VERIFY) from None

    def __enter__(self) -> ShardReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def clip(self, i: int) -> ClipContent:
        """Row i of the shard, still encoded. Raises CorruptError: HDF5 cannot read it."""
        try:
            offsets = self._offsets[i]
            start = int(offsets[0, 0])
            data = self._arrays["frames"][start : int(offsets[-1, -1])].tobytes()
            x0, y0, x1, y1 = self._small["box"][i].tolist()
            frames = tuple(tuple(data[a - start : b - start] for a, b in itertools.pairwise(draw)) for draw in offsets)
            return ClipContent(
                frames=frames,
                joints=np.asarray(self._small["joints"][i], np.float32),
                scores=np.asarray(self._small["scores"][i], np.float32),
                frame_index=np.asarray(self._small["frame_index"][i], np.int64),
                box=(x0, y0, x1, y1),
                xyz=self._xyz(i),
            )
        except _UNREADABLE as error:
            _raise_if_transient(error, self.path)
            raise CorruptError(self.path, f"row {i} cannot be read ({error})", remedy=_VERIFY) from None

    def _xyz(self, i: int) -> np.ndarray | None:
        xyz = self._small[XYZ][i] if XYZ in self._small else np.empty(0)
        return None if np.isnan(xyz).all() else np.asarray(xyz, np.float32)

    def holds_pictures(self, i: int) -> bool:
        """Whether row i is a clip and no hole."""
        return bool(self._offsets[i, -1, -1] > self._offsets[i, 0, 0])

    @functools.cached_property
    def _small(self) -> dict[str, np.ndarray]:
        """All arrays but the pictures, whole: each read of HDF5 takes a third of a millisecond, whatever its size."""
        return {name: self._arrays[name][()] for name in self._arrays.keys() - {"frames", "frame_offset"}}


def _own_array(file: h5py.File, name: str, kind: str) -> h5py.Dataset:
    """A data set of a file, whose bytes lie in the file itself, as `encode_shard` puts them. Raises ValueError."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is not in it")
    array = file[name]
    if not isinstance(array, h5py.Dataset) or array.dtype.str != kind:
        raise ValueError(f"{name} is of another type")
    made = array.id.get_create_plist()
    if made.get_layout() != h5py.h5d.CONTIGUOUS or made.get_external_count() or made.get_nfilters():
        raise ValueError(f"{name} is not stored as this program stores it")
    if array.nbytes and (array.id.get_offset() or 0) + array.nbytes > file.id.get_filesize():
        raise ValueError(f"{name} is larger than the file")
    return array


def _require_shapes(
    arrays: dict[str, h5py.Dataset], rows: int, draws: int, persons: int, num_frames: int, num_joints: int
) -> None:
    """Raises ValueError where an array has another shape than `encode_shard` gives it."""
    shapes = {
        "frame_offset": (rows, draws, num_frames + 1),
        "joints": (rows, draws, persons, num_frames, num_joints, 2),
        "scores": (rows, draws, persons, num_frames, num_joints),
        XYZ: (rows, draws, persons, num_frames, num_joints, 3),
        "frame_index": (rows, draws, num_frames),
        "box": (rows, 4),
        "frames": arrays["frames"].shape[:1],
    }
    for name, array in arrays.items():
        if array.shape != shapes[name]:
            raise ValueError(f"{name} is of shape {array.shape} and not {shapes[name]}")


def _raise_if_transient(error: Exception, path: Path) -> None:
    """Raises ArtifactError for a failure of the system: the file may be whole."""
    if isinstance(error, OSError) and error.errno in _TRANSIENT:
        remedy = "remove the cause and run the same command again"
        raise ArtifactError(path, f"cannot be read now ({os.strerror(error.errno)})", remedy=remedy) from error
