"""Several trainings compared: variants of a config, each with several seeds.

In: a store, a study (`star.studies`), a config. Out: a folder with a run for each variant and seed, table.md, table.csv
and figure.png. Each run is a run like any other, so a stopped study goes on by the same call. Chooses nothing: every
variant is reported, in the study's order.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.commit import write_atomic
from pipeline.config import at_least
from pipeline.store import TokenStore
from star.config import TrainConfig, with_overrides
from star.evaluate import evaluate_run
from star.figures import comparison_figure, png
from star.metrics import mcnemar, wilson_interval
from star.progress import TrainEvent
from star.scores import Scores, fuse, save_scores
from star.studies import variants
from star.train import train

Progress = Callable[[str, int, int, TrainEvent], None]  # (run's name, runs done, runs in all, event)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One variant of a study.

    Attributes:
        label: of the variant. top1: of each seed.
        mean, spread: over the seeds (sample standard deviation; NaN for one seed).
        interval: 95 % Wilson interval of the mean over the test clips; it does not hold the seeds' spread.
        mean_class_accuracy: the mean over the seeds.
        p_value: exact McNemar test of the seeds' fused scores against the first variant's; NaN for the first.
    """

    label: str
    top1: tuple[float, ...]
    mean: float
    spread: float
    interval: tuple[float, float]
    mean_class_accuracy: float
    p_value: float


def ablate(
    store: TokenStore | Path | str,
    out: Path | str,
    *,
    study: str,
    config: TrainConfig,
    seeds: int = 3,
    device: str = "auto",
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """Train every variant with seeds config.seed, config.seed + 1, ... and write the study's table and figure.

    Raises:
        ConfigError: no such study, or no seeds. Else as `star.train.train`.
    """
    at_least("--seeds", seeds, 1)
    chosen, folder = variants(study, config), Path(out) / study
    rows: list[Row] = []
    reference: Scores | None = None
    for i, (label, settings) in enumerate(chosen.items()):
        scores = []
        for k in range(seeds):
            name = f"{file_name(label)}/seed-{config.seed + k}"
            run = train(
                store,
                folder / name,
                config=with_overrides(config, [*settings, f"seed={config.seed + k}"]),
                device=device,
                workers=workers,
                progress=_named(progress, f"{label}, seed {config.seed + k}", i * seeds + k, len(chosen) * seeds),
            )
            scores.append(evaluate_run(run, store=store, device=device, workers=workers))
            save_scores(scores[-1], folder / name / "test.npz")
        rows.append(row_of(label, scores, reference))
        reference = reference if reference is not None else fuse(scores)
    write_atomic(folder / "table.md", markdown(study, rows).encode())
    write_atomic(folder / "table.csv", as_csv(rows).encode())
    figure = comparison_figure([row.label for row in rows], [row.top1 for row in rows], title=f"Study: {study}")
    write_atomic(folder / "figure.png", png(figure))
    return rows


def row_of(label: str, scores: Sequence[Scores], reference: Scores | None) -> Row:
    """A variant's row from its seeds' scores; `reference`: fused scores of the variant it is compared with."""
    top1 = [each.top1 for each in scores]
    clips, mean = len(scores[0].labels), float(np.mean(top1))
    return Row(
        label=label,
        top1=tuple(top1),
        mean=mean,
        spread=float(np.std(top1, ddof=1)) if len(top1) > 1 else math.nan,
        interval=wilson_interval(mean * clips, clips),
        mean_class_accuracy=float(np.mean([each.mean_class_accuracy for each in scores])),
        p_value=math.nan if reference is None else mcnemar(reference.right, fuse(scores).right),
    )


def markdown(study: str, rows: Sequence[Row]) -> str:
    """The table for people: percentages; the first row is what the last column compares with."""
    head = f"| {study} | top-1 | ± over seeds | 95 % over clips | mean class | seeds | p against the first |"
    lines = [head, "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for row in rows:
        spread = "" if math.isnan(row.spread) else f"{100 * row.spread:.1f}"
        p_value = "" if math.isnan(row.p_value) else f"{row.p_value:.2g}"
        low, high = row.interval
        lines.append(
            f"| {row.label.replace('|', '/')} | {100 * row.mean:.1f} | {spread} | {100 * low:.1f} to {100 * high:.1f} "
            f"| {100 * row.mean_class_accuracy:.1f} | {len(row.top1)} | {p_value} |"
        )
    return "\n".join(lines) + "\n"


def as_csv(rows: Sequence[Row]) -> str:
    """The table for programs: shares, a column for each seed."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    seeds = range(len(rows[0].top1))
    table.writerow(
        ["variant", "top1_mean", "top1_std", "low95", "high95", "mean_class_accuracy", "p_value"]
        + [f"top1_{k}" for k in seeds]
    )
    for row in rows:
        table.writerow(
            [row.label, row.mean, row.spread, *row.interval, row.mean_class_accuracy, row.p_value, *row.top1]
        )
    return text.getvalue()


def file_name(label: str) -> str:
    """The label as a folder's name."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")


def _named(progress: Progress | None, name: str, done: int, total: int) -> Callable[[TrainEvent], None] | None:
    if progress is None:
        return None
    return lambda event: progress(name, done, total, event)
