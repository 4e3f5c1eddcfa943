"""One clip: joints and pixels stay in step, what is live is what is read back, and the label plays no part."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from tiny_corpus import HEIGHT, JOINTS, WIDTH, joints_of_clip, listing, names, write_corpus, write_skeleton

from pipeline.config import FRAMES, GEOMETRIES, PrepareOptions
from pipeline.datasets.synthetic import recipe
from pipeline.datasets.synthetic.scene import scene
from pipeline.decode.child_process import DecodedFrames, DecodeProcess
from pipeline.decode.read import VideoInfo
from pipeline.errors import DecodeError
from pipeline.heatmaps import joint_heatmaps, to_cells
from pipeline.manifest import topology
from pipeline.prepare.clip import attempt, frame_index, make_clip
from pipeline.prepare.coordinator import prepare
from pipeline.prepare.folder import PreparedFolder
from pipeline.prepare.hdf5 import ClipContent, decode_picture, encode_picture
from pipeline.records import VideoRecord
from pipeline.skeletons.read import read_skeleton
from pipeline.views import View, crop_frames, crop_joints, crop_visible, view_of

CROP, STRIDE, SIGMA = 112, 4, 1.0
PAIRS = topology("ntu25").pairs


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecodeProcess]:
    with DecodeProcess(budget_s=60) as decoder:
        yield decoder


def _pixels(clip: ClipContent, draw: int) -> np.ndarray:
    return np.stack([decode_picture(picture) for picture in clip.frames[draw]])  # (T, H, W, 3)


def _heatmaps(clip: ClipContent, view: View) -> np.ndarray:
    """(T, V, h, w) of a view of the clip, as stage 2 draws them."""
    joints = to_cells(crop_joints(clip.joints[view.draw], view, PAIRS, crop=CROP), STRIDE)
    visible = crop_visible(clip.scores[view.draw] > 0, view, PAIRS)
    return joint_heatmaps(joints, visible, size=(CROP // STRIDE, CROP // STRIDE), sigma=SIGMA)


def _views(clip: ClipContent, key: str) -> list[View]:
    """The centred view, and every corner with and without flip, over the draws."""
    kept = decode_picture(clip.frames[0][0]).shape[:2]
    spare = (kept[0] - CROP, kept[1] - CROP)
    corners = [(t, left) for t in (0, spare[0]) for left in (0, spare[1])]
    views = [View(i % len(clip.frames), *corner, flip) for i, corner in enumerate(corners) for flip in (False, True)]
    return [view_of(key, 0, seed=0, draws=len(clip.frames), kept=kept, crop=CROP), *views]


def _in_cells(place: np.ndarray, clip: ClipContent, kept: tuple[int, ...], view: View) -> np.ndarray:
    """Source pixels (..., 2) to cells of the view, worked out again: by shares of the box, from edge to edge."""
    x0, y0, x1, y1 = clip.box
    share = (place + 0.5 - (x0, y0)) / (x1 - x0, y1 - y0)  # 0 at the left edge of the box, 1 at the right
    edges = share * (kept[1], kept[0]) - (view.left, view.top)  # pixels of the crop, from its left edge
    if view.flip:
        edges[..., 0] = CROP - edges[..., 0]
    return edges / STRIDE - 0.5


def _without_bodies(source: Path, target: Path, every: int) -> None:
    """A copy of a .skeleton file in which every so many frames hold nobody."""
    lines = source.read_text().splitlines()
    kept, at = lines[:1], 1
    for frame in range(int(lines[0])):
        end = at + 1 + int(lines[at]) * (2 + JOINTS)
        kept += ["0"] if frame % every == 0 else lines[at:end]
        at = end
    target.parent.mkdir(exist_ok=True)
    target.write_text("\n".join(kept) + "\n")


@pytest.mark.parametrize("kind", GEOMETRIES)
def test_heatmaps_peak_where_the_renderer_painted_the_joint(
    raw_synthetic: Path, decoder: DecodeProcess, tmp_path: Path, kind: str
) -> None:
    options = PrepareOptions(geometry=kind, draws=3)
    rows, side = recipe.listing(raw_synthetic), CROP // STRIDE
    checked = empty = 0
    for record in rows.records[::3]:
        _without_bodies(raw_synthetic / "skeletons" / record.skeleton, tmp_path / record.skeleton, every=4)
        clip, entry = attempt(record, {**rows.roots, "skeletons": str(tmp_path)}, "ntu25", options, decoder)
        assert clip is not None, entry
        painted = recipe.painted_joints(record.clip_id, seed=0)  # (M, T, V, 2)
        lost = scene(record.clip_id, seed=0).lost | (np.arange(painted.shape[1]) % 4 == 0)
        kept = decode_picture(clip.frames[0][0]).shape
        for view in _views(clip, record.key):
            maps = _heatmaps(clip, view)
            partner = dict([*PAIRS, *((right, left) for left, right in PAIRS)]) if view.flip else {}
            order = [partner.get(v, v) for v in range(JOINTS)]  # a mirrored left hand is a right hand
            for t, frame in enumerate(clip.frame_index[view.draw]):
                seen = ~lost[:, frame]
                if not seen.any():
                    assert (maps[t] == 0).all()
                    empty += 1
                    continue
                cells = _in_cells(painted[seen, frame], clip, kept, view)[:, order]  # (M, V, 2)
                inside = ((cells > 0) & (cells < side - 1)).all(axis=-1)  # (M, V)
                peaks = np.stack(np.unravel_index(maps[t].reshape(JOINTS, -1).argmax(1), (side, side))[::-1], axis=-1)
                off = np.abs(cells - peaks).max(axis=-1).min(axis=0)  # (V,), from the nearest person's
                assert (off[inside.any(axis=0)] <= 1.0).all(), (record.clip_id, view, t)
                # and every person has a peak of its own, not only the nearest
                persons, joints = np.nonzero(inside)
                x, y = np.round(cells[persons, joints]).astype(int).T
                assert (maps[t, joints, y, x] >= np.exp(-0.55 / (2 * SIGMA**2))).all()
                checked += len(persons)
    assert checked > 8_000
    assert empty > 100


def _write_disc(root: Path, name: str, centres: np.ndarray, *, height: int, width: int) -> VideoRecord:
    """A video of a white disc on black whose middle is joint 0 of the skeleton beside it; the others are about it."""
    (root / "videos").mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:height, :width]
    with av.open(str(root / "videos" / f"{name}_rgb.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=30, options={"qmin": "2", "qmax": "2"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for x, y in centres:
            disc = np.clip(7.5 - np.hypot(columns - x, rows - y), 0, 1)
            picture = np.repeat((255 * disc).astype(np.uint8)[..., None], 3, axis=-1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    about = np.random.default_rng(0).uniform(-12, 12, (JOINTS, 2))
    about[0] = 0
    path = root / "skeletons" / f"{name}.skeleton"
    write_skeleton(path, centres[:, None] + about, width=width)
    return listing(root).records[0]


@pytest.mark.parametrize("kind", GEOMETRIES)
def test_the_joint_lies_on_its_pixels_in_every_frame(tmp_path: Path, decoder: DecodeProcess, kind: str) -> None:
    height, width, frames = 144, 256, 24
    # ten pixels a frame, there and back: a neighbouring frame would be more than a cell away
    x = 20 + 10 * np.abs((np.arange(frames) + 9) % 40 - 20)
    centres = np.stack([x, 40 + 3 * np.arange(frames)], axis=-1).astype(float)
    record = _write_disc(tmp_path, names(1)[0], centres, height=height, width=width)
    roots = {"videos": str(tmp_path / "videos"), "skeletons": str(tmp_path / "skeletons")}
    options = PrepareOptions(geometry=kind, draws=3, frame_codec="lossless")
    clip, entry = attempt(record, roots, "ntu25", options, decoder)
    assert clip is not None, entry
    checked = 0
    for view in _views(clip, record.key):
        pixels = crop_frames(_pixels(clip, view.draw), view, crop=CROP).astype(float).sum(axis=-1)
        maps = _heatmaps(clip, view)
        for t in range(FRAMES):
            bright = np.where(pixels[t] > 200, pixels[t], 0)
            y, x = np.mgrid[:CROP, :CROP]
            if bright.sum() == 0 or bright[0].any() or bright[-1].any() or bright[:, 0].any() or bright[:, -1].any():
                continue  # cut by the edge of the crop: its middle is not the disc's
            middle = np.array([(bright * x).sum(), (bright * y).sum()]) / bright.sum()
            row, column = np.unravel_index(maps[t, 0].argmax(), maps[t, 0].shape)
            assert np.abs(to_cells(middle, STRIDE) - (column, row)).max() <= 1.0, (view, t)
            checked += 1
    assert checked > 60


def test_live_content_is_what_is_read_back(raw_synthetic: Path, decoder: DecodeProcess, tmp_path: Path) -> None:
    rows = recipe.listing(raw_synthetic)
    rows = dataclasses.replace(rows, records=rows.records[:2])
    for codec in ("lossless", "jpeg95"):
        options = PrepareOptions(frame_codec=codec, draws=2, shard_clips=2)
        prepare(rows, options, tmp_path / codec)
        folder = PreparedFolder.open(tmp_path / codec)
        record = folder.record(0)
        assert record is not None
        for row, entry, clip in zip(rows.records, record["clips"], folder.shard(0).clips(record), strict=True):
            assert clip is not None
            live, live_entry = attempt(row, rows.roots, "ntu25", options, decoder)
            assert live is not None
            live_entry.pop("seen")
            assert live_entry == entry
            assert live.digest() == clip.digest() == entry["sha256"]
            video = Path(rows.roots["videos"]) / row.video
            for draw in range(2):
                fresh = decoder.read_frames(video, clip.frame_index[draw], box=clip.box, size=(128, 128)).frames
                stored = _pixels(clip, draw)
                if codec == "lossless":
                    np.testing.assert_array_equal(stored, fresh)
                else:
                    assert clip.frames[draw] == tuple(encode_picture(picture, codec) for picture in fresh)


def test_joints_are_those_of_the_frames_and_persons_keep_their_slots(
    raw_synthetic: Path, decoder: DecodeProcess
) -> None:
    rows = recipe.listing(raw_synthetic)
    record = next(record for record in rows.records if record.clip_id.endswith("A013"))  # two persons
    clip, _ = attempt(record, rows.roots, "ntu25", PrepareOptions(draws=2), decoder)
    assert clip is not None
    skeleton = read_skeleton(Path(rows.roots["skeletons"]) / record.skeleton, size=(360, 640))
    x0, y0, x1, y1 = clip.box
    slots = set()
    for draw in range(2):
        for person in range(2):
            source = (clip.joints[draw, person] + 0.5) * (np.array([x1 - x0, y1 - y0]) / 128) + (x0, y0) - 0.5
            errors = [
                np.nanmax(np.abs(source - skeleton.joints[m, clip.frame_index[draw]]), initial=0)
                + 1e9 * (np.isnan(source) != np.isnan(skeleton.joints[m, clip.frame_index[draw]])).any()
                for m in range(2)
            ]
            assert min(errors) < 0.01
            slots.add((person, int(np.argmin(errors))))
    assert len(slots) == 2  # the same two pairs in both draws


def test_places_in_space_are_those_of_the_frames(tmp_path: Path, decoder: DecodeProcess) -> None:
    name = names(1)[0]
    rows = write_corpus(tmp_path, [name], frames=18)
    path = tmp_path / "skeletons" / f"{name}.skeleton"
    lines = path.read_text().splitlines()
    bodies = [i for i, line in enumerate(lines) if line.startswith("0 0 3 ")]
    for number, i in enumerate(bodies):
        frame, joint = divmod(number, JOINTS)
        lines[i] = f"{joint / 8} {frame / 8} 3 " + lines[i].removeprefix("0 0 3 ")
    path.write_text("\n".join(lines) + "\n")
    clip, entry = attempt(rows.records[0], rows.roots, "ntu25", PrepareOptions(draws=3), decoder)
    assert clip is not None, entry
    assert clip.xyz is not None
    assert np.isnan(clip.xyz[:, 1]).all()  # nobody
    np.testing.assert_array_equal(clip.xyz[:, 0, :, :, 0], np.broadcast_to(np.arange(JOINTS) / 8, (3, 16, JOINTS)))
    np.testing.assert_array_equal(clip.xyz[:, 0, :, 3, 1], clip.frame_index / 8)
    assert (clip.xyz[:, 0, ..., 2] == 3).all()


def test_a_source_without_places_in_space_gives_none(tmp_path: Path, decoder: DecodeProcess) -> None:
    name = names(1)[0]
    rows = write_corpus(tmp_path, [name], frames=18)
    (tmp_path / "skeletons" / f"{name}.skeleton").unlink()
    pose = tmp_path / "skeletons" / f"{name}.npz"
    np.savez(pose, joints=joints_of_clip(name[:16], 18))
    record = dataclasses.replace(rows.records[0], skeleton=pose.name)
    clip, entry = attempt(record, rows.roots, "ntu25", PrepareOptions(), decoder)
    assert clip is not None, entry
    assert clip.xyz is None


@pytest.mark.parametrize("frames", [1, 5, 16, 40])
def test_one_index_set_for_both_of_the_videos_frames(tmp_path: Path, decoder: DecodeProcess, frames: int) -> None:
    name = names(1)[0]
    rows = write_corpus(tmp_path, [name], frames=frames)
    for poses in (max(1, frames - 2), frames, frames + 2):
        write_skeleton(tmp_path / "skeletons" / f"{name}.skeleton", joints_of_clip(name[:16], poses))
        clip, entry = attempt(rows.records[0], rows.roots, "ntu25", PrepareOptions(draws=3), decoder)
        assert clip is not None, entry
        np.testing.assert_array_equal(clip.frame_index, frame_index(frames, name[:16], PrepareOptions(draws=3)))
        assert clip.frame_index.min() >= 0
        assert clip.frame_index.max() < frames
        centres = (2 * np.arange(16) + 1) * frames // 32
        np.testing.assert_array_equal(clip.frame_index[0], centres)
        there = np.isfinite(clip.joints[:, 0]).all(axis=(-2, -1))  # (R, T)
        np.testing.assert_array_equal(there, clip.frame_index < poses)
        assert (entry["raw"]["video"]["frames"], entry["raw"]["pose"]["frames"]) == (frames, poses)
    write_skeleton(tmp_path / "skeletons" / f"{name}.skeleton", joints_of_clip(name[:16], frames + 3))
    clip, entry = attempt(rows.records[0], rows.roots, "ntu25", PrepareOptions(draws=3), decoder)
    assert clip is None
    assert f"got {frames + 3} frames of poses, expected {frames}, the video's" in entry["reason"]


def test_draws_are_a_function_of_seed_key_and_number() -> None:
    options = PrepareOptions(draws=4, seed=3)
    index = frame_index(100, "S001C001P001R001", options)
    np.testing.assert_array_equal(
        index[:2], frame_index(100, "S001C001P001R001", dataclasses.replace(options, draws=2))
    )
    assert len({tuple(draw) for draw in index}) == 4
    for other in (
        frame_index(100, "S001C001P001R002", options),
        frame_index(100, "S001C001P001R001", PrepareOptions(draws=4)),
    ):
        np.testing.assert_array_equal(other[0], index[0])  # uniform
        assert (other[1:] != index[1:]).any(axis=1).all()
    segments = np.arange(16) * 100 / 16
    assert ((index >= np.floor(segments)) & (index < segments + 100 / 16)).all()


def test_renaming_actions_changes_labels_and_ids_only(tmp_path: Path) -> None:
    """Through the whole stage, for both draws, with rows that fail and rows that are excluded among them."""
    before = names(9)
    rows = write_corpus(tmp_path / "before", before)
    (tmp_path / "before" / "videos" / f"{before[4]}_rgb.avi").write_bytes(b"no video")
    write_skeleton(
        tmp_path / "before" / "skeletons" / f"{before[5]}.skeleton", np.zeros((18, 25, 2)), absent=frozenset(range(18))
    )
    after = {name: f"{name[:17]}{(int(name[17:]) * 5) % 14 + 1:03d}" for name in before}
    for kind, suffix in (("videos", "_rgb.avi"), ("skeletons", ".skeleton")):
        (tmp_path / "after" / kind).mkdir(parents=True)
        for old, new in after.items():
            shutil.copy(tmp_path / "before" / kind / (old + suffix), tmp_path / "after" / kind / (new + suffix))
    options = PrepareOptions(draws=2, shard_clips=4)
    told: list[dict[str, dict[str, Any]]] = []
    for name, corpus in (("before", rows), ("after", listing(tmp_path / "after"))):
        prepare(corpus, options, tmp_path / f"{name}-out")
        folder = PreparedFolder.open(tmp_path / f"{name}-out")
        told.append({entry["id"][:16]: entry for entry in folder.outcomes()})
        assert {record.label for record in corpus.records} == {int(r.clip_id[17:]) - 1 for r in corpus.records}
    assert set(told[0]) == set(told[1])
    for key, entry in told[0].items():
        new = told[1][key]
        assert new.pop("id") == after[entry.pop("id")]
        assert new == entry  # outcome, reason, digest of frames, joints, scores and indices of both draws, reader
    assert [sum(e["outcome"] == o for e in told[0].values()) for o in ("done", "failed", "excluded")] == [7, 1, 1]


class FakeDecoder(DecodeProcess):
    """Answers as it is told, and remembers what it was asked."""

    def __init__(self, claimed: int, decoded: int, *, corrupt: bool = False) -> None:
        super().__init__()
        self.claimed, self.decoded, self.corrupt, self.poses = claimed, decoded, corrupt, decoded
        self.asked: list[list[int]] = []

    def probe(self, path: Any, *, allow_corrupt: bool = False) -> VideoInfo:
        return VideoInfo(self.claimed, HEIGHT, WIDTH)

    def read_frames(self, path: Any, indices: Any, *, allow_corrupt: bool = False, **_: Any) -> DecodedFrames:
        self.asked.append(np.asarray(indices).tolist())
        if max(indices) >= self.decoded:
            raise DecodeError(path, "ended early", frames=self.decoded)
        if self.corrupt and not allow_corrupt:
            raise DecodeError(path, "has a damaged frame")
        return DecodedFrames(np.zeros((len(indices), 128, 128, 3), np.uint8), "fake")


def _attempt_with(decoder: FakeDecoder, tmp_path: Path, **options: Any) -> tuple[ClipContent | None, dict[str, Any]]:
    name = names(1)[0]
    write_skeleton(tmp_path / f"{name}.skeleton", joints_of_clip(name[:16], decoder.poses))
    (tmp_path / "x.avi").touch()
    record = VideoRecord(clip_id=name, key=name[:16], label=0, video="x.avi", skeleton=f"{name}.skeleton")
    roots = {"videos": str(tmp_path), "skeletons": str(tmp_path)}
    return attempt(record, roots, "ntu25", PrepareOptions(**options), decoder)


def test_indices_are_drawn_again_once_where_decoding_gives_another_count(tmp_path: Path) -> None:
    decoder = FakeDecoder(claimed=40, decoded=38)
    clip, entry = _attempt_with(decoder, tmp_path)
    assert clip is not None
    assert entry["raw"]["video"]["frames"] == 38
    np.testing.assert_array_equal(clip.frame_index[0], (2 * np.arange(16) + 1) * 38 // 32)
    assert len(decoder.asked) == 2

    class Shrinking(FakeDecoder):
        def read_frames(self, path: Any, indices: Any, **options: Any) -> DecodedFrames:
            self.decoded = max(indices)
            return super().read_frames(path, indices, **options)

    shrinking = Shrinking(claimed=40, decoded=38)
    assert _attempt_with(shrinking, tmp_path)[1]["outcome"] == "failed"
    assert len(shrinking.asked) == 2


def test_corrupt_frames_fail_the_clip_or_mark_it(tmp_path: Path) -> None:
    clip, entry = _attempt_with(FakeDecoder(40, 40, corrupt=True), tmp_path)
    assert clip is None
    assert entry["outcome"] == "failed"
    assert "has a damaged frame" in entry["reason"]
    clip, entry = _attempt_with(FakeDecoder(40, 40, corrupt=True), tmp_path, allow_corrupt=True)
    assert clip is not None
    assert entry["outcome"] == "done"
    assert "has a damaged frame" in entry["corrupt"]
    clip, entry = _attempt_with(FakeDecoder(40, 40), tmp_path, allow_corrupt=True)
    assert "corrupt" not in entry


def test_equal_causes_read_equal_wherever_the_data_lie(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for root in (tmp_path, tmp_path / "elsewhere"):
        _, entry = _attempt_with(FakeDecoder(40, 40, corrupt=True), root)
        assert entry["reason"] == "video: has a damaged frame"


def test_bodies_without_a_usable_joint_make_no_clip(tmp_path: Path) -> None:
    name = names(1)[0]
    path = tmp_path / f"{name}.skeleton"
    (tmp_path / "x").touch()
    for absent, min_score in ((frozenset[int](), 0.0), (frozenset(range(40)), 0.0), (frozenset[int](), 0.2)):
        write_skeleton(path, np.full((40, 25, 2), np.nan), absent=absent)
        options = PrepareOptions(min_score=min_score)
        clip, facts = make_clip(tmp_path / "x", path, name[:16], "ntu25", options, FakeDecoder(40, 40))
        assert clip is None
        scored = " with a joint scored 0.2 or more" if min_score else ""
        assert facts["reason"] == f"no body in any frame of the skeleton{scored}"


def test_a_skeleton_of_another_topology_fails(tmp_path: Path) -> None:
    name = names(1)[0]
    write_skeleton(tmp_path / f"{name}.skeleton", joints_of_clip(name[:16], 40))
    (tmp_path / "x.avi").touch()
    record = VideoRecord(clip_id=name, key=name[:16], label=0, video="x.avi", skeleton=f"{name}.skeleton")
    roots = {"videos": str(tmp_path), "skeletons": str(tmp_path)}
    _, entry = attempt(record, roots, "penn13", PrepareOptions(), FakeDecoder(40, 40))
    assert entry["outcome"] == "failed"
    assert "got 25, expected 13" in entry["reason"]
