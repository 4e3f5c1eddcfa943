"""Inputs as people have them, from public bug reports: each clip is right in the prepared folder, or told with a cure.

Every case is a folder for `star prepare folder` (two classes, a video each, and what stands beside them), and what must
become of each clip: the word "right", or words of the reason. Units, bases and sizes over all formats are in the
contract of the pose formats, and by chance in `test_any_input`.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unicodedata import normalize

import marked_videos
import numpy as np
import pytest
from command_line import star
from PIL import Image
from pose_files import SHARES, SIGNED, WRITERS, Detections, wanderers

from pipeline.prepare.folder import PreparedFolder
from pipeline.prepare.hdf5 import decode_picture

pytestmark = pytest.mark.processes

SIZE, FRAMES = (180, 320), 24
RIGHT = "right"


def people(joints: int = 17, **more: Any) -> Detections:
    return wanderers(FRAMES, joints, SIZE, **more)


PEOPLE = people()
MARKER = PEOPLE.joints[0, :, 0]  # (T, 2), where the pictures have their disc, whatever the topology


def marked(joints: int, **more: Any) -> Detections:
    """Somebody of so many joints whose joint 0 is on the disc."""
    found = people(joints, **more)
    found.joints[0] += (MARKER - found.joints[0, :, 0])[:, None]
    return found


def video(path: Path, **how: Any) -> Path:
    return marked_videos.write_video(path, marked_videos.pictures(MARKER, SIZE), **how)


def each(root: Path, write: Callable[[Path], object], **how: Any) -> None:
    """jump/v0 and wave/v0, and for each the pose that `write` writes beside its stem."""
    for label in ("jump", "wave"):
        video(root / label / "v0.mp4", **how)
        write(root / label / "v0")


@dataclass(frozen=True)
class Case:
    """`make` fills a folder; `ends`: by clip "right" or words of its reason; `words`: of the one sentence, if none."""

    make: Callable[[Path], object]
    ends: dict[str, str] = field(default_factory=lambda: {"jump/v0": RIGHT, "wave/v0": RIGHT})
    words: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    told: tuple[str, ...] = ()  # words on stderr


def both(reason: str) -> dict[str, str]:
    return {"jump/v0": reason, "wave/v0": reason}


def poses(name: str, detections: Detections | None = None, **how: Any) -> Callable[[Path], None]:
    writer = WRITERS[name]
    found = marked(writer.joints) if detections is None else detections
    # an OpenPose folder stands beside its video under the same name
    return lambda root: each(root, lambda stem: writer(stem, found, **how))


def text(content: Any) -> Callable[[Path], None]:
    return lambda root: each(root, lambda stem: stem.with_suffix(".json").write_text(json.dumps(content)))


def at(*frames: int) -> np.ndarray:
    there = np.zeros(FRAMES, bool)
    there[list(frames)] = True
    return there


def instances(t: int) -> list[dict[str, Any]]:
    return [{"keypoints": PEOPLE.joints[0, t].tolist(), "keypoint_scores": [0.9] * 17}]


def ultralytics(t: int) -> list[dict[str, Any]]:
    x, y = PEOPLE.joints[0, t].T.tolist()
    return [{"name": "person", "class": 0, "keypoints": {"x": x, "y": y, "visible": [0.9] * 17}}]


def ultralytics_txt(stem: Path) -> None:
    stem.mkdir()
    for t in range(FRAMES):
        (stem / f"v0_{t + 1}.txt").write_text("0 0.5 0.5 0.2 0.6 " + " ".join(["0.5 0.5 0.9"] * 17))


def own(stem: Path, joints: np.ndarray, **more: Any) -> None:
    np.savez(stem.with_suffix(".npz"), joints=joints, **more)


def in_npz(joints: int, **how: Any) -> Callable[[Path], None]:
    return lambda root: each(root, lambda stem: own(stem, marked(joints).joints[0]), **how)


def kinect20(stem: Path) -> None:
    body = ["72057594037931003 0 1 1 1 1 0 0 0 2", "20", *["0 0 3 0 0 900 500 0 0 0 0 2"] * 20]
    stem.with_suffix(".skeleton").write_text("\n".join([str(FRAMES), *(["1", *body] * FRAMES)]))


def pyskl(stem: Path) -> None:
    scores = np.ones((1, FRAMES, 17))
    np.savez(stem.with_suffix(".npz"), keypoint=PEOPLE.joints, keypoint_score=scores, total_frames=FRAMES, label=0)


# ---------------------------------------------------------------- persons


def low_scores() -> Detections:
    """Three joints that were not found: the estimator puts them into the corner, scored 0.02."""
    found = marked(17)
    found.joints[0, :, 13:16], found.scores[0, :, 13:16] = [[3, 3], [5, 2], [2, 6]], 0.02
    return found


def all_low() -> Detections:
    found = marked(17)
    found.scores[:] = 0.1
    return found


def crowd() -> Detections:
    """A large actor who moves little, and two small people who walk by."""
    body = np.random.default_rng(0).uniform((-0.18, -0.5), (0.18, 0.5), (17, 2))
    t = np.arange(FRAMES)[:, None, None]
    actor = (body * 150 + [160, 95]).repeat(FRAMES, 0).reshape(17, FRAMES, 2).swapaxes(0, 1).copy()
    actor[:, 0] = MARKER
    others = [
        body * 30 + np.concatenate([20 + 8 * t, 50 + 0 * t], -1),
        body * 30 + np.concatenate([300 - 8 * t, 55 + 0 * t], -1),
    ]
    joints = np.stack([actor, *others])
    return Detections(joints, SIZE, np.full(joints.shape[:3], 0.9), (7, 2, 3))


def changing_sides() -> Detections:
    """Two who change sides from frame to frame, so that places mix them; their numbers do not."""
    body = np.random.default_rng(1).uniform((-0.18, -0.5), (0.18, 0.5), (17, 2)) * 100
    left = np.arange(FRAMES) % 2 == 0
    one = body + np.where(left, 80, 235)[:, None, None] * [1, 0] + [0, 100]
    other = body + np.where(left, 235, 80)[:, None, None] * [1, 0] + [0, 102]
    one[:, 0] = MARKER
    joints = np.stack([one, other])
    return Detections(joints, SIZE, np.full(joints.shape[:3], 0.8), (7, 9))


# ---------------------------------------------------------------- videos, pictures, names, lists


def containers(root: Path) -> None:
    for suffix in marked_videos.CONTAINERS:
        own(video(root / "jump" / f"{suffix[1:]}{suffix}").with_suffix(""), PEOPLE.joints[0])
    in_npz(17)(root)


def pictures(root: Path) -> None:
    frames = marked_videos.pictures(MARKER, SIZE)
    for name, suffix, orientation in (("exif_jpg", ".jpg", 1), ("exif_png", ".png", 1), ("turned", ".jpg", 6)):
        marked_videos.write_pictures(root / "jump" / name, frames, first=1, suffix=suffix, orientation=orientation)
    for name in ("jump/flow", "jump/cut", "w%d/v0", "w0/v0"):
        marked_videos.write_pictures(root / name, frames if name != "w0/v0" else frames[::-1], first=1, suffix=".jpg")
    for axis in "xy":
        for t in range(FRAMES - 1):
            Image.new("L", SIZE[::-1], 128).save(root / f"jump/flow/flow_{axis}_{t + 1:05d}.jpg")
    for number in (2, 3):
        path = root / f"jump/cut/img_{number:05d}.jpg"
        os.truncate(path, path.stat().st_size // 2)
    for folder in (path for path in root.glob("*/*") if path.is_dir()):
        own(folder, PEOPLE.joints[0] if folder.parent.name != "w0" else PEOPLE.joints[0][::-1])


def listed(*lines: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        for i in (1, 2, 3):
            video(root / f"v/c{i}.mp4")
            own(root / f"v/c{i}", PEOPLE.joints[0])
        (root / "clips.csv").write_text("\n".join(["path,label,split", *lines]) + "\n")

    return make


def unicode_forms(root: Path) -> None:
    each(root, lambda stem: own(stem, PEOPLE.joints[0]))
    for suffix, form in ((".mp4", "NFD"), (".npz", "NFC")):
        (root / f"jump/v0{suffix}").rename(root / "jump" / (normalize(form, "café") + suffix))


def unturned(root: Path) -> None:
    """Poses of a tool that does not turn the video of a phone, which lies on its side in the file."""
    x, y = np.moveaxis(people(17, persons=1).joints[0], -1, 0)
    each(root, lambda stem: own(stem, np.stack([SIZE[0] - 1 - y, x], axis=-1)), turn=90)


def numbered_pictures(first: int, name: str) -> Callable[[Path], None]:
    """Pictures from a number on, and a list that names them, without the first three."""

    def make(root: Path) -> None:
        found = marked(17).only(at(*range(3, FRAMES)))
        for label in ("jump", "wave"):
            frames = marked_videos.pictures(MARKER, SIZE)
            marked_videos.write_pictures(root / label / "v0", frames, first=first, suffix=".jpg")
            list_of = [
                {"image_id": name.format(t + first), "category_id": 1, "score": 2.0, "keypoints": one.ravel().tolist()}
                for t, one in enumerate(np.concatenate([found.joints, found.scores[..., None]], axis=-1)[0])
                if np.isfinite(one).all()
            ]
            (root / label / "v0.json").write_text(json.dumps(list_of))

    return make


def zeros_for_nobody(stem: Path) -> None:
    """Two persons, the second of whom is there for a while only; programs fill up with zeros."""
    joints = np.zeros((2, FRAMES, 17, 2))
    joints[0], joints[1, 8:14] = marked(17).joints[0], people(17, seed=3).joints[0, 8:14]
    own(stem, joints)


# ---------------------------------------------------------------- one pose that is a trap, beside two sound clips


def trap(write: Callable[[Path], object]) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        joints = marked(25).joints[0]
        each(root, lambda stem: own(stem, joints, topology="ntu25"))
        shutil.copy(root / "jump/v0.mp4", root / "jump/bad.mp4")
        write(root / "jump/bad")

    return make


def caught(*words: str) -> dict[str, str]:
    return {"jump/bad": "|".join(words), "jump/v0": RIGHT, "wave/v0": RIGHT}


def put_json(content: Any) -> Callable[[Path], object]:
    return lambda stem: stem.with_suffix(".json").write_text(json.dumps(content))


def lying_npz(stem: Path) -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (2, 10**14, 25, 2)})
    with zipfile.ZipFile(stem.with_suffix(".npz"), "w") as file:
        file.writestr("joints.npy", head.getvalue())


def many_bodies(stem: Path) -> None:
    joints = ["0 0 3 0 0 900 500 0 0 0 0 2"] * 25
    bodies = [["1", f"{7 * 10**16 + t} 0 1 1 1 1 0 0 0 2", "25", *joints] for t in range(2000)]
    stem.with_suffix(".skeleton").write_text("\n".join(["2000", *(line for body in bodies for line in body)]))


def fifo_in_folder(stem: Path) -> None:
    WRITERS["openpose folder"](stem, marked(25))
    os.mkfifo(stem / "bad_000000000099_keypoints.json")


ONE = {"pose": [100.0 + i for i in range(36)], "score": [1] * 18}
FAR = {"data": [{"frame_index": 0, "skeleton": [ONE]}, {"frame_index": 3_000_000, "skeleton": []}]}
OTHER_RATE = "another number of frames than the video"
CASES = {
    "control": Case(poses("own npz")),
    "results from 1": Case(poses("coco results", base=1)),
    "openpose from 1": Case(poses("openpose folder", base=1)),
    "first frame empty": Case(poses("alphapose", marked(17).only(at(*range(1, 24))))),
    "first frames empty": Case(poses("alphapose", marked(17).only(at(*range(5, 24))))),
    "first frames empty, kinetics": Case(
        poses("kinetics json", marked(18).only(at(*range(5, 24)))), both("set first_frame to 0 or 1|set `first_frame`")
    ),
    "first frames empty, kinetics, told": Case(
        poses("kinetics json", marked(18).only(at(*range(5, 24))), base=1), options=("--first-frame", "1")
    ),
    "last frames empty": Case(poses("alphapose", marked(17).only(at(*range(16))))),
    "keypoint_scale 3": Case(poses("openpose folder", unit=SHARES)),
    "keypoint_scale 4": Case(poses("openpose folder", unit=SIGNED)),
    "shares in npz": Case(poses("own npz", unit=SHARES)),
    "shares in json": Case(poses("own json", unit=SHARES)),
    "coco of the same size": Case(poses("coco annotations", picture=SIZE)),
    "coco of another size": Case(poses("coco annotations", picture=(360, 640))),
    "coco of another shape": Case(poses("coco annotations", picture=(480, 640)), both("another shape")),
    "ntu transcoded": Case(poses("ntu skeleton")),
    "half the rate": Case(poses("own npz", marked(17).take(np.arange(0, FRAMES, 2))), both(OTHER_RATE)),
    "twice the rate": Case(poses("own npz", marked(17).take(np.arange(FRAMES).repeat(2))), both(OTHER_RATE)),
    "all outside": Case(
        poses("own npz", replace(marked(17), joints=marked(17).joints * 6 + 400)), both("only 0% lie in the picture")
    ),
    "MMPose's inferencer": Case(
        text([{"frame_id": t, "instances": instances(t)} for t in range(FRAMES)]), words=("MMPose's inferencer", "npz")
    ),
    "MMPose's demo": Case(
        text({"meta_info": {}, "instance_info": [{"frame_id": t, "instances": instances(t)} for t in range(FRAMES)]}),
        words=("MMPose's demo", "npz"),
    ),
    "Ultralytics' JSON": Case(text([ultralytics(t) for t in range(FRAMES)]), words=("Ultralytics", "npz")),
    "Ultralytics' txt": Case(lambda root: each(root, ultralytics_txt), words=("48 .txt (jump/v0/v0_1.txt, …)",)),
    "Halpe's 26": Case(in_npz(26), words=("26 joints", "Halpe's")),
    "MediaPipe's 33": Case(in_npz(33), words=("MediaPipe's",)),
    "WholeBody's 133": Case(in_npz(133), words=("COCO-WholeBody's",)),
    "MPII's 16": Case(in_npz(16), words=("MPII's",)),
    "Kinect v1": Case(lambda root: each(root, kinect20), words=("has 20 joints (Kinect v1)",)),
    "PYSKL's names": Case(lambda root: each(root, pyskl), words=("PYSKL",)),
    **{f"turned by {turn}": Case(in_npz(17, turn=turn)) for turn in (90, 180, 270)},
    "containers": Case(
        containers,
        {f"jump/{name}": RIGHT for name in ("avi", "mp4", "mkv", "MTS", "3gp", "mpg", "v0")} | {"wave/v0": RIGHT},
    ),
    "pictures": Case(
        pictures,
        {f"jump/{name}": RIGHT for name in ("exif_jpg", "exif_png", "turned", "flow")}
        | {"jump/cut": "is cut off", "w%d/v0": RIGHT},
    ),
    "low scores": Case(poses("own npz", low_scores()), options=("--geometry", "person")),
    "all scores low": Case(
        poses("own npz", all_low()), both("has no joint scored 0.2 or more (got 0.1 at most); lower")
    ),
    "all scores low, allowed": Case(poses("own npz", all_low()), options=("--min-score", "0")),
    "poses of the unturned video": Case(unturned, both("is of the video before it is turned (got joints in 180 x 320")),
    "pictures from 100": Case(numbered_pictures(100, "img_{:05d}.jpg")),
    "pictures from 1": Case(numbered_pictures(1, "img_{:05d}.jpg")),
    "pictures from 1, or AlphaPose's own names": Case(numbered_pictures(1, "{}.jpg"), both("from 0 or from 1")),
    "zeros for nobody": Case(lambda root: each(root, zeros_for_nobody)),
    "crowd": Case(poses("alphapose", crowd())),
    "changing sides": Case(poses("alphapose", changing_sides())),
    "a listed file is missing": Case(
        listed("v/c1.mp4,run,train", "v/c9.mp4,run,train", "v/c3.mp4,walk,test"),
        {"v/c1": RIGHT, "v/c9": "no video file", "v/c3": RIGHT},
        told=("caution: 1 of 3 clips lack a file",),
    ),
    "backslashes": Case(
        listed("v\\c1.mp4,run,train", "v/c2.mp4,walk,train", "v/c3.mp4,walk,test"),
        dict.fromkeys(("v/c1", "v/c2", "v/c3"), RIGHT),
    ),
    "a validation side": Case(
        listed("v/c1.mp4,run,train", "v/c2.mp4,walk,val", "v/c3.mp4,walk,test"),
        dict.fromkeys(("v/c1", "v/c2", "v/c3"), RIGHT),
    ),
    "unicode forms": Case(unicode_forms, {normalize("NFC", "jump/café"): RIGHT, "wave/v0": RIGHT}),
    **{f"{one!r} as JSON": Case(trap(put_json(one)), caught("known form")) for one in (None, 3, True, "x", [[]])},
    "an npz that lies": Case(trap(lying_npz), caught("whose header claims")),
    "frame 3,000,000": Case(trap(put_json(FAR)), caught(OTHER_RATE, "wrong number of joints")),
    "a body for each frame": Case(trap(many_bodies), caught(OTHER_RATE)),
    "a pipe": Case(trap(lambda stem: os.mkfifo(stem.with_suffix(".json"))), caught("is not a regular file")),
    "a pipe in a folder": Case(trap(fifo_in_folder), caught("is not a regular file")),
    "JSON a million deep": Case(
        trap(lambda stem: stem.with_suffix(".json").write_text("[" * 10**6 + "]" * 10**6)), caught("nested|JSON")
    ),
}  # fmt: skip


def judged(out: Path) -> dict[str, str]:
    """By clip: "right", what is wrong with it, or its reason."""
    folder, ends = PreparedFolder.open(out), {}
    for number in range(folder.shards):
        record = folder.record(number)
        assert record is not None
        for entry, clip in zip(record["clips"], folder.shard(number).clips(record), strict=True):
            ends[entry["id"]] = entry.get("reason", "")
            if clip is None:
                continue
            shown = [decode_picture(picture) for picture in clip.frames[0]]
            numbers = [marked_videos.number_of(picture) for picture in shown]
            discs = np.stack([marked_videos.place_of(picture) for picture in shown])  # (T, 2)
            off = np.linalg.norm(clip.joints[0, :, :, 0] - discs, axis=-1)  # (M, T), NaN without a joint
            most = [np.nanmax(gaps) for gaps in off if np.isfinite(gaps).any()]
            right = numbers == clip.frame_index[0].tolist() or entry["id"].startswith("w0/")
            ends[entry["id"]] = RIGHT if right and min(most) < 0.6 else f"{numbers}, off by {most}"
    return ends


@pytest.mark.parametrize("name", CASES)
def test_right_or_told(name: str, tmp_path: Path) -> None:
    case, root, out = CASES[name], tmp_path / "root", tmp_path / "out"
    root.mkdir()
    case.make(root)
    options = [
        "--geometry",
        "full",
        *case.options,
        *(["--csv", root / "clips.csv"] if (root / "clips.csv").exists() else []),
    ]
    shown = star("prepare", "folder", "--root", root, "--out", out, "--frame-codec", "lossless", "--quiet", *options)
    assert "Traceback" not in shown.stderr
    for word in (*case.words, *case.told):
        assert word in shown.stderr, shown.stderr
    if case.words:
        assert (shown.exit_code, out.exists()) == (1, False)
        assert len(shown.stderr.strip().splitlines()) == 1
        return
    ends = judged(out)
    assert ends.keys() >= case.ends.keys()
    for clip, expected in case.ends.items():
        assert any(words in ends[clip] for words in expected.split("|")), (clip, ends[clip])
    all_right = all(end == RIGHT for end in case.ends.values())
    assert shown.exit_code == (0 if all_right else 3), (shown.stdout, shown.stderr)


def test_a_frame_list_tells_the_same_frames_as_a_folder(tmp_path: Path) -> None:
    """Nobody in the last third: the same frames are sampled, whatever the format, and the gap is told."""
    found = {}
    for name in ("alphapose", "openpose folder", "own npz"):
        root = tmp_path / name
        poses(name, marked(WRITERS[name].joints).only(at(*range(16))))(root)
        assert star("prepare", "folder", "--root", root, "--out", root / "out", "--quiet").exit_code == 0
        folder = PreparedFolder.open(root / "out")
        clips = folder.shard(0).clips(folder.record(0) or {})
        found[name] = [clip.frame_index.tolist() for clip in clips if clip is not None]
        facts = json.loads(star("inspect", root / "out", "--json").stdout)["poses"]
        assert facts["clips_without_a_pose_in_their_last_frames"] == 2
        assert facts["frames_without_a_pose"] == 16
        assert facts["frames"] == 48
    assert found["alphapose"] == found["openpose folder"] == found["own npz"]
    assert found["own npz"][0][0][-1] == 23


def test_somebody_who_is_zero_in_a_frame_is_not_there(tmp_path: Path) -> None:
    each(tmp_path, zeros_for_nobody)
    assert star("prepare", "folder", "--root", tmp_path, "--out", tmp_path / "out", "--quiet").exit_code == 0
    folder = PreparedFolder.open(tmp_path / "out")
    for clip in folder.shard(0).clips(folder.record(0) or {}):
        assert clip is not None
        there = np.isfinite(clip.joints[0]).all(axis=(2, 3))  # (M, T)
        assert there[0].all()
        np.testing.assert_array_equal(there[1], (clip.frame_index[0] >= 8) & (clip.frame_index[0] < 14))


def test_missing_clips_are_named_and_remedies_are_options(tmp_path: Path) -> None:
    poses("own npz", all_low())(tmp_path)
    (tmp_path / "jump/v1.mp4").write_bytes(b"")
    out = tmp_path / "out"
    shown = star("prepare", "folder", "--root", tmp_path, "--out", out, "--quiet")
    assert "lower --min-score" in shown.stdout
    told = star("inspect", out).stdout
    assert "lower --min-score" in told
    assert "missing clips:\n  jump/v1: no pose file" in told
    named = json.loads(star("inspect", out, "--json").stdout)["missing_clips"]
    assert named == [{"id": "jump/v1", "reason": "no pose file"}]


def test_what_was_left_out_is_told(tmp_path: Path) -> None:
    poses("alphapose", crowd())(tmp_path)
    star("prepare", "folder", "--root", tmp_path, "--out", tmp_path / "out", "--quiet")
    facts = json.loads(star("inspect", tmp_path / "out", "--json").stdout)["poses"]
    assert (facts["clips_with_bodies_left_out"], facts["bodies_left_out"]) == (2, 2)
    assert facts["units"] == {"pixels": 2}
    shown = star("prepare", "folder", "--root", tmp_path, "--out", tmp_path / "3", "--max-persons", "3", "--quiet")
    assert shown.exit_code == 0
    clip = PreparedFolder.open(tmp_path / "3").shard(0).clips(PreparedFolder.open(tmp_path / "3").record(0) or {})[0]
    assert clip is not None
    assert np.isfinite(clip.joints).any(axis=(0, 2, 3, 4)).sum() == 3
