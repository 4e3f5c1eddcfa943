"""`pipeline.child.process`: a child that hangs, crashes, fills its memory or is killed costs its item, no more."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from decode_children import boot, count_starts, hangs, install
from video_fixtures import build

from pipeline.child import process, wire
from pipeline.child.calls import CALLS, find, returned
from pipeline.decode.child_process import DecodeProcess
from pipeline.decode.read import probe, read_frames
from pipeline.errors import ConfigError, DecodeError, StarError

pytestmark = pytest.mark.processes

# What the child does to files of these names
STUBS = """
import signal, sys
from pipeline.decode import pyav_reader
survey, frames = pyav_reader.survey, pyav_reader.frames

def misbehave(path):
    name = pathlib.Path(path).name
    if "hang" in name:
        hang()
    if "once" in name and not os.path.exists(path + ".tried"):
        open(path + ".tried", "w").close()
        hang()
    if "segfault" in name:
        ctypes.string_at(0)
    if "memory" in name:
        raise MemoryError("no room for a frame")
    if "alloc" in name:
        os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'")
        os.abort()
    if "bug" in name:
        raise TypeError("a bug of ours")
    if "nested" in name:
        misbehave(path)
    if "killed" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    if "chatty" in name:
        os.write(1, b"a library that prints to stdout")

def stub_survey(path, **options):
    if "probe" in path:
        misbehave(path)
    return survey(path, **options)

def stub_frames(path, wanted, **options):
    if "modules" in path:
        pathlib.Path(path + ".txt").write_text(" ".join(sys.modules))
    misbehave(path)
    return frames(path, wanted, **options)

pyav_reader.survey, pyav_reader.frames = stub_survey, stub_frames
"""
BUDGET_S = 0.6  # at the end of which a child that hangs is given up; decoding gets the time it needs (`_Patient`)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("mpeg4-b0-avi", tmp_path_factory.mktemp("videos"))


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Children with the stubs, whose budgets are seconds."""
    install(monkeypatch, tmp_path, STUBS)


@pytest.fixture
def starts(stubs: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Processes that were started, all of them with the stubs; their budgets end when they hang."""
    return count_starts(monkeypatch, tmp_path)


def _named(video: Path, folder: Path, name: str) -> Path:
    path = folder / f"{name}.avi"
    path.write_bytes(video.read_bytes())
    return path


def test_the_same_as_without_it_and_one_process_for_all_calls(video: Path, starts: list[int], tmp_path: Path) -> None:
    options = {"box": (-8, 4, 40, 60), "size": (20, 30)}
    with DecodeProcess() as decoder:
        assert decoder.probe(video) == probe(video)
        for indices in ([3, 1, 1, 39], np.arange(5)):
            decoded = decoder.read_frames(video, indices, **options)
            np.testing.assert_array_equal(decoded.frames, read_frames(video, indices, **options))
            assert decoded.reader == "pyav"
        assert decoder.read_frames(video, [0], reader="opencv").reader == "opencv"
        chatty = _named(video, tmp_path, "chatty")
        np.testing.assert_array_equal(decoder.read_frames(chatty, [7]).frames, read_frames(video, [7]))
    assert len(starts) == 1


def test_errors_arrive_as_they_were(video: Path, starts: list[int], tmp_path: Path) -> None:
    with DecodeProcess() as decoder:
        with pytest.raises(DecodeError, match="too few frames") as caught:
            decoder.read_frames(video, [40])
        assert caught.value.frames == 40
        with pytest.raises(DecodeError) as expected:
            read_frames(video, [40])
        assert str(caught.value) == str(expected.value)
        with pytest.raises(ConfigError, match="mystery"):
            decoder.read_frames(video, [0], reader="mystery")
        with pytest.raises(DecodeError, match="No such file"):
            decoder.probe(tmp_path / "ü\udcff.avi")
        os.mkfifo(tmp_path / "pipe.avi")
        with pytest.raises(DecodeError, match="not a regular file"):
            decoder.probe(tmp_path / "pipe.avi")
    assert len(starts) == 1, "an answer, even a bad one, ends no process"


def test_a_hang_costs_two_budgets_and_two_new_processes(video: Path, starts: list[int], tmp_path: Path) -> None:
    path = _named(video, tmp_path, "hang-probe")
    with DecodeProcess(budget_s=BUDGET_S) as decoder:
        decoder.probe(video)
        for call in (decoder.probe, lambda path: decoder.read_frames(path, [0], reader="opencv")):
            before = len(starts)
            with pytest.raises(DecodeError, match=r"timed out after 0\.6 s, twice; .* or raise `budget_s`$"):
                call(path)
            assert len(starts) - before <= 2
            assert decoder.read_frames(video, [5]).reader == "pyav", "the next clip is served"


def test_a_budget_is_in_seconds(video: Path, stubs: None, tmp_path: Path) -> None:
    path, start = _named(video, tmp_path, "hang-probe"), time.monotonic()
    with DecodeProcess(budget_s=BUDGET_S) as decoder, pytest.raises(DecodeError, match="timed out"):
        decoder.probe(path)
    assert time.monotonic() - start >= 2 * BUDGET_S


def test_a_hang_that_passes_is_forgiven(video: Path, starts: list[int], tmp_path: Path) -> None:
    with DecodeProcess(budget_s=BUDGET_S) as decoder:
        assert decoder.read_frames(_named(video, tmp_path, "once"), [8, 2]).reader == "pyav"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("hang", r"could not be read: the process that reads it timed out after 0\.6 s, twice"),
        ("segfault", r"could not be read: the process that reads it crashed \(SIGSEGV\), twice; replace the file$"),
        ("bug", r"could not be read: .* crashed \(exit code 1: TypeError: a bug of ours\), twice"),
        ("killed", r"could not be read: .* was killed \(SIGKILL: perhaps out of memory\), twice"),
        ("memory", r"takes more than 4\.3 GB of memory; make it smaller$"),
        ("alloc", r"takes more than 4\.3 GB of memory; make it smaller$"),
        ("nested", r"is nested too deeply to be read; make the file again$"),
    ],
)
def test_no_reply_costs_its_item_alone_and_changes_no_reader(
    name: str, sentence: str, video: Path, starts: list[int], tmp_path: Path
) -> None:
    path = _named(video, tmp_path, name)
    with DecodeProcess(budget_s=BUDGET_S) as decoder:
        with pytest.raises(DecodeError, match=sentence):
            decoder.read_frames(path, [3])
        assert decoder.read_frames(path, [3], reader="opencv").reader == "opencv", "where the stubs are not"
        assert decoder.probe(video).frames == 40
    assert len(starts) <= 3


def test_memory_has_a_bound(video: Path, starts: list[int]) -> None:
    with DecodeProcess(memory_bytes=1 << 29) as decoder:
        with pytest.raises(DecodeError, match=r"takes more than 0\.5 GB of memory"):
            decoder.read_frames(video, range(40), size=(4000, 4000))
        assert decoder.read_frames(video, [3]).frames.shape == (1, 64, 96, 3)
    assert len(starts) == 3, "it is tried again in a process that has all of its memory"


def test_a_reply_has_a_bound(video: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path, "from pipeline.child import wire\nwire.REPLY_BYTES = 20_000\n")
    with DecodeProcess() as decoder:
        with pytest.raises(DecodeError, match=r"gives more than 0\.0 GB at once"):
            decoder.read_frames(video, [0, 1])
        assert decoder.read_frames(video, [0]).frames.nbytes == 64 * 96 * 3


def test_a_reply_beyond_the_bound_is_not_taken(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "REPLY_BYTES", 20_000)  # of this process alone
    with DecodeProcess() as decoder, pytest.raises(DecodeError, match=r"sent a reply that is too long, twice"):
        decoder.read_frames(video, [0, 1])


REPLIES = [
    "5", "[]", "null", '"text"', '{"dict": {}}', '{"dict": {"mystery": 1}}', '{"dict": {"value": 5}}',
    '{"dict": {"value": null, "memory": null}}', '{"dict": {"value": {"dict": {}}}}',
    '{"dict": {"value": {"VideoInfo": {"frames": "many", "height": 1, "width": 1}}}}',
    '{"dict": {"value": {"VideoInfo": {"frames": true, "height": 1, "width": 1}}}}',
    '{"dict": {"value": {"Skeleton": {"joints": 1, "xyz": 1, "present": 1, "body_ids": 1, "scores": 1}}}}',
    '{"dict": {"error": 5}}', '{"dict": {"error": ["Mystery", "a", "b", {"dict": {}}]}}',
    '{"dict": {"error": ["DataError", "a", "b", {"dict": {"mystery": 1}}]}}',
    '{"dict": {"error": ["DataError", "a", [], {"dict": {}}]}}', '{"dict": {"error": ["DataError", "a", "b", []]}}',
    '{"dict": {"error": ["DecodeError", "a", "b", {"dict": {"frames": [1]}}]}}',
    '{"dict": {"error": ["DecodeError", "a", "b", {"dict": {"frames": "3"}}]}}',
]  # fmt: skip


@pytest.mark.parametrize("reply", REPLIES)
def test_a_reply_of_another_shape_costs_its_item_alone(
    reply: str, video: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As of a reader that was taken over."""
    code = f"""
from pipeline.child import main, wire
def reply_to(name, arguments, real=main.reply_to):
    if not name.endswith(":probe"):
        return real(name, arguments)
    header = {reply!r}.encode()
    return [memoryview(wire.LENGTHS.pack(len(header), 0) + header)]
main.reply_to = reply_to
"""
    install(monkeypatch, tmp_path, code)
    with DecodeProcess() as decoder:
        with pytest.raises(DecodeError, match="the process that reads it sent a reply that makes no sense, twice"):
            decoder.probe(video)
        assert decoder.read_frames(video, [3]).frames.shape == (1, 64, 96, 3)


@pytest.mark.parametrize("name", ["os:system", "pipeline.decode.read:DecodeError", "pipeline.decode.read", ""])
def test_no_other_call_is_served(name: str, starts: list[int], tmp_path: Path) -> None:
    with process.ChildProcess() as child, pytest.raises(ConfigError, match="is no call that a child process serves"):
        child.call(name, path=f"touch {tmp_path}/made")
    assert not (tmp_path / "made").exists()


def test_a_child_that_died_between_calls_is_replaced_in_silence(video: Path, starts: list[int]) -> None:
    with DecodeProcess() as decoder:
        decoder.probe(video)
        os.kill(starts[0], signal.SIGKILL)
        os.waitid(os.P_PID, starts[0], os.WEXITED | os.WNOWAIT)
        assert decoder.probe(video).frames == 40
    assert len(starts) == 2


def test_an_interrupted_call_does_not_spoil_the_next(video: Path, stubs: None, tmp_path: Path) -> None:
    path = _named(video, tmp_path, "hang")

    def interrupt_once_it_hangs(pid: int) -> None:
        while not hangs(tmp_path, pid):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    with DecodeProcess() as decoder:
        decoder.probe(video)
        assert decoder._child is not None
        thread = threading.Thread(target=interrupt_once_it_hangs, args=(decoder._child.process.pid,))
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            decoder.read_frames(path, [0])
        thread.join()
        assert decoder.probe(video).frames == 40


def test_nothing_is_left_behind(video: Path, starts: list[int], tmp_path: Path) -> None:
    path = _named(video, tmp_path, "segfault-probe")

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    for _ in range(2):
        decoder = DecodeProcess()
        with pytest.raises(DecodeError):
            decoder.probe(path)
        decoder.probe(video)
        del decoder
    assert descriptors() == before
    for pid in starts:
        assert not Path(f"/proc/{pid}").exists()


def test_the_child_imports_nothing_heavy(video: Path, starts: list[int], tmp_path: Path) -> None:
    path = _named(video, tmp_path, "modules")
    with DecodeProcess() as decoder:
        decoder.read_frames(path, [0])
    loaded = {name.split(".")[0] for name in path.with_name(path.name + ".txt").read_text().split()}
    assert "av" in loaded
    assert not loaded & {"torch", "dask", "distributed", "cv2", "decord", "scipy", "h5py", "zarr", "matplotlib"}


def test_a_child_that_cannot_start_is_no_fault_of_the_clip(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_BOOT", "raise SystemExit('no libraries here')")
    with DecodeProcess() as decoder, pytest.raises(StarError, match=r"failed to start.*no libraries here") as caught:
        decoder.probe(video)
    assert not isinstance(caught.value, DecodeError)


def test_the_child_dies_with_its_parent_even_while_it_hangs(video: Path, tmp_path: Path) -> None:
    path = _named(video, tmp_path, "hang")
    script = tmp_path / "parent.py"
    script.write_text(
        "from pipeline.child import process\n"
        "from pipeline.decode.child_process import DecodeProcess\n"
        f"process._BOOT = {boot(STUBS)!r}\n"
        "decoder = DecodeProcess()\n"
        f"decoder.probe({str(video)!r})\n"
        "print(decoder._child.process.pid, flush=True)\n"
        f"decoder.read_frames({str(path)!r}, [0])\n"
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        env={**_environment(), "HANGS": str(tmp_path)},
    )
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        while not hangs(tmp_path, child):
            assert _lives(child), "it must not die by itself"
            time.sleep(0.01)
    finally:
        parent.kill()
        parent.communicate()
    deadline = time.monotonic() + 120
    while _lives(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _lives(child)


def _lives(pid: int) -> bool:
    """A zombie, whom nobody may be there to reap, lives no more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _environment() -> dict[str, str]:
    root = str(Path(process.__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}


@pytest.mark.parametrize("where", ["working directory", "PYTHONPATH"])
def test_a_decoy_does_not_shadow_the_package(where: str, video: Path, tmp_path: Path) -> None:
    for package in ("pipeline", "av", "numpy") if where == "working directory" else ("pipeline",):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise SystemExit('a decoy was imported')")
    changed = f"os.environ['PYTHONPATH'] = {str(tmp_path)!r}" if where == "PYTHONPATH" else ""
    script = (
        "import os\n"
        "from pipeline.decode.child_process import DecodeProcess\n"
        f"{changed}\n"
        f"print(DecodeProcess().probe({str(video)!r}).frames)\n"
    )
    run = subprocess.run(
        [sys.executable, "-P", "-c", script], cwd=tmp_path, env=_environment(), capture_output=True, text=True
    )
    assert run.stdout == "40\n", run.stderr


@pytest.mark.parametrize("name", CALLS)
def test_every_call_declares_what_it_returns(name: str) -> None:
    assert returned(name) is not None
    assert not wire.is_of(5, returned(name))


@pytest.mark.parametrize("name", CALLS)
def test_every_call_takes_its_item_first(name: str) -> None:
    pytest.importorskip(name.partition(":")[0])
    function = find(name)
    assert callable(function)
    assert next(iter(inspect.signature(function).parameters)) == "path"
