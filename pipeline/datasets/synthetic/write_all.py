"""Writes the whole synthetic data set, with several processes.

In: the number of clips of each class, a seed. Out: the files of `pipeline.datasets.synthetic.recipe`; whole files are
kept, so the same call resumes after a stop.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from pipeline.artifacts.files import sweep_temporaries
from pipeline.artifacts.lock import sole_writer
from pipeline.cluster.run_shards import ShardProgress, report, run_shards
from pipeline.datasets.synthetic.recipe import clip_names, write_clip

TASK_CLIPS = 8  # clips of one task: about a second or two of work


def write_set(
    root: Path,
    *,
    clips_per_class: int,
    seed: int,
    workers: int = 1,
    scheduler: str | None = None,
    progress: ShardProgress | None = None,
) -> None:
    """Write `clips_per_class` clips of each class below `root`; arguments and errors as `pipeline.prepare.prepare`."""
    with sole_writer(root):
        sweep_temporaries(root)
        names = clip_names(clips_per_class, seed=seed)
        if progress is not None:
            progress({"total": len(names), "done": 0})
        tasks = list(range(-(-len(names) // TASK_CLIPS)))
        where = (str(root.resolve()), clips_per_class, seed)
        made = run_shards(write_some, tasks, *where, workers=workers, scheduler=scheduler, progress=progress)
        with contextlib.closing(made):
            for _ in made:
                pass


def write_some(task: int, root: str, clips_per_class: int, seed: int) -> dict[str, Any]:
    names = clip_names(clips_per_class, seed=seed)[task * TASK_CLIPS : (task + 1) * TASK_CLIPS]
    for name in names:
        write_clip(Path(root), name, seed=seed)
        report({"clip": name, "outcome": "done"})
    return {"task": task, "clips": len(names)}
