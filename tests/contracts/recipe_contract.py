"""What every recipe must do: a pure function from a user's folders to a Listing that can be trusted for a year.

A subclass makes a corpus of its kind in an empty folder, with at least one clip of each outcome, and lists it.
"""

from __future__ import annotations

import os
import random
import shutil
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import manifest
from pipeline.errors import DataError
from pipeline.records import UNKNOWN, Listing, VideoRecord


class RecipeContract(ABC):
    """Subclass it as `Test…`."""

    renamed: bool = True  # whether names tell classes, so that `rename_classes` can do something

    @abstractmethod
    def files(self) -> dict[str, bytes]:
        """Path -> content of a corpus of at least two classes, usable and unusable clips among them."""

    @abstractmethod
    def listing(self, root: Path) -> Listing:
        """The recipe at work on that corpus."""

    @abstractmethod
    def folders(self, root: Path) -> list[Path]:
        """The folders without which there is nothing to list."""

    def rename_classes(self, path: str) -> str:
        """The path of a file after every class has taken another's name; one to one."""
        return path

    def make(self, root: Path, files: dict[str, bytes] | None = None, *, shuffle: int = 0) -> Path:
        items = list((self.files() if files is None else files).items())
        random.Random(shuffle).shuffle(items)
        for path, content in items:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
        return root

    def test_rows_are_sorted_and_named_once(self, tmp_path: Path) -> None:
        ids = [record.clip_id for record in self.listing(self.make(tmp_path)).records]
        assert ids == sorted(set(ids))
        assert len(ids) > 3

    def test_a_listing_says_what_holds_for_all(self, tmp_path: Path) -> None:
        found = self.listing(self.make(tmp_path))
        assert found.dataset in manifest.DATASETS
        assert found.protocols == manifest.protocols(found.dataset)
        assert manifest.topology(found.topology).joint_names
        assert set(found.roots) == {"videos", "skeletons"}
        assert all(Path(root).is_absolute() and Path(root).is_dir() for root in found.roots.values())

    def test_paths_of_usable_rows_lead_to_files_and_reasons_say_why_not(self, tmp_path: Path) -> None:
        found = self.listing(self.make(tmp_path))
        usable = [record for record in found.records if record.usable]
        assert 1 < len(usable) < len(found.records)
        assert len({record.label for record in usable}) > 1
        for record in found.records:
            for root, path in (("videos", record.video), ("skeletons", record.skeleton)):
                assert (Path(found.roots[root]) / path).exists()
                assert not Path(path).is_absolute()
                assert bool(path) or not record.usable
            assert not (record.excluded and record.missing)
            assert str(tmp_path) not in record.excluded + record.missing
        known = [record.label for record in usable if record.label != UNKNOWN]  # one without a class fails later
        assert 2 * len(known) > len(usable)
        assert all(0 <= label < len(found.class_names) for label in known)

    def test_the_same_folder_is_the_same_listing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = self.listing(self.make(tmp_path / "a", shuffle=1))
        assert self.listing(tmp_path / "a") == first
        elsewhere = self.listing(self.make(tmp_path / "b", shuffle=2))
        assert elsewhere.records == first.records
        monkeypatch.chdir(tmp_path)
        assert self.listing(Path("a")) == first

    def test_listing_changes_nothing(self, tmp_path: Path) -> None:
        self.make(tmp_path)
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        self.listing(tmp_path)
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before

    def test_keys_do_not_name_the_class(self, tmp_path: Path) -> None:
        if not self.renamed:
            pytest.skip("the names of this data set do not tell the class")
        files = self.files()
        moved = {self.rename_classes(path): content for path, content in files.items()}
        assert len(moved) == len(files)
        assert set(moved) != set(files)
        before = self.listing(self.make(tmp_path / "before"))
        after = self.listing(self.make(tmp_path / "after", moved))

        def files_of(record: VideoRecord) -> tuple[str, str]:
            return record.video, record.skeleton

        def without_class(record: VideoRecord) -> VideoRecord:
            return replace(record, clip_id="", label=0, video="", skeleton="")

        others = {files_of(record): record for record in after.records}
        names: dict[str, set[str]] = {}
        for record in before.records:
            other = others.pop((self.rename_classes(record.video), self.rename_classes(record.skeleton)))
            assert without_class(other) == without_class(record)
            names.setdefault(before.class_names[record.label], set()).add(after.class_names[other.label])
        assert not others
        assert all(len(taken) == 1 and name not in taken for name, taken in names.items())

    def test_every_protocol_has_two_sides_of_usable_clips(self, tmp_path: Path) -> None:
        found = self.listing(self.make(tmp_path))
        usable = [record for record in found.records if record.usable]
        for protocol in found.protocols:
            sides = manifest.split(usable, found.dataset, protocol)
            assert {"train", "test"} <= set(sides)
            ids = [record.clip_id for side in sides.values() for record in side]
            assert len(ids) == len(set(ids))
            assert set(ids) <= {record.clip_id for record in usable}
        first = manifest.split(usable, found.dataset, found.protocols[0])
        assert first["train"]
        assert first["test"]

    def test_missing_and_empty_folders_are_told_in_one_sentence(self, tmp_path: Path) -> None:
        for folder in self.folders(self.make(tmp_path)):
            kept = folder.with_name("kept")
            folder.rename(kept)
            with pytest.raises(DataError, match=r"not a folder|lists no existing video") as absent:
                self.listing(tmp_path)
            folder.mkdir()
            with pytest.raises(DataError) as empty:
                self.listing(tmp_path)
            (folder / "README.txt").write_text("nothing of use")
            with pytest.raises(DataError):
                self.listing(tmp_path)
            for caught in (absent, empty):
                assert "\n" not in str(caught.value)
                assert ";" in str(caught.value)  # a remedy
            shutil.rmtree(folder)
            kept.rename(folder)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_an_unreadable_folder_is_named(self, tmp_path: Path) -> None:
        for folder in self.folders(self.make(tmp_path)):
            folder.chmod(0)
            try:
                with pytest.raises(DataError, match="cannot be read"):
                    self.listing(tmp_path)
            finally:
                folder.chmod(0o755)
