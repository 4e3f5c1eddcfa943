"""The boundary to files of strangers, and the checker of their JSON."""

from __future__ import annotations

import json
import os
import pickle
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.artifacts.boundary import BoundaryError, confined, open_regular, open_to_append, read_file, refuse_links
from pipeline.artifacts.files import append_line, sweep_temporaries, write_atomic
from pipeline.artifacts.schema import build, check, check_columns, each, names, parse_json, sha256_hex, whole
from pipeline.errors import ConfigError, CorruptError

ROOT = Path("/data/videos")


@given(st.lists(st.sampled_from(["a", "b.mp4", "..", ".", "", "/", "é", "~", "..."]), max_size=5).map("/".join))
def test_a_confined_path_is_the_path_and_stays_below(text: str) -> None:
    plain = os.path.normpath(f"{ROOT}/{text}")
    if text in ("", ".") or text.startswith("/") or plain != f"{ROOT}/{text}":
        with pytest.raises(BoundaryError, match="leads out of its folder"):
            confined(ROOT, text)
    else:
        path = confined(ROOT, text)
        assert str(path) == f"{ROOT}/{text}" == os.path.normpath(path)
        assert path.is_relative_to(ROOT)
        assert path != ROOT


@pytest.mark.parametrize("text", ["../x", "a/../../x", "/etc/passwd", "", ".", "..", "a/./b", "a//b", "a/", "a\0b"])
def test_what_leads_out_is_refused(text: str) -> None:
    with pytest.raises(BoundaryError, match="leads out of its folder"):
        confined(ROOT, text)


def test_links_are_followed_inside_the_root_alone(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.write_bytes(b"theirs")
    (root / "a").write_bytes(b"ours")
    (root / "inside").symlink_to("a")
    (root / "out").symlink_to(outside)
    (root / "around").symlink_to("../root/a")
    (tmp_path / "named").symlink_to("root")  # the root itself may be a link
    for name in ("a", "inside", "around"):
        assert (
            read_file(root / name, root=root)
            == read_file(tmp_path / "named" / name, root=tmp_path / "named")
            == b"ours"
        )
    with pytest.raises(BoundaryError, match="is a link that leads out of its folder"):
        read_file(root / "out", root=root)
    assert read_file(root / "out") == b"theirs"  # of a file that the user named


def test_a_root_that_was_renamed_while_it_was_open_is_still_itself(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one/a").write_bytes(b"ours")
    before = os.path.realpath(tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "two")
    (tmp_path / "one").symlink_to("two")
    os.close(open_regular(tmp_path / "one/a", root=before))


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "pipe", tmp_path / "folder", Path("/dev/zero")):
        with pytest.raises(BoundaryError, match="is no regular file"):
            read_file(path)
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 1 << 40)
    with pytest.raises(BoundaryError, match=r"is too large .got 1099511627776 bytes, expected at most 100"):
        read_file(tmp_path / "sparse", most=100)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
    try:
        for _ in range(100):  # what is refused is closed again
            with pytest.raises(BoundaryError):
                open_regular(tmp_path / "folder")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_nothing_is_written_through_links(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "file").write_bytes(b"theirs")
    (root / "folder").symlink_to(outside)
    (root / "link").symlink_to(outside / "file")
    os.link(outside / "file", root / "same")
    os.mkfifo(root / "pipe")
    for name in ("link", "same", "pipe", "folder/new"):
        with pytest.raises(BoundaryError):
            open_to_append(root, name)
        with pytest.raises(BoundaryError):
            append_line(root, name, b"ours")
    with pytest.raises(BoundaryError, match="nothing is written through links"):
        write_atomic(root / "folder/file", b"ours", root=root)
    with pytest.raises(BoundaryError):
        refuse_links(root, root / "folder/file")
    write_atomic(root / "link", b"ours", root=root)  # the link is replaced
    assert not (root / "link").is_symlink()
    (outside / ".x.part-1").write_bytes(b"theirs")
    sweep_temporaries(root)
    assert sorted(path.name for path in outside.iterdir()) == [".x.part-1", "file"]
    assert (outside / "file").read_bytes() == b"theirs"
    append_line(root, "log/new.jsonl", b"1")
    append_line(root, "log/new.jsonl", b"2")
    assert (root / "log/new.jsonl").read_bytes() == b"1\n2\n"


def test_the_error_can_cross_processes() -> None:
    with pytest.raises(BoundaryError) as refused:
        confined(ROOT, "..")
    assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(plain)
def test_plain_json_comes_back(value: Any) -> None:
    assert parse_json(json.dumps(value), "x") == value


@pytest.mark.parametrize(
    "text", ["[" * 99 + "]" * 99, "NaN", "1e999", '"\\udc00"', '{"\\ud800": 1}', "9" * 5000, "", "{"]
)
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(CorruptError):
        parse_json(text, "x")


@pytest.mark.parametrize(
    ("value", "schema", "place"),
    [
        ([], {"a": int}, "a wrong value"), ({}, {"a": int}, "has no a"), ({"a": True}, {"a": int}, "a wrong a"),
        ({"a": 1.0}, {"a": int}, "a wrong a"), ({"a": {"b": [1, "2"]}}, {"a": {"b": [int]}}, r"a wrong a\.b\[1\]"),
        ({"a": "z"}, {"a": ("x", "y")}, "a wrong a"), ({"a": [1]}, {"a": ("x", "y")}, "a wrong a"),
        ({"a": 5}, {"a": whole(6, 7)}, "a wrong a"), ({"a": "5"}, {"a": whole()}, "a wrong a"),
        ({"a": []}, {"a": names}, "a wrong a"), ({"a": [1]}, {"a": names}, "a wrong a"),
        ({"a": "0" * 63}, {"a": sha256_hex}, "a wrong a"), ({"a": {"b": 1}}, {"a": each(str)}, "a wrong a"),
    ],
)  # fmt: skip
def test_the_place_of_a_wrong_value_is_named(value: Any, schema: Any, place: str) -> None:
    with pytest.raises(CorruptError, match=f"x: has {place}" if "has" not in place else f"x: {place}"):
        check(value, schema, "x")


def test_right_values_pass() -> None:
    check({"a": 1, "more": 2}, {"a": int}, "x")
    check({"a": [1, 2.5], "b": {"c": "x"}, "d": 7}, {"a": [float], "b": {"c": ("x",)}, "d": whole(7, 7)}, "x")
    check({"a": {"b": "c"}, "n": ["x"], "s": "f" * 64}, {"a": each(str), "n": names, "s": sha256_hex}, "x")


@dataclass(frozen=True, kw_only=True)
class Options:
    name: str
    share: float = 0.5
    count: int | None = None
    kinds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.share > 1:
            raise ConfigError("share", "is too large")


def test_options_are_built_from_their_own_names_and_types() -> None:
    assert build(Options, {"name": "x", "share": 1, "kinds": ["a"]}, "f") == Options(name="x", share=1.0, kinds=("a",))
    for values in (
        {},
        {"name": 1},
        {"name": "x", "more": 1},
        {"name": "x", "count": "1"},
        {"name": "x", "kinds": 3},
        [],
    ):
        with pytest.raises(CorruptError, match="f: has"):
            build(Options, values, "f")
    with pytest.raises(ConfigError):
        build(Options, {"name": "x", "share": 2.0}, "f")


def test_columns_are_checked_by_type() -> None:
    kinds = {"id": str, "label": int}
    check_columns([["a", 1], ["b", 2]], kinds, "x")
    check_columns([], kinds, "x")
    for rows in ([["a"]], [["a", 1, 2]], [["a", "1"]], [["a", True]], ["ab"], [None]):
        with pytest.raises(CorruptError, match="x: has a"):
            check_columns(rows, kinds, "x")
