"""Everything on disk may come from a stranger: each attack of the list ends in one sentence, or harmlessly.

Never in a traceback, a hang, a file touched outside the artifact, or memory that its claims ask for (checked in a
process that may have no more than `ROOM` beyond what it has when it begins).
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from extract_corpus import OPTIONS, install

from attack.attacks import BOMBS, HARMLESS, LINKS, PREPARED, RUN, SCORES, STORE
from attack.changes import Attack
from attack.conftest import CONFIG
from pipeline.errors import StarError
from pipeline.extract.coordinator import extract
from pipeline.prepare.coordinator import prepare
from pipeline.prepare.folder import PreparedFolder
from pipeline.prepare.verify import verify_prepared
from pipeline.store.token_store import TokenStore
from pipeline.store.verify import verify_store
from star.evaluate.completeness import completeness_of
from star.evaluate.scores import load_scores
from star.evaluate.scoring import evaluate_run, final_scores
from star.report.html import report
from star.runs.run import open_run
from star.train.start import train

ROOM = 600 << 20  # bytes
LONGEST = 2000  # letters of a sentence
CANARY = b"a stranger's file, or the user's own"
BOMB_CHILD = "from attack.test_attacks import bombs; bombs()"


def read_store(root: Path) -> None:
    store = TokenStore.open(root / "store")
    rows = np.flatnonzero((store.status == 1).all(axis=1))
    assert len(rows) == 6
    for view in range(store.sizes.views):
        store.read(rows, view=view)
        store.read_joints(rows, view=view)
    store.records(), store.survey()
    assert {store.attrs["class_names"][label] for label in store.labels} <= {"bowl", "pullup", "squat"}


def verified_store(root: Path) -> None:
    damages = list(verify_store(root / "store", deep=True))
    if damages:
        raise StarError(damages[0].file, damages[0].problem)


def read_prepared(root: Path) -> None:
    folder = PreparedFolder.open(root / "prepared")
    for number in range(folder.shards):
        record = folder.shard(number).record()
        assert record is not None
        for clip, entry in zip(folder.shard(number).clips(record), record["clips"], strict=True):
            if clip is not None and clip.digest() != entry["sha256"]:
                raise StarError(entry["id"], "does not match its digest")
    folder.outcomes(), folder.account(), folder.content_digest()


def verified_prepared(root: Path) -> None:
    damages = list(verify_prepared(root / "prepared"))
    if damages:
        raise StarError(damages[0].file, damages[0].problem)


def extracted(root: Path) -> None:
    account = extract(root / "prepared", root / "another", OPTIONS)
    if account.failed:
        raise StarError("the store", f"has {account.failed} failed clips")


def read_run(root: Path) -> None:
    run = open_run(root / "run")
    scores = evaluate_run(run, device="cpu", workers=0)
    run.metrics(), report(run, scores, completeness=completeness_of(run))


def resumed(root: Path) -> None:
    train(root / "tokens", root / "run", config=CONFIG, device="cpu", workers=0)
    run = open_run(root / "run")
    for split in ("val", "test"):
        final_scores(run, split=split, device="cpu", workers=0)
    run.metrics()


def read_scores(root: Path) -> None:
    scores = load_scores(root / "run/test.npz")
    scores.summary(), list(scores.worst_first()), scores.confusion, scores.seen_in_training


def written(root: Path) -> None:
    """Everything that writes into an artifact, each on its own."""

    def retried() -> None:
        folder = PreparedFolder.open(root / "prepared")
        (root / "prepared/clips-00001.json").unlink()
        listing = replace(folder.listing, roots={"videos": str(root), "skeletons": str(root)})
        prepare(listing, folder.options, root / "prepared", retry=True)

    def grown() -> None:
        (root / "store/commits/000/00001.json").unlink(missing_ok=True)
        extract(root / "prepared", root / "store", OPTIONS)

    def trained() -> None:
        for path in (root / "run").glob("checkpoint-*.pt"):
            path.unlink()
        train(root / "tokens", root / "run", config=CONFIG, device="cpu", workers=0, tensorboard=True)

    for work in (grown, trained, retried):
        with contextlib.suppress(StarError):
            work()


def canary(root: Path) -> Callable[[], None]:
    """Puts a file and a folder outside of every artifact; the check that both are as they were."""
    (root / "canaries").mkdir()
    for path in (root / "canary", root / "canaries/file"):
        path.write_bytes(CANARY)
        os.utime(path, ns=(10**18, 10**18))

    def untouched() -> None:
        for path in (root / "canary", root / "canaries/file"):
            assert path.read_bytes() == CANARY
            assert path.stat().st_mtime_ns == 10**18
        assert [path.name for path in (root / "canaries").iterdir()] == ["file"]
        assert not Path("/tmp/should-not-exist").exists()

    return untouched


def outcome(use: Callable[[Path], None], root: Path) -> str:
    """The sentence in which the use of an artifact ends, "" where it succeeds."""
    sentence = ""
    try:
        use(root)
    except StarError as error:
        sentence = str(error)
    assert sentence.isprintable()
    assert len(sentence) < LONGEST
    return sentence


CASES = [
    *(("store", name, attack) for name, attack in STORE.items()),
    *(("prepared", name, attack) for name, attack in PREPARED.items()),
    *(("run", name, attack) for name, attack in RUN.items()),
    *(("scores", name, attack) for name, attack in SCORES.items()),
]
USES = {
    "store": (read_store, verified_store),
    "prepared": (read_prepared, verified_prepared, extracted),
    "run": (read_run, resumed),
    "scores": (read_scores,),
}


@pytest.mark.parametrize(("kind", "name", "attack"), CASES, ids=[f"{kind}: {name}" for kind, name, _ in CASES])
def test_an_attack_ends_in_a_sentence(place: Path, kind: str, name: str, attack: Attack) -> None:
    untouched = canary(place)
    attack(place)
    ends = [outcome(use, place) for use in USES[kind]]
    assert any(ends), "nobody noticed"
    untouched()


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_not_read_does_no_harm(place: Path, name: str) -> None:
    HARMLESS[name](place)
    assert [outcome(use, place) for use in USES["run"]] == ["", ""]


@pytest.mark.parametrize("name", LINKS)
def test_nothing_is_written_through_a_link(place: Path, name: str) -> None:
    untouched = canary(place)
    LINKS[name](place)
    written(place)
    untouched()


@pytest.mark.processes
def test_no_claim_takes_memory(whole: Path, tmp_path: Path) -> None:
    """All bombs, in one process whose memory is bounded: no MemoryError, and no process killed."""
    tests = Path(__file__).resolve().parent.parent
    paths = os.pathsep.join([str(tests), str(tests.parent)])
    environment = {**os.environ, "PYTHONPATH": paths, "BOMBS_FROM": str(whole), "BOMBS_IN": str(tmp_path)}
    shown = subprocess.run(
        [sys.executable, "-c", BOMB_CHILD], env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    assert shown.returncode == 0, shown.stderr[-3000:]
    assert set(json.loads(shown.stdout.splitlines()[-1])) == set(BOMBS)


def bombs() -> None:
    """The body of that process; prints the names of the bombs that ended in a sentence."""
    import shutil

    install()
    whole, tried = Path(os.environ["BOMBS_FROM"]), Path(os.environ["BOMBS_IN"])
    for kind in USES:  # all modules are imported, and torch has its threads
        shutil.copytree(whole, tried / kind)
        for use in USES[kind]:
            use(tried / kind)
    with open("/proc/self/statm") as file:
        held = int(file.read().split()[5]) * resource.getpagesize()  # data and stack
    resource.setrlimit(resource.RLIMIT_DATA, (held + ROOM, held + ROOM))
    ended = []
    for number, (name, (kind, attack)) in enumerate(BOMBS.items()):
        root = tried / str(number)
        shutil.copytree(whole, root)
        attack(root)
        if any(outcome(use, root) for use in USES[kind]):
            ended.append(name)
        shutil.rmtree(root)
    print(json.dumps(ended))
