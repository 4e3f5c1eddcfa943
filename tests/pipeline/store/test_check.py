"""Where a store may be created or resumed, and where not: foreign files are never overwritten."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from extract_corpus import OPTIONS, install, tree
from extract_corpus import write_prepared as write

from pipeline.artifacts.files import TEMPORARY
from pipeline.errors import ArtifactError, CorruptError
from pipeline.extract import worker
from pipeline.extract.coordinator import extract
from pipeline.records import VideoRecord
from pipeline.store.blobs import open_blobs
from pipeline.store.layout import FIRST_KEY, StoreSizes
from pipeline.store.write import create_store

SIZES = StoreSizes(
    clips=2, views=1, shard_clips=4, persons=2, frames=3, joints=13, cells=4, gg_channels=8, jm_channels=6
)


def create(path: Path, made_from: dict[str, Any], sizes: StoreSizes = SIZES) -> None:
    records = [VideoRecord(clip_id=f"{i}", key=f"{i}", label=0) for i in range(sizes.clips)]
    about = {"dataset": "penn-action", "topology": "penn13", "class_names": ["a"], "joint_names": ["j"] * 13}
    create_store(
        open_blobs(path), sizes=sizes, records=records, made_from=made_from, about={**about, "protocols": ["official"]}
    )


def everything(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (["clips.txt"], "got clips.txt"),
        (["clips.txt", "label/a.csv", "key"], "got clips.txt, key, label"),
        (["clips.txt", "camera/zarr.json", "notes.md"], "got notes.md"),
        (["commits/000/00000.json", "clips.txt"], "got clips.txt, commits"),
        (["gg_scale/zarr.json", "camera/zarr.json"], "got gg_scale"),  # of a store of int8
    ],
)
def test_a_folder_of_others_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], named: str
) -> None:
    install(monkeypatch)
    out, folder = tmp_path / "out", write(tmp_path / "prepared", 2)
    for name in files:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("theirs")
    before = everything(out)
    with pytest.raises(ArtifactError, match=rf"empty and is not a token store \({named}\); choose another `out`"):
        extract(folder.path, out, OPTIONS)
    assert everything(out) == before


@pytest.mark.parametrize("half", [None, f".zarr.json{TEMPORARY}0123456789ab"])
def test_who_was_killed_at_the_first_put_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half: str | None
) -> None:
    install(monkeypatch)
    out, folder = tmp_path / "out", write(tmp_path / "prepared", 2)
    (out / FIRST_KEY).parent.mkdir(parents=True)
    if half is not None:
        (out / FIRST_KEY).with_name(half).write_text("{")
    assert extract(folder.path, out, OPTIONS).done == 2
    assert not list(out.rglob(f"*{TEMPORARY}*"))


def test_what_verify_says_to_delete_is_made_again_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch)
    folder, out = write(tmp_path / "prepared", 9, draws=2), tmp_path / "s"
    extract(folder.path, out, replace(OPTIONS, views=2))
    whole = tree(out)
    monkeypatch.setattr(worker, "extract_run", None)  # no shard is to be computed
    for gone in (["clips.txt", "zarr.json", "commits/metadata.json"], ["clips.txt", "zarr.json", "camera"]):
        for name in gone:
            shutil.rmtree(out / name) if (out / name).is_dir() else (out / name).unlink()
        extract(folder.path, out, replace(OPTIONS, views=2))
        assert tree(out) == whole


@pytest.mark.parametrize(
    ("gone", "change", "sentence"),
    [
        (["clips.txt", "zarr.json", "commits/metadata.json"], {"seed": 1}, "holds commit records of a store that was"),
        (["zarr.json"], {"seed": 1}, "holds commit records of a store that was made from something else; use the same"),
        (["zarr.json"], {"codec": "zstd"}, "codec: none, now zstd"),
    ],
)
def test_shards_of_another_store_are_not_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: list[str], change: dict[str, Any], sentence: str
) -> None:
    install(monkeypatch)
    folder, out = write(tmp_path / "prepared", 9), tmp_path / "s"
    extract(folder.path, out, OPTIONS)
    for name in gone:
        (out / name).unlink()
    before = everything(out)
    with pytest.raises(ArtifactError, match=sentence):
        extract(folder.path, out, replace(OPTIONS, **change))
    assert everything(out) == before


def test_one_damaged_record_does_not_hide_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    folder, out = write(tmp_path / "prepared", 9), tmp_path / "s"
    extract(folder.path, out, OPTIONS)
    whole = tree(out)
    (out / "commits/000/00000.json").write_bytes(b"half a rec")
    for name in ("zarr.json", "clips.txt", "commits/metadata.json"):
        (out / name).unlink()
    shutil.rmtree(out / "camera")
    extract(folder.path, out, OPTIONS)
    assert tree(out) == whole


def test_a_number_that_is_written_otherwise_is_told_as_what_differs(tmp_path: Path) -> None:
    create(tmp_path, {"sigma": 1.0})
    create(tmp_path, {"sigma": 1.0})
    with pytest.raises(
        ArtifactError, match=r"was made from something else: sigma: 1.0, now 1; use the same"
    ) as refused:
        create(tmp_path, {"sigma": 1})
    assert "delete" not in str(refused.value)


def _tampered(attributes: dict[str, Any]) -> None:
    attributes["fingerprint"] = "0" * 64


def _unmarked(attributes: dict[str, Any]) -> None:
    del attributes["fingerprint"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [(_tampered, "its fingerprint does not match what"), (_unmarked, r"zarr\.json: is damaged: it has no fingerprint")],
)
def test_a_fingerprint_that_is_not_its_own_is_told(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], sentence: str
) -> None:
    create(tmp_path, {"sigma": 1.0})
    described = json.loads((tmp_path / "zarr.json").read_text())
    change(described["attributes"])
    (tmp_path / "zarr.json").write_text(json.dumps(described))
    with pytest.raises(CorruptError, match=sentence):
        create(tmp_path, {"sigma": 1.0})
