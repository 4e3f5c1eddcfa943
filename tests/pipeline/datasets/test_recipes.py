"""All recipes under one contract, and what is each one's own."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pytest
from contracts.recipe_contract import RecipeContract
from ntu_corpus import ntu_names
from scipy.io import savemat

from pipeline import manifest
from pipeline.datasets import folder, ntu, penn_action
from pipeline.datasets.synthetic import recipe
from pipeline.errors import ConfigError, DataError, SkeletonError
from pipeline.records import Listing

NTU_NAMES = [
    f"S{setup:03}C{camera:03}P{subject:03}R002A{action:03}"
    for setup, subject, camera in ((1, 1, 1), (1, 1, 2), (2, 3, 3), (17, 7, 1))
    for action in (1, 7, 13)
]


def other_action(path: str) -> str:
    for old, new in (("A001", "A_07"), ("A007", "A_13"), ("A013", "A_01")):
        path = path.replace(old, new)
    return path.replace("A_", "A0")


class TestNTU60(RecipeContract):
    dataset = "ntu60"

    def files(self) -> dict[str, bytes]:
        videos = {f"videos/nturgbd_rgb_{name[:4].lower()}/{name}_rgb.avi": b"" for name in NTU_NAMES[:-1]}
        return videos | {f"skeletons/{name}.skeleton": b"" for name in NTU_NAMES[1:]}

    def listing(self, root: Path) -> Listing:
        return ntu.listing(root / "videos", root / "skeletons", dataset=self.dataset)

    def folders(self, root: Path) -> list[Path]:
        return [root / "videos", root / "skeletons"]

    def rename_classes(self, path: str) -> str:
        return other_action(path)


class TestNTU120(TestNTU60):
    dataset = "ntu120"


class TestSynthetic(TestNTU60):
    dataset = "synthetic"

    def listing(self, root: Path) -> Listing:
        return recipe.listing(root)


def penn_label(action: str, train: int) -> bytes:
    file = io.BytesIO()
    savemat(file, {"action": action, "train": train, "x": np.ones((2, 13)), "nframes": 2})
    return file.getvalue()


class TestPennAction(RecipeContract):
    renamed = False

    def files(self) -> dict[str, bytes]:
        labels = {
            "0001": ("bowl", 1),
            "0002": ("squat", -1),
            "0003": ("situp", 1),
            "0005": ("bowl", -1),
            "0006": ("nap", 1),
        }
        files = {f"labels/{name}.mat": penn_label(*facts) for name, facts in labels.items()}
        files |= {f"frames/{name}/000001.jpg": b"" for name in ("0001", "0002", "0004", "0005", "0006", "0007")}
        return files | {"labels/0007.mat": files["labels/0001.mat"][:200], "frames/notes.txt": b""}

    def listing(self, root: Path) -> Listing:
        return penn_action.listing(root)

    def folders(self, root: Path) -> list[Path]:
        return [root / "frames", root / "labels"]

    def test_rows(self, tmp_path: Path) -> None:
        rows = self.listing(self.make(tmp_path)).records
        names = manifest.class_names("penn-action")
        assert [(r.clip_id, names[r.label] if r.label >= 0 else "", r.split, r.missing) for r in rows] == [
            ("0001", "bowl", "train", ""),
            ("0002", "squat", "test", ""),
            ("0003", "situp", "train", "no folder of frames"),
            ("0004", "", "", "no label file"),
            ("0005", "bowl", "test", ""),
            ("0006", "", "train", ""),  # of no class of the data set: it fails when it is prepared
            ("0007", "", "", ""),  # a label that cannot be read
        ]

    def test_empty_folders_are_no_data_set(self, tmp_path: Path) -> None:
        (tmp_path / "frames").mkdir()
        (tmp_path / "labels").mkdir()
        with pytest.raises(DataError, match="no frames, or no label"):
            self.listing(tmp_path)

    def test_real_labels(self, tmp_path: Path, test_data: Path) -> None:
        (tmp_path / "labels").symlink_to(test_data / "penn" / "labels")
        (tmp_path / "frames" / "0001").mkdir(parents=True)
        found = self.listing(tmp_path).records
        assert len(found) == 33
        assert [r.clip_id for r in found if r.usable] == ["0001"]
        assert {r.split for r in found} == {"train", "test"}


def pose(**changes: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **({"joints": np.ones((2, 17, 2))} | changes))
    return file.getvalue()


class TestFolderOfClasses(RecipeContract):
    def files(self) -> dict[str, bytes]:
        files = {f"root/{label}/take {k}.mp4": b"" for label in ("run", "sit", "wave") for k in range(6)}
        files |= {path.replace(".mp4", ".npz"): pose() for path in files if "take 5" not in path}
        return files | {
            "root/sit/alone.npz": pose(),
            "root/.DS_Store": b"",
            "root/notes.txt": b"",
            "root/sit/a.md": b"",
        }

    def listing(self, root: Path) -> Listing:
        return folder.listing(root / "root", seed=3)

    def folders(self, root: Path) -> list[Path]:
        return [root / "root"]

    def rename_classes(self, path: str) -> str:
        taken = {"run": "sit", "sit": "wave", "wave": "run"}
        return "/".join(taken.get(part, part) for part in path.split("/"))

    def test_classes_sides_and_reasons(self, tmp_path: Path) -> None:
        found = self.listing(self.make(tmp_path))
        assert found.class_names == ("run", "sit", "wave")
        assert found.topology == "coco17"
        assert found.notes[1:] == ("not read: 1 .md (sit/a.md)",)
        assert "those of coco17, by their number alone" in found.notes[0]
        reasons = {r.clip_id: r.missing for r in found.records if r.missing}
        assert reasons == {
            "run/take 5": "no pose file",
            "sit/alone": "no video file",
            "sit/take 5": "no pose file",
            "wave/take 5": "no pose file",
        }
        for label in range(3):
            sides = [r.split for r in found.records if r.label == label and r.clip_id != "sit/alone"]
            sides += [r.split for r in found.records if r.label == label and r.clip_id == "sit/alone"]
            # 0.3 of 6 or 7, rounded, missing ones among them: a file that comes later must not move the others
            assert sorted(sides) == ["test"] * 2 + ["train"] * (len(sides) - 2)

    def test_another_seed_draws_other_sides(self, tmp_path: Path) -> None:
        self.make(tmp_path)
        draws = {tuple(r.split for r in folder.listing(tmp_path / "root", seed=seed).records) for seed in range(10)}
        assert len(draws) > 5


class TestFolderOfSubjects(TestFolderOfClasses):
    def files(self) -> dict[str, bytes]:
        files = {
            f"root/{label}/{who}/take {k}.avi": b""
            for label in ("run", "sit", "wave")
            for who in ("ann", "bo", "cy", "di")
            for k in range(2)
        }
        files |= {path.replace(".avi", ".json"): b'{"joints": [[[1, 2]]]}' for path in files}
        for path in list(files):
            if path.endswith("json"):
                files[path] = b'{"joints": [%s]}' % b",".join([b"[" + b",".join([b"[1, 2]"] * 13) + b"]"] * 2)
        del files["root/sit/bo/take 1.json"]
        return files

    def test_classes_sides_and_reasons(self, tmp_path: Path) -> None:
        found = self.listing(self.make(tmp_path))
        assert found.topology == "penn13"
        assert {r.clip_id for r in found.records if r.missing} == {"sit/bo/take 1"}
        side_of = {r.subject: r.split for r in found.records}
        assert sorted(side_of) == [1, 2, 3, 4]
        assert sorted(side_of.values()) == ["test", "train", "train", "train"]
        for record in found.records:
            assert record.split == side_of[record.subject]

    def test_another_seed_draws_other_sides(self, tmp_path: Path) -> None:
        self.make(tmp_path)
        draws = {tuple(r.split for r in folder.listing(tmp_path / "root", seed=seed).records) for seed in range(20)}
        assert len(draws) > 2


class TestFolderByCSV(RecipeContract):
    def files(self) -> dict[str, bytes]:
        lines = ["path,label,subject,split,pose"]
        for k in range(6):
            lines.append(f"run/{k}.mp4,10,s{k % 3},{'train' if k % 2 else 'test'},")
            lines.append(f"sit/{k}.mp4,9,s{k % 3},{'train' if k % 2 else 'test'},poses/sit {k}.npz")
        lines += ["gone/1.mp4,9,s1,train,poses/sit 1.npz", "run/frames,10,,,"]
        files = {f"root/{label}/{k}.mp4": b"" for label in ("run", "sit") for k in range(6)}
        files |= {f"root/run/{k}.npz": pose() for k in range(5)} | {f"root/poses/sit {k}.npz": pose() for k in range(6)}
        files |= {"root/run/frames/1.jpg": b"", "root/run/frames.npz": pose(topology="penn13")}
        return files | {"root/list.csv": "\n".join(lines).encode()}

    renamed = False  # the labels are in the CSV, not in the names

    def listing(self, root: Path) -> Listing:
        return folder.listing(root / "root", csv=root / "root" / "list.csv")

    def folders(self, root: Path) -> list[Path]:
        return [root / "root"]

    def test_missing_and_empty_folders_are_told_in_one_sentence(self, tmp_path: Path) -> None:
        self.make(tmp_path)
        (tmp_path / "root" / "list.csv").unlink()
        with pytest.raises(DataError, match=r"list\.csv: does not exist; name the CSV"):
            self.listing(tmp_path)

    def test_rows(self, tmp_path: Path) -> None:
        found = self.listing(self.make(tmp_path))
        rows = {r.clip_id: r for r in found.records}
        assert found.class_names == ("9", "10")
        assert rows["sit/4"].skeleton == "poses/sit 4.npz"
        assert (rows["sit/4"].label, rows["sit/4"].subject, rows["sit/4"].split) == (0, 2, "test")
        assert rows["run/3"].skeleton == "run/3.npz"
        assert rows["run/5"].missing == "no pose file"
        assert rows["gone/1"].missing == "no video file"
        assert (rows["run/frames"].video, rows["run/frames"].skeleton) == ("run/frames", "run/frames.npz")
        assert (rows["run/frames"].subject, rows["run/frames"].split) == (-1, "")

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("", "wrong or missing header"),
            ("video,label\na.mp4,x", "wrong or missing header"),
            ("path,label,person\na.mp4,x,1", "wrong or missing header"),
            ("path,label\na.mp4,", "line 2: is not a valid row"),
            ("path,label,split\na.mp4,x,val\nb.mp4,x,dev", "line 3: is not a valid row"),
            ("path,label\n/etc/a.mp4,x", "line 2: names an absolute path"),
            ("path,label\n../a.mp4,x", "line 2: points outside the root"),
            ("path,label\nb\\..\\..\\a.mp4,x", "line 2: points outside the root"),
            ("path,label\nC:\\a.mp4,x", "line 2: names an absolute path"),
            ("path,label,pose\na.mp4,x,../a.npz", "line 2: points outside the root"),
            ("path,label\na.mp4,x\na.avi,x", "line 3: repeats a clip"),
            ("path,label\na.mp4,x,1", "line 2: has more fields"),
            ("path,label\na.mp4,x", "lists no existing video"),
            ("path,label\n\xff\xfe", "cannot be read as a CSV"),
        ],
    )
    def test_lines_that_do_not_fit_are_named(self, tmp_path: Path, text: str, complaint: str) -> None:
        (tmp_path / "root").mkdir()
        (tmp_path / "root" / "list.csv").write_bytes(text.encode("latin-1"))
        with pytest.raises(DataError, match=complaint):
            self.listing(tmp_path)


def test_names() -> None:
    record = ntu.record_from_name("S001C002P003R002A013")
    assert (record.clip_id, record.key, record.label) == ("S001C002P003R002A013", "S001C002P003R002", 12)
    assert (record.setup, record.camera, record.subject, record.replication) == (1, 2, 3, 2)
    for name in (
        "S001C002P003R002A000",
        "S001C002P003R002",
        "S001C002P003R002A013_rgb",
        "s001c002p003r002a013",
        "S٠٠1C002P003R002A013",
    ):
        with pytest.raises(DataError, match="not an NTU clip name"):
            ntu.record_from_name(name)


def corpus(root: Path, names: list[str]) -> tuple[Path, Path]:
    videos, skeletons = root / "videos", root / "skeletons"
    for path in (videos, skeletons):
        path.mkdir(parents=True)
    for name in names:
        (videos / f"{name}_rgb.avi").touch()
        (skeletons / f"{name}.skeleton").touch()
    return videos, skeletons


def test_ntu60_takes_nothing_of_ntu120(tmp_path: Path) -> None:
    own, later, beyond = "S017C001P003R001A060", "S018C001P003R001A061", "S017C001P003R001A061"
    folders = corpus(tmp_path, [own, later, beyond])
    assert [r.clip_id for r in ntu.listing(*folders, dataset="ntu60").records] == [own]
    assert [r.clip_id for r in ntu.listing(*folders, dataset="ntu120").records] == [own, beyond, later]
    with pytest.raises(DataError, match=r"holds no videos .* of ntu60 .*2 other files"):
        ntu.listing(*corpus(tmp_path / "later", [later, beyond]), dataset="ntu60")
    with pytest.raises(ConfigError, match="ntu61"):
        ntu.listing(*folders, dataset="ntu61")


def test_the_missing_list_excludes_and_may_be_set_aside(tmp_path: Path) -> None:
    folders = corpus(tmp_path, ["S001C002P005R002A008", "S001C002P005R002A009"])
    reasons = [r.excluded for r in ntu.listing(*folders, dataset="ntu60").records]
    assert reasons == ["on the data set's list of missing skeletons", ""]
    assert not any(r.excluded for r in ntu.listing(*folders, dataset="ntu60", exclude_missing=False).records)


def test_other_containers_depths_and_links(tmp_path: Path) -> None:
    a, b, c = NTU_NAMES[:3]
    videos, skeletons = tmp_path / "v", tmp_path / "s"
    (videos / "deep" / "er").mkdir(parents=True)
    (videos / "deep" / "er" / f"{a}_rgb.MP4").touch()
    (videos / "deep" / f"{b}_rgb.mkv").touch()
    (videos / f"{b}_rgb.avi").touch()
    (videos / f"old__{c}_rgb.avi").touch()
    skeletons.mkdir()
    for name in (a, b, c):
        (skeletons / f"{name}.skeleton").touch()
    (videos / "deep" / "loop").symlink_to(videos)
    (videos / "linked").symlink_to(skeletons)
    rows = {r.clip_id: r for r in ntu.listing(videos, skeletons, dataset="ntu60").records}
    assert rows[a].video == f"deep/er/{a}_rgb.MP4"
    assert rows[b].video == f"{b}_rgb.avi"
    assert rows[c].missing == "no video file"


def test_real_folders(test_data: Path) -> None:
    found = ntu.listing(test_data / "ntu" / "videos", test_data / "ntu" / "skeletons", dataset="ntu60")
    assert [r.clip_id for r in found.records if r.usable] == ["S001C001P001R001A001"]
    reasons = {r.clip_id: r.excluded or r.missing for r in found.records}
    assert reasons["S001C002P006R001A008"] == "on the data set's list of missing skeletons"
    assert reasons["S004C002P003R001A055"] == "no skeleton file"
    assert reasons["S001C001P001R001A050"] == "no video file"
    assert len(reasons) == 10


def test_folder_poses_of_every_kind_beside_their_videos(tmp_path: Path) -> None:
    clips = tmp_path / "jump"
    (clips / "frames").mkdir(parents=True)
    (clips / "frames" / "000001.jpg").touch()
    (clips / "openpose").mkdir()
    (clips / "openpose" / "0.json").write_text('{"people": []}')
    for name in ("kinect", "openpose", "two"):
        (clips / f"{name}.mp4").touch()
    for name in ("kinect.skeleton", "frames.mat", "two.npz", "two.json"):
        (clips / name).touch()
    (clips / "kinect.skeleton").write_text("0")
    found = folder.listing(tmp_path)
    assert found.notes[-1] == "not read: 1 .json (jump/two.json)"
    assert {r.clip_id: (r.video, r.skeleton) for r in found.records} == {
        "jump/frames": ("jump/frames", "jump/frames.mat"),
        "jump/kinect": ("jump/kinect.mp4", "jump/kinect.skeleton"),
        "jump/openpose": ("jump/openpose.mp4", "jump/openpose"),
        "jump/two": ("jump/two.mp4", "jump/two.npz"),
    }
    (clips / "two.avi").touch()
    with pytest.raises(DataError, match=r"two\.mp4: has the stem of another video \(got two\.avi\)"):
        folder.listing(tmp_path)


def test_folder_topology_is_that_of_the_first_pose_that_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("1", "2"):
        (tmp_path / "a" / f"{name}.mp4").touch()
    (tmp_path / "a" / "1.npz").write_bytes(b"damaged")
    (tmp_path / "a" / "2.npz").write_bytes(pose(topology="coco17"))
    assert folder.listing(tmp_path).topology == "coco17"
    (tmp_path / "a" / "2.npz").write_bytes(pose(topology="coco18"))
    with pytest.raises(SkeletonError, match="unknown topology"):
        folder.listing(tmp_path)
    (tmp_path / "a" / "2.npz").unlink()
    with pytest.raises(SkeletonError, match=r"1\.npz: cannot be read"):
        folder.listing(tmp_path)
    (tmp_path / "a" / "1.npz").unlink()
    with pytest.raises(DataError, match="no video that has a pose file"):
        folder.listing(tmp_path)


def test_folder_files_that_nobody_reads_are_told(tmp_path: Path) -> None:
    for path in (
        "a/v.mp4",
        "a/v/v_1.txt",
        "a/v/v_2.txt",
        "a/s1/w.MTS",
        "a/s1/day/x.mp4",
        "a/c.webp.part",
        "top.mp4",
        "list.csv",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    told = "1 .mp4 (top.mp4), 1 .part (a/c.webp.part), 2 .txt (a/v/v_1.txt, …), 1 folders (a/s1/day/)"
    with pytest.raises(DataError) as caught:
        folder.listing(tmp_path)
    assert f"(got files that are not read: {told}, expected poses as .skeleton" in str(caught.value)
    (tmp_path / "a" / "v.npz").write_bytes(pose())
    found = folder.listing(tmp_path)
    assert found.notes[-1] == f"not read: {told}"
    assert {r.clip_id: r.missing for r in found.records} == {"a/s1/w": "no pose file", "a/v": ""}


@pytest.mark.parametrize("by_csv", [False, True])
@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
def test_a_name_is_one_in_every_unicode_form(tmp_path: Path, forms: tuple[str, str], by_csv: bool) -> None:
    (tmp_path / "a").mkdir()
    video, stem = (normalize(form, "a/café") for form in forms)
    (tmp_path / f"{video}.mp4").touch()
    (tmp_path / f"{stem}.npz").write_bytes(pose())
    (tmp_path / "list.csv").write_text("path,label\na\\" + normalize("NFC", "café") + ".mp4,a\n")
    found = folder.listing(tmp_path, csv=tmp_path / "list.csv" if by_csv else None)
    (row,) = found.records
    assert (row.clip_id, row.missing) == (normalize("NFC", "a/café"), "")
    assert (tmp_path / row.video).is_file()
    assert (tmp_path / row.skeleton).is_file()
    (tmp_path / f"{normalize('NFC', video)}.avi").touch()
    (tmp_path / f"{normalize('NFD', video)}.mkv").touch()
    if not by_csv:
        with pytest.raises(DataError, match="has the stem of another video"):
            folder.listing(tmp_path)


def test_csv_sides_are_kept_validation_too(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    lines = ["path,label,split"]
    for k, side in enumerate(("train", "val", "test", "")):
        (tmp_path / f"v/{k}.mp4").touch()
        (tmp_path / f"v/{k}.npz").write_bytes(pose())
        lines.append(f"v\\{k}.mp4,x,{side}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    found = folder.listing(tmp_path, csv=tmp_path / "list.csv")
    assert all(record.usable for record in found.records)
    sides = manifest.split(found.records, "folder", "given")
    assert {side: [r.clip_id for r in records] for side, records in sides.items()} == {
        "train": ["v/0"], "test": ["v/2"], "val": ["v/1"],
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["path;label;subject\nv/0.mp4;x;José", "path , label, subject\n\n,,\nv/./0.mp4, x, José\n"]
)
def test_csv_as_spreadsheets_write_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v/0.mp4").touch()
    (tmp_path / "v/0.mp4.npz").write_bytes(pose())  # as some tools name it
    (tmp_path / "list.csv").write_text(text)
    (row,) = folder.listing(tmp_path, csv=tmp_path / "list.csv").records
    assert (row.clip_id, row.video, row.skeleton, row.missing) == ("v/0", "v/0.mp4", "v/0.mp4.npz", "")


def test_csv_lines_are_told_by_their_own_numbers(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label\n\n,\nv/0.mp4,\n")
    with pytest.raises(DataError, match=r"list\.csv, line 4: is not a valid row"):
        folder.listing(tmp_path, csv=tmp_path / "list.csv")


def test_folder_passes_over_what_was_made_from_it(tmp_path: Path) -> None:
    for marker in ("a/out/dataset.json", "tokens/zarr.json", "a/s1/run/config.json"):
        (tmp_path / marker).parent.mkdir(parents=True)
        (tmp_path / marker).touch()
    (tmp_path / "a/v.mp4").touch()
    (tmp_path / "a/v.mp4.npz").write_bytes(pose())
    found = folder.listing(tmp_path)
    assert [(r.clip_id, r.missing) for r in found.records] == [("a/v", "")]
    assert not any("not read" in note and "out" in note for note in found.notes)


def test_subjects_in_two_unicode_forms_are_one_and_dates_are_numbered(tmp_path: Path) -> None:
    names = {"a": normalize("NFC", "José"), "b": normalize("NFD", "José"), "c": "20230101123", "d": "20230101124"}
    for label, subject in names.items():
        (tmp_path / label / subject).mkdir(parents=True)
        (tmp_path / label / subject / "v.mp4").touch()
        (tmp_path / label / subject / "v.npz").write_bytes(pose())
    rows = folder.listing(tmp_path).records
    assert [row.subject for row in rows] == [3, 3, 1, 2]
    assert rows[0].split == rows[1].split


def test_ntu_files_of_one_name_are_told(tmp_path: Path) -> None:
    videos, skeletons = corpus(tmp_path, NTU_NAMES[:2])
    (videos / "more").mkdir()
    (videos / "more" / f"{NTU_NAMES[0].lower()}_RGB.avi").touch()
    found = ntu.listing(videos, skeletons, dataset="ntu60")
    assert found.records[0].video == f"{NTU_NAMES[0]}_rgb.avi"
    assert found.notes == (f"not used: 1 more files of the same clips (more/{NTU_NAMES[0].lower()}_RGB.avi, …)",)


@pytest.mark.soak
def test_all_of_ntu_120_on_disk_is_counted(tmp_path: Path) -> None:
    names = ntu_names()
    folders = corpus(tmp_path, names)
    for dataset, total, usable in (("ntu60", 56880, 56578), ("ntu120", 114480, 113945)):
        records = ntu.listing(*folders, dataset=dataset).records
        assert (len(records), sum(r.usable for r in records)) == (total, usable)
    assert os.listdir(tmp_path) == ["skeletons", "videos"] or os.listdir(tmp_path) == ["videos", "skeletons"]
