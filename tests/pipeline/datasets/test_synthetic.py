"""The synthetic set: names, time-reversed pairs, geometry of what is painted, files in NTU's formats."""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from pipeline.datasets.ntu import record_from_name
from pipeline.datasets.synthetic import recipe
from pipeline.datasets.synthetic.actions import MOVEMENTS
from pipeline.datasets.synthetic.body import SHOULDERS, two_bones
from pipeline.datasets.synthetic.camera import FOCAL, HEIGHT, WIDTH, camera, colour_pixels, ntu_pixels
from pipeline.datasets.synthetic.encode import skeleton_text
from pipeline.datasets.synthetic.figure import Pencil
from pipeline.datasets.synthetic.paint import PaintLayer, facet, shadow, stroke
from pipeline.datasets.synthetic.render import frames, layers_of
from pipeline.datasets.synthetic.scene import LONGEST, SHORTEST, Scene, scene
from pipeline.errors import ConfigError, DataError
from pipeline.geometry import KEPT_PIXELS, geometry_of
from pipeline.manifest import class_names, split
from pipeline.skeletons.read import read_skeleton

KEY = "S001C002P003R002"
REVERSED = [(1, 2), (3, 5), (4, 6), (9, 10), (13, 14)]  # actions that are each other's reverse
THINGS = [(3, 4), (5, 6), (7, 8)]  # actions that differ in the thing beside the actor alone
SIZE = (90, 120)
CROP = 112


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a few written clips: one person, two people, one that the sensor loses for a while."""
    root = tmp_path_factory.mktemp("raw")
    for name in (f"{KEY}A001", f"{KEY}A014", _lost_clip()):
        recipe.write_clip(root, name, seed=0)
    return root


def _lost_clip() -> str:
    """The first clip of the set in which the sensor loses the person."""
    return next(name for name in recipe.clip_names(30) if scene(name, seed=0).lost.all(axis=0).any())


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("clips", [3, 4, 6, 30, 100])
def test_names_are_balanced_over_subjects_and_cameras(clips: int, seed: int) -> None:
    names = recipe.clip_names(clips, seed=seed)
    records = [record_from_name(name) for name in names]
    assert len(set(names)) == clips * len(MOVEMENTS)
    assert set(Counter(record.label for record in records).values()) == {clips}
    for protocol in ("xsub", "xview"):
        parts = split(records, "synthetic", protocol)
        for part, share in (("train", 2 / 3), ("test", 1 / 3)):
            counts = Counter(record.label for record in parts[part])
            assert len(counts) == len(MOVEMENTS)
            assert all(abs(count - share * clips) < 1.34 for count in counts.values())
    keys = {record.label: {r.key for r in records if r.label == record.label} for record in records}
    assert all(each == keys[0] for each in keys.values()), "a class has other subjects or cameras than another"


def test_every_subject_comes_before_every_camera_in_both_replications() -> None:
    records = [record_from_name(name) for name in recipe.clip_names(180)]
    seen = {(record.subject, record.camera, record.replication) for record in records}
    assert seen == set(itertools.product(range(1, 31), (1, 2, 3), (1, 2)))


def test_more_clips_keep_the_names_of_fewer_and_seeds_differ() -> None:
    assert recipe.clip_names(40)[: 7 * len(MOVEMENTS)] == recipe.clip_names(7)
    assert recipe.clip_names(7, seed=1) != recipe.clip_names(7, seed=2)


def test_bad_requests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="clips_per_class"):
        recipe.clip_names(0)
    for name in ("S001C001P001R001A099", "S001C004P001R001A001", "S001C001P001R001"):
        with pytest.raises(DataError, match=name):
            recipe.write_clip(tmp_path, name, seed=0)


def test_manifest_names_the_movements() -> None:
    assert class_names("synthetic") == tuple(MOVEMENTS)


# --- what a clip is keyed by -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("forward", "backward"), REVERSED)
def test_pairs_are_the_same_clip_read_backwards(forward: int, backward: int) -> None:
    one, other = (scene(f"{KEY}A{action:03d}", seed=3) for action in (forward, backward))
    assert np.array_equal(one.joints, other.joints[:, ::-1])
    assert np.array_equal(one.lost, other.lost[:, ::-1])
    assert np.array_equal(one.doubtful, other.doubtful[:, ::-1])
    assert not np.allclose(one.joints, one.joints[:, ::-1], atol=0.1), "a pair that is its own reverse"
    for mine, its in zip(layers_of(one), layers_of(other), strict=True):  # all that moves
        assert np.array_equal(mine.top, its.top[::-1])
        assert np.array_equal(mine.left, its.left[::-1])
        assert np.array_equal(mine.keep, its.keep[::-1])
        assert np.array_equal(mine.light, its.light[::-1])
        assert mine.colour == its.colour
    assert _still(one) == _still(other)


def _still(clip: Scene) -> str:
    """All that stands still in a clip, as text."""
    return repr(clip.props)


@pytest.mark.parametrize(("ball", "box"), THINGS)
def test_nothing_but_the_thing_tells_a_pair_apart(ball: int, box: int) -> None:
    one, other = (scene(f"{KEY}A{action:03d}", seed=1) for action in (ball, box))
    assert skeleton_text(one, seed=1) == skeleton_text(other, seed=1)
    assert _still(one).replace("kind='ball'", "kind='box'") == _still(other) != _still(one)
    for mine, its in zip(layers_of(one), layers_of(other), strict=True):
        assert np.array_equal(mine.keep, its.keep)
        assert np.array_equal(mine.light, its.light)


@pytest.mark.parametrize(("ball", "box"), THINGS)
def test_a_thing_lies_in_the_crop_and_away_from_every_joint(ball: int, box: int) -> None:
    """Out of reach of the joints' tokens: in layer 1, one sees 11 pixels each way, and a Gaussian of a cell or two."""
    shares = []
    for key in [name[:16] for name in recipe.clip_names(24, seed=1)[:: 2 * len(MOVEMENTS)]]:
        clips = (scene(f"{key}A{action:03d}", seed=1) for action in (ball, box))
        picture, another = (next(frames(clip, seed=1))[:HEIGHT].astype(int) for clip in clips)
        rows, columns = np.nonzero(np.abs(picture - another) > 8)
        joints = recipe.painted_joints(f"{key}A{ball:03d}", seed=1)
        geometry = geometry_of("person", joints, HEIGHT, WIDTH)
        thing, body = (
            geometry.joints(points).reshape(-1, 2) - (KEPT_PIXELS - CROP) / 2
            for points in (np.stack([columns, rows], axis=-1), joints)
        )
        assert cKDTree(body).query(thing)[0].min() > 12
        shares.append(((thing >= 0) & (thing < CROP)).all(axis=1).mean())
    assert min(shares) > 0.4
    assert np.mean(shares) > 0.8


def test_only_the_movement_depends_on_the_action() -> None:
    scenes = [scene(f"{KEY}A{action:03d}", seed=0) for action in range(1, len(MOVEMENTS) + 1)]
    first = scenes[0]
    for other in scenes[1:]:
        assert np.array_equal(first.camera.axes, other.camera.axes)
        assert np.array_equal(first.light, other.light)
        assert first.people[0].look == other.people[0].look
        assert first.people[0].body == other.people[0].body
        assert first.joints.shape[1] == other.joints.shape[1]
        assert repr(first.screen.colours) == repr(other.screen.colours)
        assert first.props.colours == other.props.colours
        assert (first.props.size, first.props.turn) == (other.props.size, other.props.turn)
        if len(other.people) == 1:
            assert np.array_equal(first.lost, other.lost) or np.array_equal(first.lost, other.lost[:, ::-1])


def test_the_screen_changes_whatever_people_do_and_no_two_clips_see_the_same() -> None:
    one, same, other = (
        scene(f"S001C001P{subject:03d}R001A{action:03d}", seed=0) for subject, action in ((3, 1), (3, 9), (4, 1))
    )
    assert np.array_equal(one.screen.brightness, same.screen.brightness)
    assert one.screen.brightness.min() >= 0
    assert np.ptp(one.screen.brightness, axis=0).min() > 0.2
    frames_of_both = slice(min(len(one.screen.brightness), len(other.screen.brightness)))
    assert np.abs(one.screen.brightness[frames_of_both] - other.screen.brightness[frames_of_both]).mean() > 0.1


def test_three_cameras_see_one_performance() -> None:
    one, other = scene("S001C001P003R002A009", seed=0), scene("S001C003P003R002A009", seed=0)
    assert np.array_equal(one.joints, other.joints)
    assert not np.allclose(one.camera.position, other.camera.position, atol=0.5)


def test_seed_subject_and_replication_change_the_clip() -> None:
    clips = [("S001C001P001R001A007", 0), ("S001C001P001R001A007", 1)]
    clips += [("S001C001P002R001A007", 0), ("S001C001P001R002A007", 0)]
    begins = [recipe.painted_joints(name, seed=seed)[0, 0] for name, seed in clips]
    assert all(not np.allclose(one, other, atol=0.5) for one, other in itertools.combinations(begins, 2))


def test_tempo_makes_durations_differ() -> None:
    lengths = [scene(f"S001C001P{subject:03d}R001A007", seed=0).joints.shape[1] for subject in range(1, 13)]
    assert min(lengths) >= SHORTEST
    assert max(lengths) <= LONGEST
    assert len(set(lengths)) >= 5


# --- bodies ----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1.5, 1.5), min_size=9, max_size=9), st.floats(0.2, 0.5), st.floats(0.2, 0.5))
def test_two_bones_keep_their_lengths(numbers: list[float], first: float, second: float) -> None:
    root, target, pole = np.array(numbers).reshape(3, 1, 3)
    assume(np.linalg.norm(np.cross(target - root, pole)) > 0.05)  # else no direction to reach for, or to bend in
    middle, end = two_bones(root, target, first, second, pole)
    assert np.linalg.norm(end - middle) == pytest.approx(second, abs=2e-6)
    assert np.linalg.norm(middle - root) == pytest.approx(first, abs=2e-6)
    distance = float(np.linalg.norm(target - root))
    if abs(first - second) + 0.02 < distance < 0.995 * (first + second):
        assert np.allclose(end, target)


@pytest.mark.parametrize("action", range(1, len(MOVEMENTS) + 1))
def test_bones_are_rigid_and_feet_stay_above_the_floor(action: int) -> None:
    joints = scene(f"{KEY}A{action:03d}", seed=0).joints
    bones = [(0, 1), (4, 5), (5, 6), (6, 7), (8, 9), (9, 10), (12, 13), (13, 14), (14, 15), (16, 17), (17, 18), (20, 2)]
    for start, end in bones:
        lengths = np.linalg.norm(joints[:, :, end] - joints[:, :, start], axis=-1)
        assert np.ptp(lengths, axis=1).max() < 1e-6
    assert joints[..., 1].min() > 0.02
    speed = np.linalg.norm(np.diff(joints, axis=1), axis=-1).max() * 30
    assert speed < 12.0, "metres a second: nobody jumps from frame to frame"


def test_pictures_are_mirrored_as_in_ntu() -> None:
    joints = recipe.painted_joints("S001C001P003R001A001", seed=0)  # faces the camera
    assert (joints[0, :, SHOULDERS[0], 0] < joints[0, :, SHOULDERS[1], 0]).all()


@pytest.mark.parametrize("action", range(1, len(MOVEMENTS) + 1))
@pytest.mark.parametrize("number", [1, 2, 3])
def test_everybody_stays_in_the_picture(action: int, number: int) -> None:
    joints = recipe.painted_joints(f"S001C{number:03d}P004R001A{action:03d}", seed=0)
    assert joints.min() > 0
    assert joints[..., 0].max() < WIDTH - 1
    assert joints[..., 1].max() < HEIGHT - 1


# --- painting --------------------------------------------------------------------------------------------------------


def _cover(layer: PaintLayer, frame: int = 0) -> np.ndarray:
    """How much of each pixel of a picture of SIZE the layer covers."""
    picture = np.zeros(SIZE)
    picture[layer.window(frame)] = 1.0 - layer.keep[frame]
    return picture


def _centroid(cover: np.ndarray) -> tuple[float, float]:
    rows, columns = np.indices(cover.shape)
    return float((cover * columns).sum() / cover.sum()), float((cover * rows).sum() / cover.sum())


def _inside_capsule(x: float, y: float, a: np.ndarray, b: np.ndarray, ra: float, rb: float) -> bool:
    """The loop oracle of a stroke: is the point within the radius of the nearest point of the axis?"""
    axis = b - a
    length = math.hypot(*axis)
    along = min(max(((x - a[0]) * axis[0] + (y - a[1]) * axis[1]) / max(length, 1e-9) ** 2, 0.0), 1.0)
    near = a + along * axis
    return math.hypot(x - near[0], y - near[1]) <= ra + (rb - ra) * along


coordinate = st.floats(20.0, 70.0)


@settings(deadline=None, max_examples=12)
@given(coordinate, coordinate, coordinate, coordinate, st.floats(1.5, 9.0), st.floats(1.5, 9.0))
def test_strokes_cover_what_a_loop_says(ax: float, ay: float, bx: float, by: float, ra: float, rb: float) -> None:
    a, b = np.array([ax, ay]), np.array([bx, by])
    if abs(ra - rb) > 0.2 * np.linalg.norm(b - a):  # a cone so blunt that distance along its flank is no distance
        rb = ra
    layer = stroke(np.array([[a, b]]), np.array([[ra, rb]]), np.zeros(1), (255, 255, 255), size=SIZE)
    cover = _cover(layer)
    fine = (np.arange(4) + 0.5) / 4 - 0.5
    for row, column in itertools.product(range(8, 84, 5), range(8, 84, 5)):
        part = [_inside_capsule(column + dx, row + dy, a, b, ra, rb) for dx in fine for dy in fine]
        assert cover[row, column] == pytest.approx(np.mean(part), abs=0.22)


@settings(deadline=None, max_examples=20)
@given(coordinate, coordinate, coordinate, coordinate, st.floats(2.0, 9.0))
def test_strokes_lie_where_they_should_to_a_fraction_of_a_pixel(
    ax: float, ay: float, bx: float, by: float, radius: float
) -> None:
    layer = stroke(np.array([[[ax, ay], [bx, by]]]), np.full((1, 2), radius), np.zeros(1), (9, 9, 9), size=SIZE)
    cover = _cover(layer)
    length = math.hypot(bx - ax, by - ay)
    # a pixel's cover is linear in the distance: exact along upright edges, too much around sharp curves and along
    # diagonals, where nearly 45 degrees moves the middle of a long thin stroke the most
    assert _centroid(cover) == pytest.approx(((ax + bx) / 2, (ay + by) / 2), abs=0.25)
    assert cover.sum() == pytest.approx(math.pi * radius**2 + 2 * radius * length, rel=0.03, abs=1.1)


def test_facets_cover_their_area_whatever_their_sense() -> None:
    points = np.array([[20.3, 15.2], [60.7, 22.1], [55.5, 70.4], [18.0, 55.5]])
    x, y = points.T
    area = 0.5 * abs(sum(x[i] * y[(i + 1) % 4] - x[(i + 1) % 4] * y[i] for i in range(4)))
    for polygon in (points, points[::-1]):
        layer = facet(polygon[None], np.zeros(1), (9, 9, 9), size=SIZE, shown=np.array([True]))
        assert _cover(layer).sum() == pytest.approx(area, rel=2e-3)
    hidden = facet(points[None], np.zeros(1), (9, 9, 9), size=SIZE, shown=np.array([False]))
    assert _cover(hidden).sum() == 0


def test_shapes_partly_or_wholly_outside_are_cut_off() -> None:
    ends = np.array([[[-30.0, 20.0], [4.0, 20.0]], [[500.0, 500.0], [600.0, 500.0]]])
    layer = stroke(ends, np.full((2, 2), 3.0), np.zeros(2), (9, 9, 9), size=SIZE)
    assert _cover(layer, 0).sum() == pytest.approx(4.5 * 6 + math.pi * 4.5, rel=0.05)  # columns -0.5 to 4, and an end
    assert _cover(layer, 1).sum() == 0


def test_a_shadow_is_darkest_in_its_middle() -> None:
    layer = shadow(np.array([[50.0, 40.0]]), np.array([[8.0, 4.0]]), np.array([0.4]), size=SIZE)
    cover = _cover(layer)
    assert cover.max() == pytest.approx(0.4)
    assert np.unravel_index(cover.argmax(), cover.shape) == (40, 50)
    assert cover[40, 58] == pytest.approx(0.4 * math.exp(-0.5), rel=1e-5)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_ball_at_a_joint_is_painted_at_the_joint(number: int) -> None:
    clip = scene(f"S001C{number:03d}P002R001A010", seed=0)
    told = recipe.painted_joints(f"S001C{number:03d}P002R001A010", seed=0)
    for joint in (3, 7, 11, 15, 19):
        pencil = Pencil(clip.camera)
        pencil.ball(clip.joints[0, :, joint], 0.05, (200, 150, 120))
        for frame in range(0, told.shape[1], 7):
            cover = np.zeros((HEIGHT, WIDTH))
            cover[pencil.layers[0].window(frame)] = 1.0 - pencil.layers[0].keep[frame]
            assert _centroid(cover) == pytest.approx(tuple(told[0, frame, joint]), abs=0.03)


def test_projection_equals_a_loop() -> None:
    view = camera(1, 2, seed=0)
    point = np.array([0.3, 1.1, -0.4])
    seen = [sum(view.axes[row, i] * (point[i] - view.position[i]) for i in range(3)) for row in range(3)]
    expected = [319.5 + FOCAL * seen[0] / seen[2], 179.5 - FOCAL * seen[1] / seen[2]]
    assert colour_pixels(view.see(point)) == pytest.approx(expected)
    assert view.axes @ view.axes.T == pytest.approx(np.eye(3))
    assert np.linalg.det(view.axes) == pytest.approx(1.0)


# --- files -----------------------------------------------------------------------------------------------------------


def _parse(path: Path) -> list[dict[int, list[list[str]]]]:
    """A slow reader of .skeleton text: for each frame, body ID -> 25 lists of 12 fields."""
    lines = iter(path.read_text(encoding="ascii").splitlines())
    found = []
    for _ in range(int(next(lines))):
        bodies = {}
        for _ in range(int(next(lines))):
            head = next(lines).split()
            assert len(head) == 10
            assert int(next(lines)) == 25
            bodies[int(head[0])] = [next(lines).split() for _ in range(25)]
        found.append(bodies)
    assert next(lines, None) is None
    return found


def test_videos_are_as_ntus_are(raw: Path) -> None:
    for path in sorted((raw / "videos").iterdir()):
        name = path.name.removesuffix("_rgb.avi")
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            context = stream.codec_context
            assert (context.name, context.codec_tag, container.format.name) == ("mpeg4", "DIVX", "avi")
            assert (stream.width, stream.height, stream.average_rate) == (WIDTH, HEIGHT, 30)
            count = sum(1 for _ in container.decode(stream))
        assert count == recipe.painted_joints(name, seed=0).shape[1] == len(_parse(_skeleton(raw, name)))


def _skeleton(root: Path, name: str) -> Path:
    return root / "skeletons" / f"{name}.skeleton"


def test_decoded_frames_show_what_was_painted(raw: Path) -> None:
    name = f"{KEY}A001"
    painted = list(frames(scene(name, seed=0), seed=0))
    with av.open(str(raw / "videos" / f"{name}_rgb.avi")) as container:
        decoded = [frame.to_ndarray(format="yuv420p") for frame in container.decode(video=0)]
    moving = range(len(painted) // 4, 3 * len(painted) // 4, 4)
    for index in moving:
        errors = [np.abs(painted[index].astype(int) - its)[100:300, 200:440].mean() for its in decoded]
        assert errors[index] < 1.5
        assert int(np.argmin(errors)) == index, "it looks more like another frame"


def test_skeletons_hold_the_painted_joints(raw: Path) -> None:
    for path in sorted((raw / "skeletons").iterdir()):
        clip, told = scene(path.stem, seed=0), recipe.painted_joints(path.stem, seed=0)
        text = _parse(path)
        ids = sorted({body for frame in text for body in frame})
        assert len(ids) == len(told)
        assert all(len(str(body)) == 17 and body > 2**53 for body in ids)
        assert len({float(body) for body in ids}) == 1, "neighbouring IDs are one float64"
        for frame, (bodies, lost) in enumerate(zip(text, clip.lost.T, strict=True)):
            assert list(bodies) == [body for body, gone in zip(ids, lost, strict=True) if not gone]
            for body, fields in bodies.items():
                pixels = np.array([[float(field) for field in joint[5:7]] for joint in fields])
                places = (told[ids.index(body), frame] + 0.5) * 3 - 0.5  # in 1920 x 1080, as NTU's are
                assert np.abs(pixels - places).max() < 1e-3
                seen = np.array([[float(field) for field in joint[:3]] for joint in fields])
                assert np.abs(ntu_pixels(seen) - pixels).max() < 3e-2
                assert {joint[11] for joint in fields} <= {"1", "2"}
                assert all(len(joint) == 12 for joint in fields)


def test_the_projects_own_reader_agrees(raw: Path) -> None:
    for path in sorted((raw / "skeletons").iterdir()):
        skeleton, told, clip = (
            read_skeleton(path, size=(HEIGHT, WIDTH)),
            recipe.painted_joints(path.stem, seed=0),
            scene(path.stem, seed=0),
        )
        assert np.array_equal(skeleton.present, ~clip.lost)
        assert np.abs(skeleton.joints[skeleton.present] - told[skeleton.present]).max() < 1e-2


def test_some_clips_lose_the_body_and_some_joints_are_inferred(raw: Path) -> None:
    names = recipe.clip_names(24)[::7]
    share = np.mean([scene(name, seed=0).lost.all(axis=0).any() for name in names])
    assert 0.05 < share < 0.5
    states = Counter(
        joint[11] for path in (raw / "skeletons").iterdir() for f in _parse(path) for b in f.values() for joint in b
    )
    assert 0.01 < states["1"] / (states["1"] + states["2"]) < 0.4


def test_bytes_are_the_same_every_time_and_whole_files_are_left_alone(raw: Path, tmp_path: Path) -> None:
    name = f"{KEY}A001"
    recipe.write_clip(tmp_path, name, seed=0)
    files = [tmp_path / "videos" / f"{name}_rgb.avi", _skeleton(tmp_path, name)]
    for mine in files:
        assert mine.read_bytes() == (raw / mine.parent.name / mine.name).read_bytes()
        os.utime(mine, ns=(1, 1))
    recipe.write_clip(tmp_path, name, seed=0)
    assert [path.stat().st_mtime_ns for path in files] == [1, 1]
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == sorted(path.name for path in files)


@pytest.mark.parametrize("part", ["videos", "skeletons"])
@pytest.mark.parametrize("kept", [0, 11, 3001])
def test_half_files_are_written_again(raw: Path, tmp_path: Path, part: str, kept: int) -> None:
    name = f"{KEY}A001"
    whole = {path: (raw / path).read_bytes() for path in (f"videos/{name}_rgb.avi", f"skeletons/{name}.skeleton")}
    for path, data in whole.items():
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_bytes(data[:kept] if path.startswith(part) else data)
    recipe.write_clip(tmp_path, name, seed=0)
    assert {path: (tmp_path / path).read_bytes() for path in whole} == whole


def test_another_seed_in_the_same_folder_is_refused(raw: Path) -> None:
    with pytest.raises(DataError, match=r"seed 0.*seed 1"):
        recipe.write_clip(raw, f"{KEY}A001", seed=1)


def test_listing_is_ntus(raw: Path) -> None:
    found = recipe.listing(raw)
    assert (found.dataset, found.topology) == ("synthetic", "ntu25")
    assert [record.clip_id for record in found.records] == sorted([f"{KEY}A001", f"{KEY}A014", _lost_clip()])
    assert all(record.excluded == "" for record in found.records)


def test_frames_and_joints_are_drawn_from_one_scene() -> None:
    """An arm that moves is where pixels change: nothing else does, but for the grain; the screen is stopped."""
    name = f"{KEY}A007"
    clip = scene(name, seed=0)
    clip = replace(clip, screen=replace(clip.screen, brightness=np.ones_like(clip.screen.brightness)))
    told = recipe.painted_joints(name, seed=0)
    pictures = np.stack([picture[:HEIGHT].astype(float) for picture in frames(clip, seed=0)])
    moving = pictures.std(axis=0) > 4.0
    rows, columns = np.nonzero(moving)
    reach = told[0].reshape(-1, 2)
    assert columns.min() > reach[:, 0].min() - 12
    assert columns.max() < reach[:, 0].max() + 12
    assert rows.min() > reach[:, 1].min() - 20  # the crown is some 0.15 m above the head's joint
    hand = np.rint(told[0, :, max((7, 11), key=lambda joint: np.ptp(told[0, :, joint], axis=0).sum())]).astype(int)
    assert moving[hand[:, 1], hand[:, 0]].mean() > 0.8
