"""The look at the test split of runs that were trained to choose by, once each.

In: runs, their store. Out: test scores, which a run keeps like those of its own last evaluation: RUN/test.npz and a
line of metrics.jsonl with "split": "test". They are never computed again. Trains and chooses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.artifacts.lock import sole_writer
from pipeline.store.token_store import TokenStore
from star.distributed.world import join_world
from star.evaluate.scores import Scores, save_scores
from star.evaluate.scoring import evaluate_run, saved_scores
from star.runs.metrics_log import MetricsLog
from star.runs.run import Run, score_file


def look_at_test(
    runs: Sequence[Run], store: TokenStore, *, device: str = "auto", workers: int | None = None
) -> list[Scores]:
    """Of finished runs; a run without test scores is scored, and keeps them.

    Raises:
        As `star.evaluate.evaluate_run`.
    """
    world = join_world(device)
    found = []
    for run in runs:
        scores = saved_scores(run, "test")
        if world.any(scores is None):
            scores = evaluate_run(run, split="test", store=store, device=device, workers=workers)
            if world.leads:
                _keep(run, scores)
            world.wait()
        assert scores is not None
        found.append(scores)
    return found


def looked_at(runs: Mapping[str, Sequence[Run]]) -> dict[str, list[Scores]]:
    """The kept test scores of each group of runs in which every run has them."""
    kept = {label: [saved_scores(run, "test") for run in group] for label, group in runs.items()}
    return {
        label: [each for each in scores if each is not None] for label, scores in kept.items() if None not in scores
    }


def was_looked_at(runs: Sequence[Run]) -> bool:
    """Whether any of these runs has been scored on its test split and kept it."""
    return any(line.get("split") == "test" for run in runs for line in run.metrics())


def _keep(run: Run, scores: Scores) -> None:
    """The scores first: a line stands for a file that is there."""
    last = run.metrics()[-1]
    with sole_writer(run.path):
        save_scores(scores, run.path / score_file("test"))
        log = MetricsLog(run.path, step=last["step"])
        log.write({"step": last["step"], "epoch": last["epoch"], **scores.summary()})
        log.sync()
        log.close()
