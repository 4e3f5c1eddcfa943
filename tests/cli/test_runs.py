"""The commands about runs: several seeds, fusion, paired tests, studies; each number against the library's own."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import done, one_sentence, star
from star_stores import one_thread, plain_options, write_small_store

from pipeline import manifest
from pipeline.artifacts.files import write_atomic
from pipeline.store.token_store import TokenStore
from star.evaluate.clusters import paired_difference
from star.evaluate.metrics import mcnemar
from star.evaluate.scores import fuse, load_scores, save_scores
from star.runs.run import open_run

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

SETTINGS = ("model.width=16", "data.frame_step=1", "optim.epochs=2", "optim.lr=3e-3", "eval_every=0")
SMALL = ["--quiet", "--device", "cpu", *plain_options(*SETTINGS)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_store(tmp_path_factory.mktemp("stores") / "small.zarr", signal=0.3, subjects=(1, 2, 4, 9))


@pytest.fixture(scope="module")
def seeded(store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of two seeds, 4 and 5, and what the command printed."""
    out = tmp_path_factory.mktemp("runs") / "seeds"
    return out, done("train", "--from-cache", store, "--out", out, "--seeds", 2, "--seed", 4, "--tensorboard", *SMALL)


def test_seeds_are_runs_and_their_mean_is_printed(store: Path, seeded: tuple[Path, str]) -> None:
    out, printed = seeded
    top1 = []
    for seed in (4, 5):
        run = open_run(out / f"seed-{seed}")
        assert run.config.seed == seed
        assert list((run.path / "tensorboard").iterdir())
        top1.append(run.metrics()[-1]["top1"])
        assert load_scores(run.path / "test.npz").top1 == top1[-1]
        assert f"seed {seed}: top-1 {top1[-1]:.4f}" in printed
    assert len(set(top1)) == 2  # else mean and spread would show nothing
    assert f"mean top-1 {np.mean(top1):.4f}, standard deviation over 2 seeds {np.std(top1, ddof=1):.4f}" in printed
    again = done("train", "--from-cache", store, "--out", out, "--seeds", 2, "--seed", 4, "--json", *SMALL)
    facts = json.loads(again)
    assert (facts["run"], facts["seeds"], facts["top1"]) == (str(out), [4, 5], top1)
    low, high = facts["interval95"]
    assert low < facts["mean"] < high


def test_one_seed_is_a_plain_run_and_the_two_forms_do_not_mix(
    store: Path, seeded: tuple[Path, str], tmp_path: Path
) -> None:
    train = ("train", "--from-cache", store, *SMALL, "--out")
    printed = done(*train, tmp_path / "run", "--seeds", 1, "--seed", 4)
    run = open_run(tmp_path / "run")
    assert run.metrics() == open_run(seeded[0] / "seed-4").metrics()
    assert printed.splitlines() == done("evaluate", tmp_path / "run").splitlines()
    assert not (tmp_path / "run" / "tensorboard").exists()
    one_sentence(star(*train, tmp_path / "run", "--seeds", 2), "is a training run itself")
    one_sentence(star(*train, seeded[0]), "is not empty")
    assert star(*train, tmp_path / "none", "--seeds", 0).exit_code == 2
    plan = json.loads(done(*train, tmp_path / "none", "--seeds", 3, "--dry-run"))
    assert plan["runs"] == 3
    assert not (tmp_path / "none").exists()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


def test_several_runs_are_not_written_among_other_things(store: Path, seeded: tuple[Path, str], tmp_path: Path) -> None:
    write_atomic(tmp_path / "desk" / "thesis.tex", b"years")
    write_atomic(tmp_path / "prepared" / "dataset.json", b"{}")
    write_atomic(tmp_path / "folders" / "seed-0" / "thesis.tex", b"years")
    write_atomic(tmp_path / "studies" / "attention" / "thesis.tex", b"years")
    write_atomic(tmp_path / "half" / "attention" / "uniform" / "thesis.tex", b"years")
    write_atomic(tmp_path / "half" / "attention" / "softmax" / "seed-0" / "config.json", b"{}")
    write_atomic(tmp_path / "file", b"")
    refused = {"desk": "thesis.tex", "prepared": "a prepared folder", "folders": "seed-0", "file": "not a folder"}
    both = {**refused, "half": "thesis.tex", "studies": "attention"}
    before = contents(tmp_path)
    seeds = ("train", "--from-cache", store, "--seeds", 2, *SMALL, "--out")
    study = ("ablate", store, "--study", "attention", "--seeds", 1, "--no-controls", *SMALL, "--out")
    for name, words in both.items():
        one_sentence(star(*study, tmp_path / name), name, words, "another --out")
        if name in refused:
            one_sentence(star(*seeds, tmp_path / name), name, words, "another --out")
    assert contents(tmp_path) == before
    before = contents(store)
    for command in (seeds, study):
        one_sentence(star(*command, store), "is a token store itself")
    assert contents(store) == before
    one_sentence(star(*study, seeded[0] / "seed-4"), "is a training run itself")
    one_sentence(star(*study, seeded[0]), "holds no study")
    write_atomic(seeded[0] / "fused.npz", b"beside the runs")  # as a user may
    done(*seeds, seeded[0], "--seed", 4)


def test_several_runs_are_fused(seeded: tuple[Path, str], tmp_path: Path) -> None:
    runs = [seeded[0] / f"seed-{seed}" for seed in (4, 5)]
    single = [load_scores(run / "test.npz") for run in runs]
    expected = fuse(single)
    facts = json.loads(done("evaluate", *runs, "--json", "--scores", tmp_path / "fused.npz"))
    assert facts["run"] == f"{runs[0]} + {runs[1]}"
    assert facts["top1"] == expected.top1
    assert [each["top1"] for each in facts["fused"]] == [scores.top1 for scores in single]
    assert np.array_equal(load_scores(tmp_path / "fused.npz").probabilities, expected.probabilities)
    printed = done("evaluate", *runs)
    assert len(re.findall(r"^top-1", printed, flags=re.MULTILINE)) == 3
    assert printed.splitlines()[-2].startswith(f"top-1 {expected.top1:.4f}")
    files = [run / "test.npz" for run in runs]  # score files stand for their runs
    assert [json.loads(done("evaluate", *each, "--json"))["trained_on"] for each in (runs, files)] == [0, 0]
    assert json.loads(done("evaluate", *files, "--json"))["top1"] == expected.top1


def test_clips_that_were_trained_on_are_printed(store: Path, seeded: tuple[Path, str], tmp_path: Path) -> None:
    run = seeded[0] / "seed-4"
    opened = TokenStore.open(store)
    sides = [manifest.split(opened.records(), "synthetic", protocol) for protocol in ("xsub", "xview")]
    trained, scored = ({record.clip_id for record in side} for side in (sides[0]["train"], sides[1]["test"]))
    held_out = set(load_scores(run / "val.npz").clip_ids.tolist())
    assert len(held_out) == 16
    assert held_out < trained
    trained -= held_out
    assert 0 < len(trained & scored) < len(scored)
    assert json.loads(done("evaluate", run, "--json"))["trained_on"] == 0
    assert json.loads(done("evaluate", run, "--split", "train", "--json"))["trained_on"] == len(trained)
    shown = star("evaluate", run, "--protocol", "xview", "--json")
    assert json.loads(shown.stdout)["trained_on"] == len(trained & scored)
    note = f"{run} was trained on {len(trained & scored)} of these {len(scored)} clips"
    assert note in shown.stderr
    other = run.parent / "other"
    done("train", "--from-cache", store, "--out", other, "--protocol", "xview", *SMALL)
    shown = star("evaluate", other, "--against", run, "--protocol", "xview", "--json")
    assert (json.loads(shown.stdout)["trained_on"], note in shown.stderr) == (0, True)
    done("evaluate", run, "--protocol", "xview", "--scores", tmp_path / "s.npz", "--quiet")
    done("evaluate", other, run, "--protocol", "xview", "--scores", tmp_path / "fused.npz", "--quiet")
    for name in ("s.npz", "fused.npz"):  # as the runs themselves do
        shown = star("evaluate", tmp_path / name, "--protocol", "xview", "--json")
        assert json.loads(shown.stdout)["trained_on"] == len(trained & scored)
        assert f"{name} was trained on {len(trained & scored)} of these" in shown.stderr
    save_scores(replace(load_scores(tmp_path / "s.npz"), trained_on=None), tmp_path / "unknown.npz")
    shown = star("evaluate", tmp_path / "unknown.npz", "--json")
    assert json.loads(shown.stdout)["trained_on"] is None
    assert f"not known whether {tmp_path / 'unknown.npz'} was trained on some of these" in shown.stderr
    shown = star("evaluate", other, "--against", run, "--protocol", "xview", "--json")
    assert json.loads(shown.stdout)["against"]["trained_on"] == len(trained & scored)
    shutil.rmtree(other)


def test_a_damaged_run_or_score_file_is_one_sentence(store: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.npz").touch()
    one_sentence(star("evaluate", tmp_path / "empty.npz"), "is not a score file")
    done("train", "--from-cache", store, "--out", tmp_path / "run", *SMALL)
    config = tmp_path / "run" / "config.json"
    config.write_text(config.read_text()[:100])
    for command in (
        ["evaluate", tmp_path / "run"],
        ["train", "--from-cache", store, "--out", tmp_path / "run", *SMALL],
    ):
        one_sentence(star(*command), "config.json: is damaged: it is not JSON")


def test_two_runs_are_compared_on_the_same_clips(seeded: tuple[Path, str]) -> None:
    first, second = (seeded[0] / f"seed-{seed}" for seed in (4, 5))
    a, b = (load_scores(run / "test.npz").right for run in (first, second))
    facts = json.loads(done("evaluate", first, "--against", second, "--json"))["against"]
    assert (facts["only_first"], facts["only_second"]) == ((a & ~b).sum(), (b & ~a).sum())
    assert facts["p_value"] == mcnemar(a, b)
    assert facts["only_first"] + facts["only_second"] > 0
    printed = done("evaluate", first, "--against", second)
    assert f"McNemar's exact test p = {mcnemar(a, b):.3g}" in printed
    assert "(t-test over 16 clips)" in printed  # one subject, and no performance twice


def test_what_belongs_together_is_compared_together(seeded: tuple[Path, str], tmp_path: Path) -> None:
    scores = [load_scores(seeded[0] / f"seed-{seed}" / "test.npz") for seed in (4, 5)]
    first, second = (replace(each, subjects=np.arange(16) // 4) for each in scores)
    files = [tmp_path / "first.npz", tmp_path / "second.npz"]
    for each, path in zip((first, second), files, strict=True):
        save_scores(each, path)
    printed = done("evaluate", files[0], "--against", files[1])
    low, high = first.interval
    assert f"top-1 {first.top1:.4f} (95 % interval {low:.4f} to {high:.4f} over the clips, " in printed
    low, high = first.cluster_interval
    assert f", {low:.4f} to {high:.4f} over 4 subjects), top-5" in printed
    expected = paired_difference(first.right, second.right, first.clusters)
    low, high = (100 * end for end in expected.interval)
    assert f"difference {100 * expected.value:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}, p = " in printed
    assert f"p = {expected.p_value:.3g} (t-test over 4 subjects)\n{expected.power()}\n" in printed
    facts = json.loads(done("evaluate", files[0], "--against", files[1], "--json"))
    assert facts["against"].items() >= expected.summary().items()
    assert (facts["over"], facts["clusters"]) == ("subjects", 4)
    assert facts["cluster_interval95"] == list(first.cluster_interval)


def test_other_clips_are_refused(seeded: tuple[Path, str], tmp_path: Path) -> None:
    first = seeded[0] / "seed-4"
    scores = load_scores(first / "test.npz")
    each = {name: getattr(scores, name)[1:] for name in ("clip_ids", "labels", "probabilities")}
    fewer = replace(scores, **each, subjects=scores.subjects[1:], performances=scores.performances[1:])
    save_scores(fewer, tmp_path / "fewer.npz")
    one_sentence(
        star("evaluate", first, tmp_path / "fewer.npz", "--quiet"), str(first), "different clips", scores.clip_ids[0]
    )
    one_sentence(
        star("evaluate", first, "--quiet", "--against", tmp_path / "fewer.npz"), "fewer.npz", "different clips"
    )
    one_sentence(star("evaluate", first / "test.npz", "--split", "train"), "test.npz", "expected xsub train")
    for option in (("--store", "elsewhere"), ("--views", "0")):
        one_sentence(star("evaluate", first / "test.npz", *option), "test.npz", "holds scores already")
    one_sentence(star("evaluate", first, "--views", "random"), "--views", "all, or a view's number")
    write_atomic(tmp_path / "bad.npz", b"no scores")
    one_sentence(star("evaluate", first, tmp_path / "bad.npz", "--quiet"), "bad.npz", "not a score file")
    one_sentence(star("evaluate", first, tmp_path / "absent", "--quiet"), "absent", "does not exist")


def test_a_study_is_planned_trained_and_printed(store: Path, tmp_path: Path) -> None:
    study = ("ablate", store, "--study", "attention", "--seeds", 2, "--out", tmp_path / "out", "--no-controls", *SMALL)
    plan = json.loads(done(*study, "--dry-run"))
    assert plan["runs"] == 4
    assert [variant["label"] for variant in plan["variants"]] == ["softmax", "uniform"]
    assert (plan["train_clips"], plan["validation_clips"], plan["test_clips"]) == (32, 16, 16)
    assert plan["variants"][1]["settings"] == ["model.uniform_attention=true"]
    assert plan["controls"] == []
    assert not (tmp_path / "out").exists()
    printed = done(*study)
    folder = tmp_path / "out" / "attention"
    assert printed == f"{folder}\n{(folder / 'table.md').read_text()}"
    runs = [Path(run) for variant in plan["variants"] for run in variant["runs"]]
    written = {run: (run / "metrics.jsonl").stat().st_mtime_ns for run in runs}
    facts = json.loads(done(*study, "--json"))
    assert [row["label"] for row in facts["variants"]] == ["softmax", "uniform"]
    assert [(each["pair"], each["difference"]) for each in facts["pairs"]] == [
        (["softmax", "uniform"], facts["variants"][0]["mean"] - facts["variants"][1]["mean"])
    ]
    for row, pair in zip(facts["variants"], (runs[:2], runs[2:]), strict=True):
        lines = [line for run in pair for line in open_run(run).metrics() if line.get("split") == "val"]
        assert row["top1"] == [line["top1"] for line in lines]
    assert (facts["split"], facts["looks"]) == ("val", 1)
    assert {run: (run / "metrics.jsonl").stat().st_mtime_ns for run in runs} == written  # nothing is trained again


def test_a_study_tells_its_controls(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("star.controls.gru.MOST_STEPS", 5)
    study = ("ablate", store, "--study", "attention", "--seeds", 1, "--out", tmp_path / "out", *SMALL)
    shown = star(*study, "--dry-run")
    plan = json.loads(shown.stdout)
    assert plan["runs"] == 3
    assert plan["controls"][:2] == ["softmax, shuffled labels", "most frequent class"]
    assert "star: note: no control sees pixels: " in shown.stderr  # the store was made from none
    assert not (tmp_path / "out").exists()
    facts = json.loads(done(*study, "--json", "--test", "none"))
    labels = [row["label"] for row in facts["controls"]]
    assert set(labels) <= set(plan["controls"])
    assert facts["pairs"][-1]["pair"] == ["softmax", "ridge on all JM tokens"]
    assert f"| control: {labels[0]} |" in done(*study, "--test", "none")


def test_what_a_small_split_makes_of_the_steps_is_told(store: Path, tmp_path: Path) -> None:
    train = ("train", "--from-cache", store, "--json", *(each for each in SMALL if each != "--quiet"))
    shown = star(*train, "--out", tmp_path / "run", "--set", "optim.batch_size=64", "--set", "optim.min_steps=3")
    assert "star: note: a step takes all 32 training clips (optim.batch_size=64)\n" in shown.stderr
    assert "3 steps are 3 epochs of 32 training clips, not 2 (optim.min_steps=3)\n" in shown.stderr
    assert json.loads(shown.stdout)["clips"] == 16
    assert open_run(tmp_path / "run").metrics()[-1]["epoch"] == 3
    shown = star(*train, "--out", tmp_path / "fits", "--set", "optim.batch_size=32", "--set", "optim.min_steps=2")
    assert "note" not in shown.stderr
    shown = star(*train, "--out", tmp_path / "quiet", "--set", "optim.batch_size=64", "--quiet")
    assert "note" not in shown.stderr


def test_a_study_that_was_stopped_goes_on(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cli.training import TrainProgress

    study = ("ablate", store, "--study", "attention", "--seeds", 1, "--out", tmp_path / "out", "--no-controls", *SMALL)
    seen: list[tuple[str, int]] = []

    def stop(self: TrainProgress, name: str, done: int, total: int, event: object) -> None:
        seen.append((name, done))
        if name == "uniform, seed 0" and len(seen) == stopping:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainProgress, "of_run", stop)
    stopping = 10  # of 8 + 8 steps and an evaluation each
    shown = star(*study)
    assert shown.exit_code == 130
    assert "the same command resumes" in shown.stderr
    assert not (tmp_path / "out" / "attention" / "table.md").exists()
    seen.clear()
    stopping = -1
    assert "| uniform |" in done(*study)
    assert {name for name, _ in seen} == {"uniform, seed 0"}


def test_bad_studies_are_one_sentence(store: Path, tmp_path: Path) -> None:
    ablate = ("ablate", store, "--out", tmp_path / "out", *SMALL, "--study")
    one_sentence(star(*ablate, "everything"), "everything", "tokens | layers | modules", "baselines")
    one_sentence(star(*ablate, "everything", "--dry-run"), "everything", "data-fraction")
    one_sentence(star("ablate", tmp_path / "no.zarr", "--out", tmp_path / "out", "--study", "tokens"), "no.zarr")
    assert star("ablate", store, "--out", tmp_path / "out").exit_code == 2
    assert not (tmp_path / "out").exists()
