"""Kept results are used only for the same clips, tokens and settings, and only if they are whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from attack.attacks import JSON_DAMAGE
from star_stores import one_thread, plain, write_small_store

from pipeline.artifacts.sealed_json import seal, unseal
from star.config.text import with_overrides
from star.controls import gru, run
from star.controls.kept import RECORD, Control
from star.controls.run import controls
from star.evaluate.scores import load_scores, save_scores

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

CONFIG = plain()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store and, in `kept`, its controls with a test side."""
    root = tmp_path_factory.mktemp("controls")
    write_small_store(root / "store", classes=2, subjects=(1, 2, 9), replications=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gru, "MOST_STEPS", 5)
        controls(root / "store", CONFIG, test=True, out=root / "kept")
    return root


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gru, "MOST_STEPS", 5)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry each time controls are computed."""
    calls, whole = list[str](), run._computed

    def counted(*args: object) -> list[Control]:
        calls.append("computed")
        return whole(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "_computed", counted)
    return calls


def same(one: list[Control], other: list[Control]) -> None:
    assert [(control.name, control.chosen) for control in one] == [(control.name, control.chosen) for control in other]
    for left, right in zip(one, other, strict=True):
        for mine, theirs in ((left.validation, right.validation), (left.test, right.test)):
            assert (mine is None) == (theirs is None)
            if mine is not None and theirs is not None:
                assert np.array_equal(mine.probabilities, theirs.probabilities)
                assert mine.summary() == theirs.summary()


def test_results_come_back_as_they_were(place: Path, computed: list[str]) -> None:
    kept = controls(place / "store", CONFIG, test=True, out=place / "kept")
    assert computed == []
    same(kept, controls(place / "store", CONFIG, test=True))
    assert {scores.split for control in kept for scores in (control.validation, control.test) if scores} == {
        "val",
        "test",
    }
    controls(place / "store", with_overrides(CONFIG, ["model.width=32", "optim.lr=1"]), test=True, out=place / "kept")
    assert computed == ["computed"]  # the model's settings change no control


@pytest.mark.parametrize(
    "setting", ["seed=1", "model.tokens=gg", "data.fraction=0.5", "data.shuffled_labels=true", "model.whiten=true"]
)
def test_other_settings_are_computed_anew(place: Path, tmp_path: Path, computed: list[str], setting: str) -> None:
    shutil.copytree(place / "kept", tmp_path / "kept")
    found = controls(place / "store", with_overrides(CONFIG, [setting]), test=True, out=tmp_path / "kept")
    assert computed == ["computed"]
    same(controls(place / "store", with_overrides(CONFIG, [setting]), test=True, out=tmp_path / "kept"), found)
    assert computed == ["computed"]


def test_a_test_side_is_not_told_to_who_does_not_ask(place: Path, tmp_path: Path, computed: list[str]) -> None:
    shutil.copytree(place / "kept", tmp_path / "kept")
    assert all(control.test is None for control in controls(place / "store", CONFIG, test=False, out=tmp_path / "kept"))
    assert computed == []


def test_only_what_is_missing_is_computed(place: Path, tmp_path: Path, computed: list[str]) -> None:
    def ridge(method: str, sees: str) -> bool:
        return method == "ridge" and sees.startswith(("all", "one frame"))

    told = list[str]()
    shared = {"out": tmp_path / "kept", "progress": told.append}
    some = controls(place / "store", CONFIG, test=False, only=ridge, **shared)
    assert [control.name for control in some] == told
    whole = {control.name: control for control in controls(place / "store", CONFIG, test=True, out=place / "kept")}
    same([replace(whole[control.name], test=None) for control in some], some)
    told.clear()
    tested = controls(
        place / "store", CONFIG, test=True, only=lambda *each: each == ("ridge", "all JM tokens"), **shared
    )
    assert told == ["ridge on all JM tokens"]
    told.clear()
    every = controls(place / "store", CONFIG, test=False, **shared)
    assert "ridge on one frame's JM tokens" not in told
    assert "logistic regression on one frame's JM tokens" in told
    same(every, [replace(control, test=None) for control in whole.values()])
    same(
        controls(place / "store", CONFIG, test=True, only=lambda *each: each == ("ridge", "all JM tokens"), **shared),
        tested,
    )
    assert computed == ["computed"] * 3  # the last was kept


def of_other_clips(kept: Path) -> None:
    one = load_scores(kept / "01-test.npz")
    save_scores(type(one)(**{**vars(one), "labels": 1 - one.labels}), kept / "01-test.npz")


def other_sides(kept: Path) -> None:
    record = unseal((kept / RECORD).read_bytes(), kept, {})
    record["controls"][0]["sides"] = ["validation"]
    (kept / RECORD).write_bytes(seal(record))


def without_scores(kept: Path) -> None:
    (kept / "00-validation.npz").unlink()


def a_pipe(kept: Path) -> None:
    (kept / RECORD).unlink()
    os.mkfifo(kept / RECORD)


def a_link_out(kept: Path) -> None:
    shutil.move(kept / RECORD, kept.parent / "elsewhere")
    (kept / RECORD).symlink_to(kept.parent / "elsewhere")


def a_flipped_letter(kept: Path) -> None:
    data = (kept / RECORD).read_bytes()
    (kept / RECORD).write_bytes(data.replace(b"ridge", b"rigde", 1))


def cut_scores(kept: Path) -> None:
    data = (kept / "02-validation.npz").read_bytes()
    (kept / "02-validation.npz").write_bytes(data[: len(data) // 2])


def of_bytes(data: bytes) -> Callable[[Path], None]:
    return lambda kept: (kept / RECORD).write_bytes(data) and None


DAMAGE = {
    **{f"json {name}": of_bytes(data) for name, data in JSON_DAMAGE.items()},
    **{
        change.__name__: change
        for change in (
            of_other_clips, other_sides, without_scores, a_pipe, a_link_out, a_flipped_letter, cut_scores,
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_results_are_computed_again(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    shutil.copytree(place / "kept", tmp_path / "kept")
    DAMAGE[name](tmp_path / "kept")
    whole = controls(place / "store", CONFIG, test=True, out=place / "kept")
    calls = list[str]()
    monkeypatch.setattr(run, "_computed", lambda *args: calls.append("computed") or whole)
    same(controls(place / "store", CONFIG, test=True, out=tmp_path / "kept"), whole)
    assert calls == ["computed"]
    same(controls(place / "store", CONFIG, test=True, out=tmp_path / "kept"), whole)
    assert calls == ["computed"]  # what was damaged has been written anew
    if name == "a_link_out":
        assert not (tmp_path / "kept" / RECORD).is_symlink()
