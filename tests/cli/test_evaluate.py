"""What `star evaluate` prints beside its accuracy: each class, clips without tokens, a run that is unfinished."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from command_line import done, one_sentence, star
from star_stores import one_thread, plain, write_small_store

from pipeline.store.token_store import TokenStore
from star.evaluate.scores import load_scores
from star.runs.run import Run
from star.train.start import train

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

CONFIG = plain("model.width=16", "data.frame_step=1", "optim.epochs=2", "optim.lr=3e-3")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs")
    store = write_small_store(folder / "small.zarr", signal=0.3, views=2, subjects=(1, 2, 4, 9))
    return train(store, folder / "run", config=CONFIG)


def test_each_class_and_the_confusion_are_printed(run: Run, tmp_path: Path) -> None:
    facts = json.loads(done("evaluate", run.path, "--json", "--scores", tmp_path / "s.npz"))
    scores = load_scores(tmp_path / "s.npz")
    right = scores.probabilities.argmax(1)
    counts = np.zeros((4, 4), int)
    for label, said in zip(scores.labels, right, strict=True):
        counts[label, said] += 1
    assert facts["confusion"] == counts.tolist()
    assert facts["per_class"] == {f"action {c}": counts[c, c] / counts[c].sum() for c in range(4)}
    assert len(set(facts["per_class"].values())) > 1  # else the order below would show nothing
    brief = done("evaluate", run.path)
    printed = done("evaluate", run.path, "--per-class")
    assert printed.startswith(brief)
    head, *table = printed.removeprefix(brief).splitlines()
    assert head.split() == ["right", "clips", "class"]
    assert [line.split()[:3] for line in table] == [
        [f"{100 * counts[c, c] / counts[c].sum():.1f}", "%", str(counts[c].sum())]
        for c in sorted(range(4), key=lambda c: (counts[c, c] / counts[c].sum(), c))
    ]
    for line in table:
        wrong = counts[int(line.split("action ")[1][0])].copy()
        wrong[int(line.split("action ")[1][0])] = 0
        assert (f"{wrong.max()} taken for action {wrong.argmax()}" in line) == bool(wrong.any())


def test_a_class_without_clips_is_null_and_no_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = TokenStore.open(run.store["url"])
    status, tested = store.status.copy(), np.array([record.subject == 9 for record in store.records()])
    status[(np.asarray(store.labels) == 2) & tested] = 3
    monkeypatch.setattr(TokenStore, "status", status)
    run = train(run.store["url"], tmp_path / "run", config=CONFIG)  # other clips than those of the run given
    shown = star("evaluate", run.path, "--json")
    facts = json.loads(shown.stdout)
    assert facts["per_class"]["action 2"] is None
    assert (facts["clips"], facts["left_out"]) == (12, 4)
    assert "4 clips of xsub test have no tokens" in shown.stderr
    assert "  action 2" not in done("evaluate", run.path, "--per-class")


def test_an_unfinished_run_says_so(run: Run, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):  # after one step of eight
        train(run.store["url"], tmp_path / "half", config=CONFIG, stop=contextlib.nullcontext(lambda: True))
    shown = star("evaluate", tmp_path / "half", "--json")
    facts = json.loads(shown.stdout)
    half = {"run": str(tmp_path / "half"), "step": 1, "steps": 8, "finished": False, "other_tokens": False}
    assert facts["training"] == [half]
    assert f"{tmp_path / 'half'} is unfinished: step 1 of 8" in shown.stderr
    shown = star("evaluate", run.path, "--against", tmp_path / "half", "--json", "--quiet")
    whole = {"run": str(run.path), "step": 8, "steps": 8, "finished": True, "other_tokens": False}
    assert json.loads(shown.stdout)["training"] == [whole, half]
    assert len(shown.stderr.splitlines()) == 1
    done("evaluate", run.path, "--scores", tmp_path / "s.npz")
    facts = json.loads(done("evaluate", tmp_path / "s.npz", "--json"))
    assert (facts["training"], facts["left_out"]) == ([], None)  # a score file does not tell


def test_progress_is_on_stderr(run: Run) -> None:
    shown = star("evaluate", run.path)
    assert shown.stderr.startswith(f"evaluate {run.path}: 32/32 clips, ")  # 16 clips in two views
    assert star("evaluate", run.path, "--quiet").stderr == ""


def test_a_name_that_evaluate_would_not_read_is_refused_first(run: Run, tmp_path: Path) -> None:
    one_sentence(star("evaluate", run.path, "--scores", tmp_path / "s.txt"), "--scores", "s.txt", ".npz")
    assert not list(tmp_path.iterdir())
