"""Two stores side by side, and what `star inspect` says of the tokens of one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from contracts.store_contract import small_arrays
from extract_corpus import OPTIONS, install
from extract_corpus import write_prepared as write

from pipeline.extract.coordinator import extract
from pipeline.store.compare import compare
from pipeline.store.statistics import token_statistics
from pipeline.store.token_store import TokenStore


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, TokenStore]:
    install(monkeypatch)
    folder = write(tmp_path / "prepared", 9, excluded=[2], failed=[5])
    made = {
        "a": OPTIONS, "again": OPTIONS, "zstd": replace(OPTIONS, codec="zstd"), "int8": replace(OPTIONS, dtype="int8"),
        "views": replace(OPTIONS, views=2),
    }  # fmt: skip
    for name, options in made.items():
        extract(folder.path, tmp_path / name, options)
    extract(write(tmp_path / "fewer", 7, excluded=[2]).path, tmp_path / "b", OPTIONS)
    return {name: TokenStore.open(tmp_path / name) for name in [*made, "b"]}


def test_a_store_made_twice_is_the_same(stores: dict[str, TokenStore]) -> None:
    report = compare(stores["a"], stores["again"])
    assert report["same_content"]
    assert (report["equal"], report["unequal"], report["outcomes_differ"]) == (7, 0, 0)
    assert report["made_from"] == report["sizes"] == []
    assert "gg" not in report


def test_another_codec_holds_equal_tokens(stores: dict[str, TokenStore]) -> None:
    report = compare(stores["a"], stores["zstd"])
    assert not report["same_content"]
    assert (report["equal"], report["unequal"]) == (7, 0)
    assert report["sizes"] == ["codec: none, now zstd"]


def test_int8_is_apart_by_less_than_a_percent_of_the_largest(stores: dict[str, TokenStore]) -> None:
    report = compare(stores["a"], stores["int8"])
    assert (report["equal"], report["unequal"]) == (0, 7)
    assert report["made_from"] == ["dtype: float16, now int8"]
    exact = stores["a"].read([0, 1, 3, 4, 6, 7, 8])
    for name, tokens in (("gg", exact.gg), ("jm", exact.jm)):
        assert 0 < report[name]["largest"] < 0.01 * np.abs(tokens.astype(np.float64)).max()
        assert 0 < report[name]["rms_of_spread"] < report[name]["of_spread"]
    rounded = stores["int8"].read([0, 1, 3, 4, 6, 7, 8], tokens=("jm",)).jm.astype(np.float64)
    apart = np.sqrt(np.square(rounded - exact.jm).mean()) / np.mean([clip.std(dtype=np.float64) for clip in exact.jm])
    assert report["jm"]["rms_of_spread"] == pytest.approx(apart, rel=1e-3)


def test_other_clips_and_views_are_counted(stores: dict[str, TokenStore]) -> None:
    report = compare(stores["a"], stores["b"])
    assert (report["clips"], report["only_in_a"], report["only_in_b"]) == (7, 2, 0)
    assert report["outcomes_differ"] == 1  # row 5 failed in one
    assert report["equal"] == 5
    assert report["made_from"][0].startswith("prepared: ")
    assert compare(stores["views"], stores["a"])["views"] == 1


def test_statistics_are_those_of_the_values(tmp_path: Path) -> None:
    written = small_arrays(tmp_path / "s")
    statistics = token_statistics(TokenStore.open(tmp_path / "s"))
    gg = written["gg"][:, 0].astype(np.float64)
    jm = written["jm"][:, 0][written["joint_mask"][:, 0]].astype(np.float64)
    for name, values in (("gg", gg), ("jm", jm)):
        assert statistics[name]["mean"] == pytest.approx(values.mean(), abs=1e-5)
        assert statistics[name]["spread"] == pytest.approx(values.std(), abs=1e-5)
        assert statistics[name]["zeros"] == pytest.approx((values == 0).mean(), abs=1e-5)
        assert statistics[name]["nan"] == 0
    assert statistics["clips_read"] == 11
    assert statistics["joints_present"] == pytest.approx(written["joint_mask"][:, 0].mean(), abs=1e-4)
