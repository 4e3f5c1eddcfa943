"""Completeness: caveats printed beside an accuracy, for unfinished runs and clips without tokens.

In: a run and its store. Out: numbers. Reads no tokens and runs no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.store.token_store import TokenStore
from star.data.sampler import Batches
from star.evaluate.scoring import clips_of_its_metrics, scored_clips, store_of
from star.runs.run import Run
from star.runs.store_identity import other_content


@dataclass(frozen=True, kw_only=True)
class Completeness:
    """Of a run and a split.

    Attributes:
        step: of the newest checkpoint. steps: of the whole training.
        left_out: clips of the split without tokens (failed, missing or excluded), which are not scored.
        other_tokens: the scored clips have other tokens now than when the run began (the store was made again).
    """

    step: int
    steps: int
    left_out: int
    other_tokens: bool = False

    @property
    def finished(self) -> bool:
        return self.step == self.steps


def completeness_of(
    run: Run,
    *,
    store: TokenStore | Path | str | None = None,
    protocol: str | None = None,
    split: str = "test",
    views: str | int = "all",
) -> Completeness:
    """The arguments are those of `star.evaluate.evaluate_run`.

    Raises:
        ArtifactError: no checkpoint, no store. ConfigError, DataError: see `TokenDataset`.
    """
    optim = run.config.optim
    items = run.store["clips"]["train"]["count"]  # when it was trained: the store may have more now
    if run.config.data.views == "all":
        items *= len(run.store["views"]["train"])
    scored = scored_clips(run, store_of(run, store), protocol=protocol, split=split, views=views)
    batches = Batches(
        items=items,
        batch_size=optim.batch_size,
        epochs=optim.epochs,
        seed=run.config.seed,
        min_steps=optim.min_steps,
    )
    other = bool(other_content(run.store, clips_of_its_metrics(run, scored)))
    step = run.checkpoint().step
    return Completeness(step=step, steps=batches.steps, left_out=scored.left_out, other_tokens=other)
