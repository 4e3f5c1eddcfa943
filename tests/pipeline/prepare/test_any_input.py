"""Any video and any pose file, in any unit, numbering, size and gap: right to the frame and the pixel, or told.

Each case draws a video whose pictures tell their number and where joint 0 is, writes a pose file in a random way, and
makes the clip as stage 1 does. What is done must be what the pictures show; what was written plainly must be done.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import marked_videos
import numpy as np
import pytest
from pose_files import NTU_SIZE, PIXELS, SIGNED, WRITERS, Detections, Writer, wanderers

from pipeline.config import PrepareOptions
from pipeline.decode.child_process import DecodeProcess
from pipeline.prepare.clip import attempt
from pipeline.prepare.hdf5 import ClipContent, decode_picture
from pipeline.records import VideoRecord
from pipeline.skeletons.read import topology_of

pytestmark = pytest.mark.processes

SIZES = ((180, 320), (320, 180), (120, 160), (176, 144), (90, 160))  # (h, w)
MIN_SCORE = 0.2


@dataclasses.dataclass
class Case:
    """What is written, and whether nothing about it is doubtful, so that it must be done."""

    people: Detections
    written: np.ndarray  # (T,) frames of the video in which the pose file has the persons
    video: Path
    pose: Path
    topology: str
    options: PrepareOptions
    plain: bool
    told: dict[str, Any]


@pytest.fixture(scope="module")
def child() -> Iterator[DecodeProcess]:
    with DecodeProcess(budget_s=60) as process:
        yield process


def _gaps(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Frames (T,) with a pose: all, or without some at the front, at the end, in the middle."""
    there = np.ones(frames, bool)
    if rng.random() < 0.3:
        there[: rng.integers(1, frames // 2)] = False
    if rng.random() < 0.3:
        there[frames - rng.integers(1, frames // 2) :] = False
    if rng.random() < 0.3:
        there[rng.integers(frames) :][: rng.integers(1, 6)] = False
    if not there.any():
        there[frames // 2] = True
    return there


def _video(rng: np.random.Generator, stem: Path, places: np.ndarray, size: tuple[int, int]) -> tuple[Path, str]:
    frames = marked_videos.pictures(places, size)
    if rng.random() < 0.2:
        suffix, orientation = str(rng.choice([".jpg", ".png"])), int(rng.choice([1, 3, 6]))
        first = int(rng.integers(0, 3))
        marked_videos.write_pictures(stem, frames, first=first, suffix=suffix, orientation=orientation)
        return stem, f"pictures {suffix} orientation {orientation} from {first}"
    suffix = str(rng.choice(list(marked_videos.CONTAINERS)))
    turn = int(rng.choice([0, 0, 90, 180, 270])) if suffix in (".mp4", ".MTS") and suffix != ".MTS" else 0
    b_frames = int(rng.integers(0, 3)) if suffix in (".mp4", ".mkv", ".MTS") else 0
    marked_videos.write_video(stem.with_suffix(suffix), frames, turn=turn, b_frames=b_frames)
    return stem.with_suffix(suffix), f"{suffix} turned {turn}, {b_frames} B-frames"


def case(seed: int, root: Path) -> Case:
    """The case of a number, its files below `root`."""
    rng = np.random.default_rng(seed)
    name = str(rng.choice(list(WRITERS)))
    writer = WRITERS[name]
    size = SIZES[rng.integers(len(SIZES))]
    if writer.picture == NTU_SIZE and rng.random() < 0.8:
        size = ((180, 320), (90, 160), (108, 192))[rng.integers(3)]
    frames = int(rng.integers(6, marked_videos.MOST_FRAMES))
    people = wanderers(frames, writer.joints, size, persons=int(rng.integers(1, min(writer.most, 2) + 1)), seed=seed)
    if writer.scores:
        scores = rng.choice([0.02, 0.5, 0.9], people.scores.shape, p=[0.1, 0.3, 0.6])
        people = dataclasses.replace(people, scores=scores)
    there = _gaps(rng, frames)
    stem = root / f"{seed}"
    video, how = _video(rng, stem / "v", people.joints[0, :, 0], size)
    unit = str(rng.choice(writer.units))
    base = int(rng.choice(writer.bases))
    told = {"seed": seed, "format": name, "size": size, "frames": frames, "video": how, "unit": unit, "base": base}
    written, plain, picture = people.only(there), True, None
    if writer.picture is True and unit == PIXELS and rng.random() < 0.6:  # the file states another picture size
        factor = float(rng.choice([1, 2, 3, 0.5]))
        picture = (round(size[0] * factor), round(size[1] * factor))
        if rng.random() < 0.25:
            picture, plain = (picture[0], picture[1] * 2), False
    if writer.picture == NTU_SIZE:
        plain = size[1] * 9 == size[0] * 16
    told["picture"] = picture
    kinds = ["same", "same", "same", "longer", "shorter", "scale"]
    kinds += [] if writer.listing == "list" else ["rate"]  # a list of half as many frames is one that ends early
    kind = str(rng.choice(kinds))
    kept = np.arange(frames)
    if kind == "rate":
        kept, plain = (np.arange(0, frames, 2) if rng.random() < 0.5 else np.arange(frames).repeat(2)), False
    elif kind == "longer":
        kept, plain = np.r_[kept, np.full(rng.integers(1, 9), frames - 1)], False
    elif kind == "shorter":
        kept, plain = kept[: max(2, frames - rng.integers(1, 9))], False
    elif kind == "scale" and unit == PIXELS:  # of a copy three times as large, of which nothing tells
        written, plain = dataclasses.replace(written, joints=written.joints * 3 + 7), False
    told["change"] = kind
    first_frame = base if rng.random() < 0.5 and len(writer.bases) > 1 else None
    # a list with gaps that does not say how it counts may be refused, and one that shows little of the picture
    plain = plain and (writer.listing == "array" or first_frame is not None or bool(there.all()))
    if writer.listing == "list" and kind == "longer" and first_frame is None and there[1:].all() and not there[0]:
        first_frame = base  # 1 to N of a frame more, without the first, are by all signs N frames counted from 1
    plain = plain and (
        unit != SIGNED or bool((written.joints[:, there] < np.array(size[::-1]) / 2).any(axis=(0, 1, 2)).all())
    )
    taken = written.take(kept)
    plain = plain and bool(taken.found.sum() >= 4)
    pose = writer(stem / ("v" if video.suffix else "p") if name != "openpose folder" else stem / "p", taken,
                  unit=unit, base=base, picture=picture)  # fmt: skip
    options = PrepareOptions(
        geometry=str(rng.choice(["full", "person", "center"])), frame_codec="lossless", persons_by="size",
        min_score=MIN_SCORE, first_frame=first_frame, draws=int(rng.integers(1, 3)), seed=seed,
    )  # fmt: skip
    told |= {"first_frame": first_frame, "geometry": options.geometry, "there": there.astype(int).tolist()}
    shown = np.zeros(frames, bool)
    shown[: len(kept)] = there[: len(kept)][:frames]
    return Case(people, shown, video, pose, _topology(writer), options, plain, told)


def _topology(writer: Writer) -> str:
    if writer.listing == "folder":
        return "openpose25"
    return {17: "coco17", 25: "ntu25", 18: "openpose18", 13: "penn13", 15: "jhmdb15"}[writer.joints]


def wrong(made: Case, clip: ClipContent, left_out: int) -> str:
    """What a clip that is done has got wrong, or "".

    A person who is lost for a while in a list without names may come back as another, who is then left out, and told.
    """
    for draw, index in enumerate(clip.frame_index):
        for t, frame in enumerate(index.tolist()):
            picture = decode_picture(clip.frames[draw][t])
            if marked_videos.number_of(picture) != frame:
                return f"frame {frame} shows {marked_videos.number_of(picture)}"
            joints = clip.joints[draw, :, t]  # (M, V, 2)
            known = made.people.scores[0, frame, 0] >= MIN_SCORE and made.written[frame]
            off = np.linalg.norm(joints[:, 0] - marked_videos.place_of(picture), axis=-1)
            if known and not left_out and not (np.isfinite(off).any() and np.nanmin(off) < 0.6):
                return f"frame {frame}: joint 0 is {off} from its place"
            places = _kept(made.people.joints[:, frame], clip.box, picture.shape)
            for person in joints[np.isfinite(joints).any(axis=(1, 2))]:
                gaps = np.linalg.norm(places - person, axis=-1)  # (M, V)
                if not np.nanmax(gaps, axis=1).min() < 0.6:
                    return f"frame {frame}: a person lies {np.nanmax(gaps, axis=1)} from all that were written"
            if not made.written[frame] and np.isfinite(joints).any():
                return f"frame {frame} has joints that were never written"
            if np.isfinite(joints).all(axis=-1).sum() > len(made.people.joints) * joints.shape[1]:
                return f"frame {frame} has too many joints"
    return ""


def _kept(places: np.ndarray, box: tuple[int, int, int, int], shape: tuple[int, ...]) -> np.ndarray:
    """Pixels of the video (..., 2) in the kept picture: by shares of the box, from edge to edge."""
    x0, y0, x1, y1 = box
    share = (places + 0.5 - [x0, y0]) / [x1 - x0, y1 - y0]
    return share * [shape[1], shape[0]] - 0.5


@pytest.mark.parametrize("part", range(4))
def test_done_is_right(part: int, tmp_path: Path, child: DecodeProcess) -> None:
    cases = int(os.environ.get("STAR_CASES", "120"))
    done, refused = 0, Counter[str]()
    for seed in range(part * cases // 4, (part + 1) * cases // 4):
        made = case(seed, tmp_path)
        record = VideoRecord(
            clip_id="c", key="c", label=0, video=made.video.relative_to(tmp_path).as_posix(),
            skeleton=made.pose.relative_to(tmp_path).as_posix(),
        )  # fmt: skip
        roots = {"videos": str(tmp_path), "skeletons": str(tmp_path)}
        clip, entry = attempt(record, roots, made.topology, made.options, child)
        assert entry["outcome"] in ("done", "failed", "excluded"), made.told
        if clip is not None:
            found = wrong(made, clip, entry["poses"]["bodies_left_out"])
            assert not found, (found, made.told, entry)
            done += 1
        else:
            assert entry["reason"]
            assert not made.plain, (entry["reason"], made.told)
            refused[entry["reason"].partition(" (")[0]] += 1
    assert done > cases / 4 * 0.3, refused
    assert sum(refused.values()) > cases / 4 * 0.05


def test_topologies_are_those_of_the_formats(tmp_path: Path) -> None:
    for name, writer in WRITERS.items():
        pose = writer(tmp_path / name / "v", wanderers(8, writer.joints, (180, 320)))
        assert topology_of(pose) == _topology(writer), name
