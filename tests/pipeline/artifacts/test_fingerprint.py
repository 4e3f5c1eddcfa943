"""Fingerprints: equal for equal descriptions, another for any other, and nothing that has no exact text form."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.artifacts.fingerprint import differences, fingerprint
from pipeline.config import PrepareOptions

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
descriptions = st.dictionaries(st.text(), values, max_size=4)


def _typed(value: object) -> object:
    """Equality as the fingerprint means it: 1, 1.0 and True differ, and so do 0.0 and -0.0."""
    if isinstance(value, dict):
        return ("dict", sorted((key, repr(_typed(item))) for key, item in value.items()))
    if isinstance(value, list):
        return ("list", [_typed(item) for item in value])
    return (type(value).__name__, repr(value))


@given(descriptions, st.randoms())
@settings(max_examples=60, deadline=None)
def test_order_of_keys_and_kind_of_sequence_play_no_part(description: dict, random: object) -> None:
    shuffled = list(description.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = {key: tuple(item) if isinstance(item, list) else item for key, item in shuffled}
    assert fingerprint(again) == fingerprint(description)


@given(descriptions, descriptions)
@settings(max_examples=100, deadline=None)
def test_different_descriptions_have_different_fingerprints(one: dict, other: dict) -> None:
    assume(_typed(one) != _typed(other))
    assert fingerprint(one) != fingerprint(other)


@pytest.mark.processes
def test_it_is_the_same_in_another_process_and_for_ever() -> None:
    known = hashlib.sha256('{"a":{"x":"é"},"b":[1,2.5,null]}'.encode()).hexdigest()
    code = (
        "from pipeline.artifacts.fingerprint import fingerprint\n"
        "print(fingerprint({'b': [1, 2.5, None], 'a': {'x': 'é'}}))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = fingerprint({"a": {"x": "é"}, "b": (1, 2.5, None)})
    assert shown.stdout.strip() == here == known


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), {1, 2}, b"bytes", object(), np.float32(1), np.zeros(2), {1: "an integer as key"}],
    ids=["nan", "inf", "set", "bytes", "object", "numpy scalar", "array", "integer key"],
)
def test_what_has_no_exact_text_is_refused_by_name(value: object) -> None:
    with pytest.raises(TypeError, match=r"made\.of\[1\]"):
        fingerprint({"made": {"of": [0, value]}})


def test_differences_are_named_leaf_by_leaf() -> None:
    found = {"seed": 0, "view": {"crop": 112, "flip": True}, "same": [1, (2,)], "gone": 1}
    wanted = {"seed": 1, "view": {"crop": 112, "flip": False}, "same": [1, (2,)], "new": "x"}
    assert differences(found, wanted) == [
        "gone: 1, now nothing",
        "new: nothing, now x",
        "seed: 0, now 1",
        "view.flip: True, now False",
    ]
    assert differences(found, found) == []


def test_numbers_that_are_equal_but_written_otherwise_differ_where_asked() -> None:
    found, wanted = {"sigma": 1.0, "on": True, "sizes": (1, 2)}, {"sigma": 1, "on": 1, "sizes": [1, 2]}
    assert fingerprint(found) != fingerprint(wanted)
    assert differences(found, wanted) == []
    assert differences(found, wanted, exact=True) == ["on: True, now 1", "sigma: 1.0, now 1"]
    assert differences(found, {"on": True}, exact=True) == ["sigma: 1.0, now nothing", "sizes: [1, 2], now nothing"]


def test_every_option_that_decides_content_decides_the_fingerprint() -> None:
    changed = {
        "sampling": "first",
        "draws": 2,
        "geometry": "full",
        "frame_codec": "lossless",
        "shard_clips": 8,
        "seed": 1,
        "allow_corrupt": True,
        "reader": "opencv",
        "max_persons": 3,
        "persons_by": "size",
        "min_score": 0.1,
        "first_frame": 1,
        "budget_s": 5.0,
    }
    options = PrepareOptions()
    assert set(changed) == {field.name for field in dataclasses.fields(PrepareOptions)}
    for name, value in changed.items():
        other = dataclasses.replace(options, **{name: value})
        same = fingerprint(other.content()) == fingerprint(options.content())
        assert same == (name == "budget_s"), name
