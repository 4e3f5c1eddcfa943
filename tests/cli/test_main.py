"""The command line: its surface, its help without heavy imports, and one sentence for every kind of bad input."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import done, one_sentence, star
from extract_corpus import OPTIONS, commit_prepared, write_prepared
from star_stores import plain_options

from cli.progress import ClipProgress
from pipeline.artifacts.outcomes import Damage
from pipeline.datasets.synthetic.recipe import write_clip
from pipeline.extract.coordinator import extract
from pipeline.records import VideoRecord
from pipeline.store.blobs_local import LocalBlobs
from pipeline.store.commit_records import METADATA_RECORD
from pipeline.store.token_store import TokenStore
from pipeline.store.write import write_arrays

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    *("prepare", "extract-tokens", "train", "evaluate", "report", "ablate"),
    *("inspect", "verify", "retry", "demo"),
)
RECIPES = ("ntu60", "ntu120", "penn-action", "folder", "synthetic")
HEAVY = ("torch", "numpy", "zarr", "dask", "av", "cv2", "h5py", "distributed", "PIL", "matplotlib")


@pytest.fixture(scope="module")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "small.zarr"
    rng = np.random.default_rng(0)
    records = [
        VideoRecord(
            clip_id=f"S001C001P{p:03d}R001A{a:03d}", key=f"S001C001P{p:03d}R001", label=a - 1, subject=p, camera=1
        )
        for p in (1, 3)
        for a in (1, 2)
    ]
    write_arrays(
        path,
        gg=rng.standard_normal((4, 1, 16, 4, 8)).astype(np.float16),
        jm=rng.standard_normal((4, 1, 16, 25, 6)).astype(np.float16),
        joint_mask=np.ones((4, 1, 16, 25), bool),
        records=records,
        class_names=["one", "two"],
        dataset="ntu60",
    )
    return path


@pytest.mark.processes
def test_help_imports_nothing_heavy() -> None:
    """One process, asked for the help of every command in turn: what one imports would show in all after it."""
    asked = [(), *((c,) for c in COMMANDS), *(("prepare", r) for r in RECIPES)]
    code = (
        "import sys\n"
        "from cli.main import app\n"
        f"for arguments in {asked!r}:\n"
        "    try:\n        app([*arguments, '--help'])\n"
        "    except SystemExit as end:\n        assert end.code == 0\n"
        f"    heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "    assert not heavy, (arguments, heavy)\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("Usage:") == len(asked)


@pytest.mark.processes
def test_a_real_process_prints_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "cli.main", "inspect", str(tmp_path / "absent")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    shown = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr.startswith("star: ")
    assert shown.stderr.count("\n") == 1


def test_usage_errors_exit_with_2() -> None:
    for arguments in (("no-such-command",), ("prepare", "ntu60"), ("extract-tokens", "x", "--views", "none")):
        shown = star(*arguments)
        assert shown.exit_code == 2, (arguments, shown.stderr)
        assert "Traceback" not in shown.stderr


class TestBadInput:
    """Each ends in exit 1 and one sentence that names the item."""

    def test_prepare_missing_folder(self, tmp_path: Path) -> None:
        absent = tmp_path / "absent"
        one_sentence(
            star("prepare", "ntu60", "--videos", absent, "--skeletons", absent, "--out", tmp_path / "o"), "absent"
        )
        one_sentence(star("prepare", "penn-action", "--root", absent, "--out", tmp_path / "o"), "absent")
        one_sentence(star("prepare", "folder", "--root", absent, "--out", tmp_path / "o"), "absent")

    def test_prepare_empty_folder(self, tmp_path: Path) -> None:
        empty = tmp_path / "empty"
        empty.mkdir()
        one_sentence(
            star("prepare", "ntu120", "--videos", empty, "--skeletons", empty, "--out", tmp_path / "o"), "empty"
        )
        one_sentence(star("prepare", "folder", "--root", empty, "--out", tmp_path / "o"), "empty")
        assert not (tmp_path / "o" / "dataset.json").exists()

    def test_prepare_unknown_choice(self, tmp_path: Path) -> None:
        shown = star(
            *("prepare", "ntu60", "--videos", tmp_path, "--skeletons", tmp_path, "--out", tmp_path / "o"),
            *("--geometry", "round"),
        )
        one_sentence(shown, "--geometry", "person")

    def test_extract_wants_a_prepared_folder(self, tmp_path: Path, small_store: Path) -> None:
        extract = ("extract-tokens", "--weights", "random", "--out", tmp_path / "o.zarr")
        one_sentence(star(*extract, tmp_path / "absent"), "absent", "star prepare")
        one_sentence(star(*extract, tmp_path), "star prepare")
        one_sentence(star(*extract, small_store), "token store")
        assert not (tmp_path / "o.zarr" / "zarr.json").exists()

    def test_train_wants_a_store(self, tmp_path: Path) -> None:
        run = tmp_path / "run"
        one_sentence(star("train", "--from-cache", tmp_path / "absent", "--out", run), "absent", "star extract-tokens")
        one_sentence(star("train", "--from-cache", tmp_path, "--out", run), "is empty", "star extract-tokens")
        assert not (run / "config.json").exists()

    def test_train_unknown_protocol_preset_and_setting(self, tmp_path: Path, small_store: Path) -> None:
        train = ("train", "--from-cache", small_store, "--out", tmp_path / "run")
        one_sentence(star(*train, "--protocol", "xnone"), "xnone", "xsub")
        one_sentence(star(*train, "--preset", "slow"), "slow", "paper")
        one_sentence(star(*train, "--set", "optim.lrr=1"), "lrr", "optim.lr")
        one_sentence(star(*train, "--config", tmp_path / "absent.json"), "absent.json")

    def test_evaluate_wants_a_run(self, tmp_path: Path, small_store: Path) -> None:
        one_sentence(star("evaluate", tmp_path / "absent"), "absent")
        one_sentence(star("evaluate", small_store), "small.zarr")

    @pytest.mark.parametrize("command", ["inspect", "verify", "retry"])
    def test_nothing_of_ours(self, command: str, tmp_path: Path) -> None:
        one_sentence(star(command, tmp_path / "absent"), "absent")
        one_sentence(star(command, tmp_path), str(tmp_path))

    def test_a_target_that_cannot_be_written(self, tmp_path: Path, small_store: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        train = ("train", "--from-cache", small_store, "--out", tmp_path / "file" / "run")
        one_sentence(star(*train, *plain_options("data.validation=0")), "file")
        one_sentence(star("prepare", "synthetic", "--out", tmp_path / "file" / "set"), "file")

    def test_a_target_that_is_something_else(self, tmp_path: Path, raw_synthetic: Path) -> None:
        (tmp_path / "notes.txt").write_text("mine")
        videos, skeletons = raw_synthetic / "videos", raw_synthetic / "skeletons"
        shown = star("prepare", "ntu60", "--videos", videos, "--skeletons", skeletons, "--out", tmp_path)
        one_sentence(shown, "empty folder")
        assert sorted(p.name for p in tmp_path.iterdir() if p.name[0] != ".") == ["notes.txt"]

    def test_weights_of_another_network(self, tmp_path: Path, raw_synthetic: Path) -> None:
        prepared = tmp_path / "prepared"
        videos, skeletons = raw_synthetic / "videos", raw_synthetic / "skeletons"
        few = tmp_path / "few"
        few.mkdir()
        name = sorted(p.stem for p in skeletons.iterdir())[0]
        (few / f"{name}.skeleton").symlink_to(skeletons / f"{name}.skeleton")
        (few / f"{name}_rgb.avi").symlink_to(videos / f"{name}_rgb.avi")
        assert star("prepare", "ntu60", "--videos", few, "--skeletons", few, "--out", prepared).exit_code == 0
        weights = tmp_path / "other.pth"
        torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, weights)
        extract = ("extract-tokens", prepared, "--out", tmp_path / "o.zarr", "--weights")
        one_sentence(star(*extract, weights), "other.pth")
        one_sentence(star(*extract, tmp_path / "absent.pth"), "absent.pth")
        (tmp_path / "half.pth").write_bytes(weights.read_bytes()[:100])
        one_sentence(star(*extract, tmp_path / "half.pth"), "half.pth")
        assert not (tmp_path / "o.zarr" / "zarr.json").exists()


def test_inspect_shows_a_store_to_people_and_programs(small_store: Path) -> None:
    facts = json.loads(star("inspect", small_store, "--json").stdout)
    assert (facts["clips"], facts["done"], facts["pending"]) == (4, 4, 0)
    assert facts["gg"] == [4, 1, 16, 4, 8]
    assert facts["tokens"]["jm"]["nan"] == 0
    text = star("inspect", small_store).stdout
    assert "artifact: token store" in text
    assert facts["fingerprint"] in text


def test_inspect_shows_how_large_a_store_is(small_store: Path) -> None:
    facts = json.loads(star("inspect", small_store, "--json").stdout)
    files = [path for path in small_store.rglob("*") if path.is_file() and path.name != ".lock"]
    assert facts["bytes"] == sum(p.stat().st_size for p in files if not {"commits", "log"} & set(p.parts))
    assert facts["bytes_per_clip"] == facts["bytes"] // 4
    assert (facts["dtype"], facts["codec"]) == ("float16", "none")


def test_inspect_reads_no_commit_record_often(small_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    get = LocalBlobs.get
    monkeypatch.setattr(LocalBlobs, "get", lambda self, key, **most: (read.append(key), get(self, key, **most))[1])
    facts = json.loads(star("inspect", small_store, "--json").stdout)
    commits = Counter(key for key in read if key.startswith("commits/"))
    # the shard's once for its outcomes, once for its tokens; the metadata's once to open, once for its bytes
    assert commits == {"commits/000/00000.json": 2, METADATA_RECORD: 2}
    store = TokenStore.open(small_store)
    assert (facts["content_digest"], facts["views"]) == (store.content_digest(), ["4 of 4 done"])


def test_no_video_is_drawn_into_what_is_something_else(small_store: Path, tmp_path: Path) -> None:
    store = shutil.copytree(small_store, tmp_path / "s")
    one_sentence(star("prepare", "synthetic", "--out", store, "--clips-per-class", 1), "expected an empty folder")
    assert not (store / "raw").exists()


@pytest.mark.processes
def test_a_sigterm_is_a_stop(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cli.main", "prepare", "synthetic", "--out", str(tmp_path / "p"), "--quiet"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parents[2])
    while not list(tmp_path.glob("p/raw/videos/S*")) and child.poll() is None:
        time.sleep(0.01)
    child.terminate()
    message = child.communicate(timeout=600)[1]
    assert (child.returncode, message.strip()) == (
        130,
        "star: stopped; nothing finished is lost, and the same command resumes",
    )


@pytest.mark.processes
def test_letters_and_streams_that_are_not_there_end_nothing(small_store: Path, tmp_path: Path) -> None:
    store = shutil.copytree(small_store, tmp_path / "ü ö")
    command = f"{sys.executable} -m cli.main verify '{store}'"
    for ending in ("", " 2>&-", " >&-"):
        done = subprocess.run(
            ["bash", "-c", command + ending], capture_output=True, text=True, cwd=Path(__file__).resolve().parents[2],
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert "\\xfc \\xf6: every byte that was committed is whole" in done.stdout or ending == " >&-"


def test_of_several_processes_one_reports_a_stop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stopped(path: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("cli.commands.verify.artifact_type", stopped)
    for rank, message in (("0", "star: stopped; nothing finished is lost, and the same command resumes\n"), ("1", "")):
        monkeypatch.setenv("RANK", rank)
        shown = star("verify", tmp_path)
        assert (shown.exit_code, shown.stderr) == (130, message)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EACCES, "Permission denied; ask its owner for access"),
        (errno.ENOSPC, "No space left on device; free some space"),
        (errno.EIO, "Input/output error; fix that and run the same command again"),
    ],
)
def test_what_the_system_refuses_is_shown_with_its_remedy(
    number: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: str) -> str:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr("cli.commands.inspect.artifact_type", refused)
    one_sentence(star("inspect", "/data/s"), f"star: /data/s: {message}", "nothing finished is lost")


def test_verify_prints_what_is_pending_and_what_to_delete(small_store: Path, tmp_path: Path) -> None:
    store = tmp_path / "s"
    shutil.copytree(small_store, store)
    (store / "clips.txt").write_text("other\n")
    shown = star("verify", store)
    assert shown.exit_code == 1
    assert f"{store}/clips.txt differs from what was committed: no finished clip is affected" in shown.stdout
    assert "1 file is missing or not as committed; `star retry --damaged" in shown.stderr
    assert "makes again what is named above, or delete it and their commit records" in shown.stderr
    assert f"({store}/commits/metadata.json) and run the same command again" in shown.stderr
    shutil.copy(small_store / "clips.txt", store)
    (store / "commits/000/00000.json").unlink()
    shown = star("verify", store)
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert "4 clips are pending" in shown.stdout


def test_a_damaged_description_is_shown_with_its_remedy(small_store: Path, tmp_path: Path) -> None:
    shutil.copytree(small_store, tmp_path / "s")
    (tmp_path / "s/zarr.json").write_text('{"attributes": {"for')
    one_sentence(star("inspect", tmp_path / "s"), "zarr.json: is damaged", "delete it and commits/metadata.json")


def test_verify_names_few_records_of_many() -> None:
    from cli.commands import verify

    damages = [Damage(f"s/{n}", (), f"s/commits/{n:05d}.json") for n in range(100)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "artifact_type", lambda path: "store")
        patch.setattr("pipeline.store.verify.verify_store", lambda path, deep: iter(damages))
        shown = star("verify", "s")
    assert len(shown.stdout.splitlines()) == 100
    assert "100 files are missing or not" in shown.stderr
    assert "s/commits/00007.json and 92 more like them) and run the same command again" in shown.stderr


def test_retry_fills_in_what_had_failed(tmp_path: Path) -> None:
    folder = write_prepared(tmp_path / "prepared", 3, failed=[1])
    options = replace(OPTIONS, deterministic=True)  # else a clip's companions may touch its last digits
    extract(folder.path, tmp_path / "s", options)
    one_sentence(
        star("retry", tmp_path / "s", "--device", "cuda:99"),
        "--device: this machine has no such GPU",
        "set --device to cpu",
    )
    shown = star("retry", tmp_path / "s", "--device", "cpu", "--batch", 2)
    assert (shown.exit_code, "2 done, 0 excluded, 1 failed, of 3" in shown.stdout) == (3, True)
    commit_prepared(folder, 0)
    shown = star("retry", tmp_path / "s", "--device", "cpu", "--batch", 2)
    assert (shown.exit_code, "3 done, 0 excluded, 0 failed, of 3" in shown.stdout) == (0, True)
    assert "on cpu, fp32, 2 clips at a time" in shown.stderr
    extract(folder.path, tmp_path / "fresh", options)
    assert json.loads(done("inspect", tmp_path / "s", tmp_path / "fresh", "--json"))["same_content"]
    assert json.loads(done("inspect", tmp_path / "s", "--json"))["weights"] == "random"


def test_retry_mends_a_store_that_does_not_open(tmp_path: Path) -> None:
    folder = write_prepared(tmp_path / "prepared", 3)
    extract(folder.path, tmp_path / "s", OPTIONS)
    for key, data in (("commits/000/00000.json", b"{}"), ("label/c/0", b"no labels"), ("commits/content.json", b"x")):
        (tmp_path / "s" / key).write_bytes(data)
    assert star("inspect", tmp_path / "s").exit_code == 1
    shown = star("retry", tmp_path / "s", "--damaged", "--device", "cpu", "--batch", 2)
    assert (shown.exit_code, "3 done, 0 excluded, 0 failed, of 3" in shown.stdout) == (0, True), shown.stderr
    assert star("verify", tmp_path / "s").exit_code == 0


def test_retry_of_a_prepared_folder_takes_no_options_of_a_store(tmp_path: Path) -> None:
    folder = write_prepared(tmp_path / "prepared", 2).path
    one_sentence(
        star("retry", folder, "--device", "cpu", "--batch", 2),
        "are for a token store (got --device, --batch); leave them out",
    )
    assert "2 done, 0 excluded, 0 failed, of 2" in done("retry", folder)


def test_retry_of_what_did_not_fail_needs_nothing_but_the_store(small_store: Path) -> None:
    assert "4 done, 0 excluded, 0 failed, of 4" in done("retry", small_store)


def test_a_dry_run_is_of_this_machine(small_store: Path, tmp_path: Path) -> None:
    cluster = ("--scheduler", "tcp://127.0.0.1:1", "--dry-run")
    one_sentence(star("extract-tokens", tmp_path, "--out", tmp_path / "s", *cluster), "--dry-run", "this machine")
    write_clip(tmp_path / "raw", "S001C001P001R001A001", seed=0)
    raw = ("--videos", tmp_path / "raw/videos", "--skeletons", tmp_path / "raw/skeletons")
    one_sentence(star("prepare", "ntu60", *raw, "--out", tmp_path / "p", *cluster), "--dry-run", "this machine")


def test_progress_says_once_where_the_work_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (False, True):
        with ClipProgress("extract-tokens", quiet=quiet) as progress:
            progress({"total": 3, "done": 1, "how": "cpu, fp32, 4 clips at a time"})
    assert capsys.readouterr().err == "extract-tokens: on cpu, fp32, 4 clips at a time\n"


def test_verify_names_a_flipped_bit(small_store: Path, tmp_path: Path) -> None:
    assert star("verify", small_store).exit_code == 0
    path = small_store / "jm" / "c" / "0" / "0" / "0" / "0" / "0"
    data = bytearray(path.read_bytes())
    size = 16 * 25 * 6 * 2 + 4  # a clip's chunk and its crc32c
    data[2 * size + 17] ^= 8
    try:
        path.write_bytes(data)
        shown = star("verify", small_store)
    finally:
        data[2 * size + 17] ^= 8
        path.write_bytes(data)
    assert shown.exit_code == 1
    assert "S001C001P003R001A001" in shown.stdout
    assert "S001C001P001R001A001" not in shown.stdout


def test_two_stores_are_compared(small_store: Path, tmp_path: Path) -> None:
    same = json.loads(star("inspect", small_store, small_store, "--json").stdout)
    assert (same["same_content"], same["equal"], same["unequal"]) == (True, 4, 0)
    one_sentence(star("inspect", small_store, tmp_path), str(tmp_path))


def test_deep_verification_of_a_whole_store(small_store: Path) -> None:
    shown = star("verify", small_store, "--deep")
    assert (shown.exit_code, shown.stderr) == (0, "")


def test_a_training_is_planned_without_a_run(small_store: Path, tmp_path: Path) -> None:
    train = ("train", "--from-cache", small_store, "--out", tmp_path / "run", *plain_options("data.validation=0"))
    shown = star(*train, "--dry-run")
    plan = json.loads(shown.stdout)
    assert (plan["train_clips"], plan["test_clips"]) == (2, 2)
    assert plan["parameters"] > 0
    assert not (tmp_path / "run").exists()
