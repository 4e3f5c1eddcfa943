"""NTU skeleton files: every joint where its line says, or an error that names the line."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from oracles.skeletons import MadeSkeleton, expected_arrays, make_skeleton, odd_number

from pipeline.errors import SkeletonError
from pipeline.skeletons.ntu import read_lines, read_ntu_skeleton, read_table
from pipeline.skeletons.skeleton import Skeleton


def assert_holds(skeleton: Skeleton, expected: dict[str, np.ndarray]) -> None:
    for name, array in expected.items():
        got = getattr(skeleton, name)
        assert got.dtype == array.dtype, name
        np.testing.assert_array_equal(got, array, err_msg=name)


def read_bytes(tmp_path: Path, data: bytes) -> Skeleton:
    path = tmp_path / "made.skeleton"
    path.write_bytes(data)
    return read_ntu_skeleton(path)


def check_case(tmp_path: Path, rng: np.random.Generator) -> None:
    """One made-up file: read whole in some spelling, then cut off after some line."""
    made = make_skeleton(rng)
    spelling = {"newline": str(rng.choice(["\n", "\r\n"])), "end": str(rng.choice(["\n", "", "\n\n", "\n \n"]))}
    data = made.data(**spelling)
    if rng.random() < 0.1:
        data = data.replace(b" ", b"  ")
    assert_holds(read_bytes(tmp_path, data), expected_arrays(made))
    kept = int(rng.integers(0, len(made.lines)))
    with pytest.raises(SkeletonError, match=rf"line {kept + 1} is missing"):
        read_bytes(tmp_path, "\n".join(made.lines[:kept]).encode())


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**63))
def test_made_up_files_are_read_joint_for_joint(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    check_case(tmp_path_factory.getbasetemp(), np.random.default_rng(seed))


@pytest.mark.soak
def test_no_joint_is_misplaced_in_many_made_up_files(tmp_path: Path) -> None:
    cases, seed = 2000 * int(os.environ.get("N", "50")), int(os.environ.get("SEED", "0"))
    for case in range(cases):
        check_case(tmp_path, np.random.default_rng([seed, case]))
    print(f"{cases} made-up files, 0 misplaced joints")


def test_every_cut_is_noticed_and_its_line_named(tmp_path: Path) -> None:
    made = MadeSkeleton(0)
    seed = 0
    while not 60 < len(made.lines) < 120:
        made = make_skeleton(np.random.default_rng(seed))
        seed += 1
    data = made.data()
    for kept in range(len(made.lines)):
        cut = "\n".join(made.lines[:kept]) + "\n" * (kept > 0)
        with pytest.raises(SkeletonError, match=rf"line {kept + 1} is missing"):
            read_bytes(tmp_path, cut.encode())
        lost = made.lines[:kept] + made.lines[kept + 1 :]
        with pytest.raises(SkeletonError, match=r"line \d+"):
            read_bytes(tmp_path, ("\n".join(lost) + "\n").encode())
    assert_holds(read_bytes(tmp_path, data), expected_arrays(made))


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**63), texts=st.lists(st.floats(width=32).map(lambda x: f"{x:.7g}"), max_size=60))
def test_the_bulk_reader_gives_the_doubles_of_float(seed: int, texts: list[str]) -> None:
    rng = np.random.default_rng(seed)
    texts = [*texts, *(odd_number(rng) for _ in range(40)), *(f"{x:.7g}" for x in rng.normal(0, 0.1, 150))]
    fields = [*rng.permutation(texts), *["1"] * 300][:300]
    rows = [" ".join([*fields[12 * k : 12 * k + 11], "2"]) for k in range(25)]
    table = read_table("\n".join(["1", "1", "9 0 1 1 1 1 0 0 0 2", "25", *rows, ""]).encode())
    assert table is not None
    expected = [[float(row.split()[column]) for column in (0, 1, 2, 5, 6)] for row in rows]
    np.testing.assert_array_equal(table.places[0], expected)
    np.testing.assert_array_equal(np.signbit(table.places[0]), np.signbit(expected))


REGULAR = [
    "1",
    "1",
    "72057594037931101 0 1 1 1 1 0 0.02 0.05 2",
    "25",
    *["0.1 0.2 3.5 1 2 960.5 540.25 0 0 0 0 2"] * 25,
]


@pytest.mark.parametrize(
    ("line", "text", "complaint"),
    [
        (1, "1.0", "line 1 is not a frame count"),
        (1, "-1", "line 1 is not a frame count"),
        (1, "9" * 5000, "line 1 is not a frame count"),
        (1, "2", "line 30 is missing"),
        (2, "2", "line 30 is missing"),
        (2, "one", "line 2 is not a body count"),
        (2, "0", "line 3 follows the last frame"),
        (3, "72057594037931101 0 1", "line 3 is not a body line"),
        (3, "7.2e16 0 1 1 1 1 0 0.02 0.05 2", "line 3 has no body ID"),
        (3, f"{1 << 63} 0 1 1 1 1 0 0.02 0.05 2", "line 3 has no body ID"),
        (4, "24", "line 4 is not the joint count"),
        (5, "0.1 0.2 3.5 1 2 960.5 540.25 0 0 0 0", "line 5 is not a joint line"),
        (5, "0.1 0.2 3.5 1 2 960.5 540.25 0 0 0 0 2 2", "line 5 is not a joint line"),
        (5, "0.1 0.2 3.5 1 2 9-60.5 540.25 0 0 0 0 2", "line 5 is not a joint line"),
        (5, "0.1 0.2 3.5 1 2 9.60.5 540.25 0 0 0 0 2", "line 5 is not a joint line"),
        (5, "0.1 0.2 3.5 1 2 9_60.5 540.25 0 0 0 0 2", "line 5 is not a joint line"),
        (5, "0.1 0.2 3.5 1 2 - 540.25 0 0 0 0 2", "line 5 is not a joint line"),
        (5, "0.1 0.2 3.5 1 2 . 540.25 0 0 0 0 2", "line 5 is not a joint line"),
        (5, "0.1 0.2 3.5 1 2 9\x0060.5 540.25 0 0 0 0 2", "line 5 is not a joint line"),
        (17, "", "line 17 is not a joint line"),
        (29, "0.1 0.2 3.5 1 2 960.5 540.25 0 0 0 0 2\n7", "line 30 follows the last frame"),
    ],
)
def test_a_line_of_another_form_is_named(tmp_path: Path, line: int, text: str, complaint: str) -> None:
    lines = [*REGULAR]
    lines[line - 1] = text
    with pytest.raises(SkeletonError, match=complaint):
        read_bytes(tmp_path, "\n".join(lines).encode())


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**63))
@example(seed=57)  # a field of two dots
@example(seed=386325)  # a letter above 127
def test_where_the_bulk_reader_answers_the_line_reader_agrees(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(made_once(seed % 5).data(newline=str(rng.choice(["\n", "\r\n"]))))
    for _ in range(rng.integers(1, 4)):
        place, letters = int(rng.integers(0, len(data))), b"0123456789  \n\r\t.-+,eE_n\x00\x85\xff"
        kept = int(rng.integers(0, 2))  # put in, or put in the place of a letter
        data[place : place + kept] = bytes(rng.choice([*letters], size=rng.integers(0, 3)).tolist())
    table = read_table(bytes(data))
    if table is None:
        return
    slow = read_lines("damaged", bytes(data))  # raises where it sees what the bulk reader overlooked
    for fast, exact in zip(table, slow, strict=True):
        np.testing.assert_array_equal(fast, exact)


@cache
def made_once(seed: int) -> MadeSkeleton:
    """A made-up file with at least one body."""
    rng = np.random.default_rng(seed)
    made = make_skeleton(rng, most_frames=2)
    while not made.joints:
        made = make_skeleton(rng, most_frames=2)
    return made


def test_a_body_twice_in_one_frame_is_refused(tmp_path: Path) -> None:
    lines = ["1", "2", *REGULAR[2:], *REGULAR[2:]]
    with pytest.raises(SkeletonError, match="72057594037931101 twice in frame 0"):
        read_bytes(tmp_path, "\n".join(lines).encode())


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SkeletonError, match="cannot be read"):
        read_ntu_skeleton(tmp_path / "absent.skeleton")
    with pytest.raises(SkeletonError, match="line 1 is missing"):
        read_bytes(tmp_path, b"")
    with pytest.raises(SkeletonError, match="line 1"):
        read_bytes(tmp_path, bytes(range(256)) * 10)


def test_tabs_and_doubled_spaces_are_read_by_the_slow_reader_alike(tmp_path: Path) -> None:
    usual = read_bytes(tmp_path, "\n".join(REGULAR).encode())
    for blank in ("  ", "\t", " \t "):
        data = "\n".join(line.replace(" ", blank) for line in REGULAR).encode()
        assert read_table(data) is None
        np.testing.assert_array_equal(read_bytes(tmp_path, data).joints, usual.joints)


def test_real_file_equals_an_independent_parse(test_data: Path) -> None:
    folder = test_data / "ntu" / "skeletons"
    skeleton = read_ntu_skeleton(folder / "S001C001P001R001A001.skeleton")
    assert skeleton.body_ids.tolist() == [72057594037931101]
    assert skeleton.present.all()
    reference = np.load(folder / "S001C001P001R001A001_xyz_reference_from_gardiens.npy")
    np.testing.assert_allclose(
        skeleton.xyz[0].reshape(reference.reshape(103, 25, 3).shape), reference.reshape(103, 25, 3)
    )
    np.testing.assert_array_equal(skeleton.joints[0, 0, 0], np.float32([1036.233, 519.1677]))
    copy = read_ntu_skeleton(folder / "crlf_variant" / "S001C001P001R001A001.skeleton")
    np.testing.assert_array_equal(copy.joints, skeleton.joints)


def test_real_files_are_read_alike_by_both_readers(test_data: Path) -> None:
    paths = sorted((test_data / "ntu").glob("skeletons*/**/*.skeleton"))
    regular = 0
    for path in paths:
        table = read_table(path.read_bytes())
        if table is None:
            assert path.name == "S002C001P003R001A005.skeleton"  # the one that is cut off
            continue
        regular += 1
        for fast, slow in zip(table, read_lines(path, path.read_bytes()), strict=True):
            np.testing.assert_array_equal(fast, slow)
    assert regular == len(paths) - 1 == 10


def test_real_oddities_keep_their_frames(test_data: Path) -> None:
    derived = test_data / "ntu" / "skeletons_derived"
    late = read_ntu_skeleton(derived / "S014C002P007R001A002.skeleton")
    absent = np.flatnonzero(~late.present.any(axis=0)).tolist()
    assert absent == [*range(10), 40, 41, 42]
    changed = read_ntu_skeleton(derived / "S002C001P003R001A006.skeleton")
    assert changed.present[0].tolist() == [True] * 50 + [False] * 50
    assert changed.present[1].tolist() == [False] * 50 + [True] * 50
    empty = read_ntu_skeleton(test_data / "ntu" / "skeletons" / "S001C002P006R001A008.skeleton")
    assert empty.joints.shape == (0, 71, 25, 2)
    with pytest.raises(SkeletonError, match="line 1718 is not a joint line"):
        read_ntu_skeleton(derived / "S002C001P003R001A005.skeleton")
