"""What a store says of itself is what was committed: a whole file that says something else is told, not read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contracts.store_contract import small_arrays
from extract_corpus import OPTIONS, install, tree, write_prepared

from pipeline.artifacts.checksum import crc_tail
from pipeline.errors import ArtifactError, ConfigError, CorruptError
from pipeline.extract.coordinator import extract
from pipeline.records import VideoRecord
from pipeline.store.blobs_local import LocalBlobs
from pipeline.store.layout import COLUMNS, NAMES
from pipeline.store.metadata import METADATA_RECORD
from pipeline.store.token_store import TokenStore
from pipeline.store.write import require_columns


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`prepared`, and a store of one view and one of two views from it."""
    root = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        write_prepared(root / "prepared", 6, shard_clips=3, draws=2)
        extract(root / "prepared", root / "one", OPTIONS)
        extract(root / "prepared", root / "two", replace(OPTIONS, views=2))
    return root


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    install(monkeypatch)
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def other_values(name: str, path: Path, clips: int) -> None:
    """Another whole column in its place: turned round, and with a checksum that is right for it."""
    body = path.read_bytes()[:-4]
    if name in COLUMNS:
        changed = (np.frombuffer(body, COLUMNS[name])[::-1] + (name != "label")).astype(COLUMNS[name]).tobytes()
    else:
        size = (len(body) - 4) // clips  # of a text with its length: all are as long
        texts = [body[4 + i * size : 4 + (i + 1) * size] for i in range(clips)]
        changed = body[:4] + b"".join([*texts[1:], texts[0]])
    assert changed != body
    path.write_bytes(changed + crc_tail(changed))


@pytest.mark.parametrize("name", [name for name in (*COLUMNS, *NAMES) if name != "split"])
def test_another_whole_column_is_not_read(tmp_path: Path, name: str) -> None:
    small_arrays(tmp_path / "s")
    other_values(name, tmp_path / "s" / name / "c/0", 11)
    with pytest.raises(CorruptError, match=f"{name}: is not the column that was committed"):
        TokenStore.open(tmp_path / "s").records()


def test_no_token_is_read_with_other_labels(tmp_path: Path) -> None:
    small_arrays(tmp_path / "s")
    opened = TokenStore.open(tmp_path / "s")
    other_values("label", tmp_path / "s/label/c/0", 11)
    assert opened.read(range(11)).labels.tolist() == [row % 3 for row in range(11)]
    with pytest.raises(CorruptError, match="label: is not the column"):
        TokenStore.open(tmp_path / "s")


def test_a_column_in_the_place_of_another_is_not_read(tmp_path: Path) -> None:
    small_arrays(tmp_path / "s")
    body = np.arange(11, dtype="<i4").tobytes()
    (tmp_path / "s/camera/c/0").write_bytes(body + crc_tail(body))
    shutil.copy(tmp_path / "s/camera/c/0", tmp_path / "s/subject/c/0")
    with pytest.raises(CorruptError, match="is not the column that was committed"):
        TokenStore.open(tmp_path / "s").records()


def _names(attributes: dict[str, Any]) -> None:
    attributes["class_names"].reverse()


def _made_from(attributes: dict[str, Any]) -> None:
    attributes["made_from"]["sigma"] = 9.0


def _topology(attributes: dict[str, Any]) -> None:
    attributes["joint_names"].reverse()


@pytest.mark.parametrize("change", [_names, _made_from, _topology])
def test_other_attributes_are_not_read_and_not_sealed(place: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path, whole = place / "one/zarr.json", tree(place / "one")
    group = json.loads(path.read_bytes())
    change(group["attributes"])
    path.write_text(json.dumps(group))
    with pytest.raises(CorruptError, match=r"zarr\.json: is not the one that was committed; run the same"):
        TokenStore.open(place / "one")
    if change is _made_from:
        path.unlink()
    extract(place / "prepared", place / "one", OPTIONS)
    assert tree(place / "one") == whole


def test_a_store_without_the_record_of_its_metadata_is_told_and_completed(place: Path) -> None:
    whole = tree(place / "one")
    (place / "one" / METADATA_RECORD).unlink()
    with pytest.raises(CorruptError, match=r"commits/metadata\.json: is missing, or was never written; run the same"):
        TokenStore.open(place / "one")
    extract(place / "prepared", place / "one", OPTIONS)
    assert tree(place / "one") == whole


def test_a_reader_may_open_a_store_while_views_are_added(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are added between its reading of `zarr.json` and of the record; it then reads both anew."""
    get = LocalBlobs.get
    grown = []

    def grows(self: LocalBlobs, key: str, **most: int) -> bytes | None:
        if key == METADATA_RECORD and not grown:
            grown.append(key)
            extract(place / "prepared", place / "one", replace(OPTIONS, views=2))
        return get(self, key, **most)

    monkeypatch.setattr(LocalBlobs, "get", grows)
    assert TokenStore.open(place / "one").sizes.views == 2
    monkeypatch.undo()
    assert tree(place / "one") == tree(place / "two")


def test_numbers_beyond_their_column_are_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [VideoRecord(clip_id="0000", key="0000", label=0, subject=1 << 31)]
    with pytest.raises(ConfigError, match=r"0000: subject: does not fit .* .got 2147483648, expected -2147483648 to"):
        require_columns(LocalBlobs.open(tmp_path / "s"), records)
    install(monkeypatch)
    monkeypatch.setattr("extract_corpus.VideoRecord", lambda **given: VideoRecord(**given, subject=1 << 31))
    write_prepared(tmp_path / "prepared", 2)
    with pytest.raises(CorruptError, match=r"rows\.jsonl: has a wrong subject in a row .got 2147483648"):
        extract(tmp_path / "prepared", tmp_path / "s", OPTIONS)
    assert not (tmp_path / "s").exists()


def test_two_who_mend_a_store_do_not_undo_each_other(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one waits for nothing and deletes nothing: what it would have found damaged is whole by now."""
    whole, path = tree(place / "one"), place / "one/gg/c/1/0/0/0/0"
    path.write_bytes(path.read_bytes()[:-1])
    enter, first, made = LocalBlobs.sole_writer, [], []

    def after_the_first(self: LocalBlobs) -> Any:
        if not first:
            first.append(1)
            extract(place / "prepared", place / "one", OPTIONS, damaged=True)
            made.append(path.stat().st_mtime_ns)
        return enter(self)

    monkeypatch.setattr(LocalBlobs, "sole_writer", after_the_first)
    extract(place / "prepared", place / "one", OPTIONS, damaged=True)
    assert tree(place / "one") == whole
    assert [path.stat().st_mtime_ns] == made


def test_mending_with_another_folder_deletes_nothing(place: Path) -> None:
    write_prepared(place / "others", 6, shard_clips=3, draws=1)
    (place / "one/gg/c/1/0/0/0/0").unlink()
    before = tree(place / "one")
    with pytest.raises(ArtifactError, match="was made from something else"):
        extract(place / "others", place / "one", OPTIONS, damaged=True)
    assert tree(place / "one") == before
