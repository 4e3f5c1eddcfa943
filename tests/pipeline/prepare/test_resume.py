"""Stage 1 is stopped anywhere and by anything; the same command then ends in the content of an undisturbed run."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from tiny_corpus import listing, names, write_corpus

from pipeline.artifacts import files
from pipeline.artifacts.files import TEMPORARY
from pipeline.artifacts.outcomes import Account
from pipeline.child.process import ChildProcess
from pipeline.config import PrepareOptions
from pipeline.prepare import worker
from pipeline.prepare.coordinator import prepare
from pipeline.prepare.folder import PreparedFolder
from pipeline.prepare.verify import verify_prepared

pytestmark = pytest.mark.processes

ROOT = Path(__file__).resolve().parents[3]
OPTIONS = PrepareOptions(shard_clips=3)
MANY = PrepareOptions(shard_clips=2)
SEED = int(os.environ.get("SEED", "0"))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven clips: three shards, the last of them not full; one video is damaged."""
    root = tmp_path_factory.mktemp("raw")
    write_corpus(root, names(7), frames=6)
    (root / "videos" / f"{names(7)[4]}_rgb.avi").write_bytes(b"no video")
    return root


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty clips in forty shards: work for some seconds."""
    root = tmp_path_factory.mktemp("many")
    write_corpus(root, names(80))
    return root


@pytest.fixture(scope="module")
def undisturbed(many: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    assert prepare(listing(many), MANY, out) == Account(done=80)
    return out


def _same(out: Path, undisturbed: Path) -> None:
    """The same content, the same bytes, and nothing left over."""
    assert PreparedFolder.open(out).content_digest() == PreparedFolder.open(undisturbed).content_digest()
    files = {path.name for path in undisturbed.iterdir()}
    assert {path.name for path in out.iterdir()} == files
    for path in undisturbed.glob("clips-*"):
        assert (out / path.name).read_bytes() == path.read_bytes(), path.name
    assert list(verify_prepared(out)) == []


@pytest.mark.parametrize("when", ["before each clip", "before and after each clip"])
def test_a_child_killed_between_any_two_clips_changes_nothing(
    many: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    kills = 0
    real = worker.attempt

    def kill(child: Any) -> None:
        nonlocal kills
        if child._child is not None:
            child._child.process.send_signal(signal.SIGKILL)
            child._child.process.wait()
            kills += 1

    def attempt(record: Any, roots: Any, topology: Any, options: Any, child: Any) -> Any:
        kill(child)
        made = real(record, roots, topology, options, child)
        if "after" in when:
            kill(child)
        return made

    monkeypatch.setattr(worker, "attempt", attempt)
    assert prepare(listing(many), MANY, tmp_path / "out") == Account(done=80)
    assert kills >= 79
    _same(tmp_path / "out", undisturbed)


def test_a_child_killed_within_clips_changes_nothing(
    many: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill before a seeded choice of calls, of any kind; each is asked again of another child."""
    rng, kills = random.Random(SEED), 0
    real = ChildProcess.call

    def call(self: ChildProcess, name: str, /, **arguments: Any) -> Any:
        nonlocal kills
        if self._child is not None and rng.random() < 0.2:
            self._child.process.send_signal(signal.SIGKILL)  # it may die before, amid or after its answer
            kills += 1
        return real(self, name, **arguments)

    monkeypatch.setattr(ChildProcess, "call", call)
    assert prepare(listing(many), MANY, tmp_path / "out") == Account(done=80)
    assert kills > 20
    _same(tmp_path / "out", undisturbed)


class Stopped(BaseException):
    """The process is as good as dead."""


class Mortal:
    """Stands for `os` in `pipeline.artifacts.files`, and stops before or after the n-th thing that changes the disk.

    Once stopped it does nothing any more, not even tidy up: a killed process leaves its temporary files.
    """

    WRITES = ("fsync", "replace")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, last: int, after: bool) -> None:
        self.last, self.after, self.count, self.dead = last, after, 0, False
        self._unlink = Path.unlink
        monkeypatch.setattr(files, "os", self)
        monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: self._remove(path, missing_ok))

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name) if name not in self.WRITES else lambda *args: self._do(name, *args)

    def _do(self, name: str, *args: Any) -> Any:
        self.count += 1
        if self.count == self.last and not self.after:
            self.dead = True
        if self.dead:
            raise Stopped
        result = getattr(os, name)(*args)
        if self.count == self.last:
            self.dead = True
            raise Stopped
        return result

    def _remove(self, path: Path, missing_ok: bool) -> None:
        if self.dead:
            raise Stopped
        self._unlink(path, missing_ok)


def test_stopped_before_and_after_every_write_in_turn(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = listing(raw)
    prepare(rows, OPTIONS, tmp_path / "whole")
    with monkeypatch.context() as patch:
        counter = Mortal(patch, last=-1, after=True)
        prepare(rows, OPTIONS, tmp_path / "counted")
    # the folder, log/ and log/seen/, in those above them; rows.jsonl, dataset.json, three shards of two files and what
    # was seen of their raw files, manifest.jsonl: each is fsync, rename, fsync of the folder
    assert counter.count == 3 + (2 + 3 * 3 + 1) * 3
    left_behind = 0
    for last in range(1, counter.count + 1):
        for after in (False, True):
            out = tmp_path / f"{last}{'after' if after else 'before'}"
            with monkeypatch.context() as patch:
                Mortal(patch, last=last, after=after)
                with pytest.raises(Stopped):
                    prepare(rows, OPTIONS, out)
            left_behind += len(list(out.glob(f".*{TEMPORARY}*")))
            account = prepare(rows, OPTIONS, out)
            assert (account.done, account.failed, account.pending) == (6, 1, 0)
            _same(out, tmp_path / "whole")
            shutil.rmtree(out)
    assert left_behind > counter.count / 2


def test_a_retry_is_stopped_before_and_after_every_write_in_turn(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = shutil.copytree(raw, tmp_path / "corpus")
    rows = listing(corpus)
    prepare(rows, OPTIONS, tmp_path / "failed")
    write_corpus(corpus, [names(7)[4]], frames=6)
    assert prepare(rows, OPTIONS, tmp_path / "whole") == Account(done=7)
    for last in range(1, 3 * 3 + 1):  # one shard of two files, manifest.jsonl
        for after in (False, True):
            out = Path(shutil.copytree(tmp_path / "failed", tmp_path / "out"))
            with monkeypatch.context() as patch:
                Mortal(patch, last=last, after=after)
                with pytest.raises(Stopped):
                    prepare(rows, OPTIONS, out, retry=True)
            assert prepare(rows, OPTIONS, out).pending == 0  # half a retry is no harm to the first command
            assert prepare(rows, OPTIONS, out, retry=True) == Account(done=7)
            _same(out, tmp_path / "whole")
            shutil.rmtree(out)


def _start(raw: Path, out: Path, *arguments: str) -> subprocess.Popen[str]:
    """Stage 1 in a process group of its own."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from pipeline.config import PrepareOptions\n"
        "from pipeline.datasets import ntu\n"
        "from pipeline.prepare.coordinator import prepare\n"
        "if __name__ == '__main__':\n"
        "    raw, out, workers, scheduler = sys.argv[1:]\n"
        "    rows = ntu.listing(Path(raw) / 'videos', Path(raw) / 'skeletons', dataset='synthetic')\n"
        "    where = {'workers': int(workers), 'scheduler': scheduler or None}\n"
        "    prepare(rows, PrepareOptions(shard_clips=2), Path(out), **where)\n"
    )
    script = out.parent / f"{out.name}.py"
    script.write_text(code)
    command = [sys.executable, str(script), str(raw), str(out), *(arguments or ("1", ""))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, start_new_session=True, env=environment, stderr=subprocess.PIPE, text=True)


def _end_group(process: subprocess.Popen[str], kind: int = signal.SIGKILL) -> str:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, kind)
    return process.communicate(timeout=600)[1]


def _alive(group: int) -> list[str]:
    """Processes of a group that are not merely waiting for their parent to notice."""
    shown = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in shown.splitlines()]
    return [row[2] for row in rows if row[0] == str(group) and not row[1].startswith("Z")]


def _wait_for(out: Path, shards: int, process: subprocess.Popen[str]) -> bool:
    """Until so many shards are committed; False if the process ended before."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        if len(list(out.glob("clips-*.json"))) >= shards:
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.01)
    raise AssertionError("no progress in ten minutes")


def _halted_at_work(many: Path, folder: Path) -> tuple[subprocess.Popen[str], Path]:
    """Two workers in the middle of their work, stopped by SIGSTOP; a busy machine may look too late, and so again."""
    for attempt in range(10):
        out = folder / f"out-{attempt}"
        process = _start(many, out, "2", "")
        if _wait_for(out, 2, process):
            os.killpg(process.pid, signal.SIGSTOP)
            if len(list(out.glob("clips-*.json"))) < 30:  # of 40
                return process, out
        _end_group(process)
    raise AssertionError("never caught at work")


def _killed_again_and_again(many: Path, undisturbed: Path, out: Path, times: int, workers: str) -> None:
    rng = random.Random(SEED)
    kills = 0
    while kills < times:
        done = len(list(out.glob("clips-*.json"))) if out.exists() else 0
        if done >= 39:  # nothing is left to be killed in: begin again
            shutil.rmtree(out)
            done = 0
        process = _start(many, out, workers, "")
        _wait_for(out, done + rng.randint(0, 6), process)
        time.sleep(rng.uniform(0, 0.1))
        alive = process.poll() is None
        _end_group(process)
        kills += alive
        # the folder is what it says at any moment
        if (out / "dataset.json").exists():
            folder = PreparedFolder.open(out)
            assert folder.account().failed == 0
            assert list(verify_prepared(out)) == []
    final = _start(many, out, workers, "")
    assert final.communicate(timeout=600)[1] == ""
    assert final.returncode == 0
    _same(out, undisturbed)


def test_five_kills_of_the_whole_group(many: Path, undisturbed: Path, tmp_path: Path) -> None:
    _killed_again_and_again(many, undisturbed, tmp_path / "out", 5, "1")


@pytest.mark.soak
@pytest.mark.parametrize("workers", ["1", "2"])
def test_many_kills_of_the_whole_group(many: Path, undisturbed: Path, tmp_path: Path, workers: str) -> None:
    _killed_again_and_again(many, undisturbed, tmp_path / "out", int(os.environ.get("N", "50")), workers)


def test_ctrl_c_leaves_no_process_and_a_state_to_go_on_from(many: Path, undisturbed: Path, tmp_path: Path) -> None:
    process, out = _halted_at_work(many, tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    told = _end_group(process, signal.SIGCONT)
    assert process.returncode != 0
    assert told.count("Traceback") == 1  # the coordinator's own KeyboardInterrupt, which the command line catches
    assert re.search(r"KeyboardInterrupt\s*$", told)
    assert "distributed" not in told.split("KeyboardInterrupt")[-1]
    deadline = time.monotonic() + 120
    while _alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _alive(process.pid) == []
    assert PreparedFolder.open(out).account().pending > 0
    # going on with another number of workers changes nothing
    prepare(listing(many), MANY, out, workers=1)
    _same(out, undisturbed)


@contextlib.contextmanager
def _dask(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A `dask` command in a process group of its own, killed at the end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", *arguments],
        start_new_session=True,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _address(stream: IO[str] | None) -> str:
    assert stream is not None
    for line in stream:
        found = re.search(r"Scheduler at:\s+(tcp://\S+)", line)
        if found:
            return found.group(1)
    raise AssertionError("the scheduler did not start")


def test_a_dask_cluster_that_loses_a_worker_and_gets_another(many: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with contextlib.ExitStack() as stack:
        scheduler = stack.enter_context(_dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"))
        address = _address(scheduler.stderr)
        worker = ("worker", address, "--no-dashboard", "--nthreads", "1", "--no-nanny")
        started = [
            stack.enter_context(_dask(*worker)),
            stack.enter_context(_dask(*worker, "--nthreads", "2")),  # more threads are no harm either
        ]
        run = _start(many, out, "1", address)
        stack.callback(_end_group, run)
        assert _wait_for(out, 3, run)
        while not (at_work := {entry["process"] for entry in _attempts(out)}) and run.poll() is None:
            time.sleep(0.01)
        (victim, *_) = (each.pid for each in started if each.pid in at_work)  # one of them may have been slow to join
        os.killpg(victim, signal.SIGKILL)
        stack.enter_context(_dask(*worker))
        told = run.communicate(timeout=600)[1]
        assert run.returncode == 0, told
        _same(out, undisturbed)
        processes = {entry["process"] for entry in _attempts(out)}
        assert len(processes) >= 2


def _attempts(out: Path) -> list[dict[str, Any]]:
    path = out / "log" / "attempts.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_cluster_that_goes_away_is_one_sentence_and_no_loss(many: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with _dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard") as scheduler:
        address = _address(scheduler.stderr)
        with _dask("worker", address, "--no-dashboard", "--nthreads", "1", "--no-nanny"):
            run = _start(many, out, "1", address)
            assert _wait_for(out, 2, run)
            os.killpg(scheduler.pid, signal.SIGKILL)
            told = run.communicate(timeout=600)[1]
    assert "the Dask scheduler went away" in told.splitlines()[-1]
    prepare(listing(many), dataclasses.replace(MANY, budget_s=50), out)
    _same(out, undisturbed)
