"""`pipeline.child.wire`: what is sent arrives as it was, errors too; what is no message is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline import errors
from pipeline.child import wire
from pipeline.decode.read import VideoInfo
from pipeline.errors import DecodeError, StarError
from pipeline.skeletons.skeleton import make_skeleton

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
ARRAYS = hnp.arrays(
    st.sampled_from(["u1", "i8", "f4", "f8", "?", ">i4"]), hnp.array_shapes(min_dims=0, min_side=0, max_side=5)
)
VALUES = st.recursive(
    PLAIN | ARRAYS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.sampled_from(["a", "array", "tuple", "dict", "Skeleton", ""]), inner, max_size=3)
    ),
    max_leaves=8,
)


def sent(value: Any) -> Any:
    """The value as the other side gets it."""
    message = b"".join(wire.pack(value))
    header, payload = wire.LENGTHS.unpack(message[: wire.LENGTHS.size])
    assert len(message) == wire.LENGTHS.size + header + payload
    rest = message[wire.LENGTHS.size :]
    return wire.unpack(rest[:header], np.frombuffer(rest[header:], np.uint8))


def same(one: Any, other: Any) -> bool:
    """Equal in values, types, shapes and dtypes; NaN is NaN."""
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    return type(one) is type(other) and one == other


@settings(deadline=None, max_examples=200)
@given(VALUES)
def test_values_arrive_as_they_were(value: Any) -> None:
    assert same(sent(value), value)


def test_an_array_in_any_order_arrives_with_its_values() -> None:
    array = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    for turned in (array.swapaxes(0, 2), array[::-1, ::2], np.asfortranarray(array), array.astype(">f4")):
        np.testing.assert_array_equal(sent({"it": (7, turned)})["it"][1], turned)


def test_an_array_in_c_order_is_not_copied() -> None:
    array = np.arange(1000)
    *_, sent_bytes = wire.pack(array)
    assert np.shares_memory(np.frombuffer(sent_bytes, np.uint8), array)


def test_dataclasses_paths_and_numbers_of_numpy() -> None:
    assert sent(VideoInfo(3, 4, 5)) == VideoInfo(3, 4, 5)
    assert sent([Path("a/ü\udcff"), np.int64(7), np.float32(0.5), np.bool_(True)]) == ["a/ü\udcff", 7, 0.5, True]
    skeleton = make_skeleton(np.ones((2, 3, 4, 2), np.float32), np.ones((2, 3, 4), np.float32), np.ones((2, 3), bool))
    received = sent(skeleton)
    assert type(received) is type(skeleton)
    for name in ("joints", "xyz", "present", "body_ids", "scores"):
        np.testing.assert_array_equal(getattr(received, name), getattr(skeleton, name))


@pytest.mark.parametrize("value", [np.array([object()]), np.array(["text"]), {1, 2}, b"bytes", 1j, Exception()])
def test_what_has_no_form_is_a_fault_of_ours(value: object) -> None:
    with pytest.raises(AssertionError, match="cannot be sent"):
        wire.pack(value)


KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, StarError)]


@pytest.mark.parametrize("kind", KINDS)
def test_errors_arrive_with_all_their_parts(kind: type[StarError]) -> None:
    for facts in ({}, {"got": 3, "expected": (1, 2), "remedy": "do this"}, {"got": Path("x"), "expected": 0.5}):
        error = kind("a\udcff.avi", "is wrong", **facts)
        arrived = wire.error_of(sent(wire.parts_of(error)))
        assert type(arrived) is kind
        assert str(arrived) == str(error)
        assert (arrived.item, arrived.problem, arrived.remedy) == (error.item, error.problem, error.remedy)
    assert len(KINDS) > 6


def test_the_number_of_frames_arrives_as_a_number() -> None:
    arrived = wire.error_of(sent(wire.parts_of(DecodeError("v", "has too few frames", got=3, frames=3))))
    assert isinstance(arrived, DecodeError)
    assert arrived.frames == 3


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"array": [0, "u1", [9]]}',
        b'{"array": [0, "u1", [-1]]}',
        b'{"array": [-4, "u1", [2]]}',
        b'{"array": [0, "|O", [0]]}',
        b'{"array": [0, "u1"]}',
        b'{"array": 3}',
        b'{"mystery": {}}',
        b'{"mystery": []}',
        b'{"VideoInfo": {"frames": 3}}',
        b'{"a": 1, "b": 2}',
        b"{}",
    ],
)
def test_what_is_no_message_is_told(header: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of which kind, nobody looks
        wire.unpack(header, np.zeros(8, np.uint8))


@pytest.mark.parametrize(
    ("value", "hint", "right"),
    [
        (3, int, True), (True, int, False), (3, int | None, True), (None, int | None, True), ("3", int | None, False),
        ((1, "a"), tuple[int, str], True), ((1,), tuple[int, str], False), ([1, "a"], tuple[int, str], False),
        ({"a": 1, "b": "c"}, dict[str, int | str], True), ({"a": 1.5}, dict[str, int | str], False),
        ({"a": [1]}, dict[str, Any], True), ([], dict[str, Any], False), (np.zeros(3), np.ndarray, True),
        (np.zeros(3), npt.NDArray[np.float32], True), (0.0, np.ndarray, False), (object(), Any, True),
        ((VideoInfo(1, 2, 3), {}), tuple[VideoInfo, dict[str, Any]], True), ({}, VideoInfo, False),
    ],
)  # fmt: skip
def test_types_are_those_of_annotations(value: Any, hint: Any, right: bool) -> None:
    assert wire.is_of(value, hint) is right
