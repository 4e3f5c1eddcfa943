"""Checks of the folders of several runs: the seeds or folds of one config, or the studies of `star ablate`.

In: a folder that is to be written. Out: nothing, or an ArtifactError. A run checks its own folder
(`star.runs.run.start_run`); these are the folders above it, which have no marker file. Writes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from pipeline.artifacts.kinds import MARKERS, NAMES, type_of
from pipeline.errors import ArtifactError
from star.controls.kept import FOLDER, RECORD

SEED_FOLDER, FOLD_FOLDER = re.compile(r"seed-\d+"), re.compile(r"fold-\d+")
REMEDY = "choose another `out`, a new folder"


def require_folder_of_seeds(out: Path) -> None:
    """Refuse a folder that is not empty and holds no seed-N run; other files beside such runs are allowed.

    Raises, as the others below:
        ArtifactError: it is a file, or holds something else.
    """
    _require(out, lambda: any(map(_is_seed, _entries(out))), "seed-N run")


def require_folder_of_folds(out: Path, *, several_seeds: bool) -> None:
    """The same for OUT and its fold-N, each a run, or with several seeds a folder of seed-N runs."""
    if several_seeds:
        _require(out, lambda: any(map(_is_fold_of_seeds, _entries(out))), "fold-N folder of seed-N runs")
    else:
        _require(out, lambda: any(_is_run(path, FOLD_FOLDER) for path in _entries(out)), "fold-N run")


def require_folder_of_studies(out: Path) -> None:
    """The same for OUT and its studies: folders of variants, each with its seed-N runs; and their controls."""
    _require(out, lambda: (out / FOLDER / RECORD).exists() or any(map(_is_study, _entries(out))), "study")


def require_folder_of_variants(study: Path) -> None:
    """The same for OUT/STUDY itself, whose name is a common word."""
    _require(study, lambda: _is_study(study), "variant of the study")


def _is_seed(path: Path) -> bool:
    return _is_run(path, SEED_FOLDER)


def _is_run(path: Path, name: re.Pattern[str]) -> bool:
    """A run, or the empty folder of one that was stopped before it wrote anything."""
    if name.fullmatch(path.name) is None or not path.is_dir():
        return False
    return not _visible(path) or type_of(path) == "run"


def _is_fold_of_seeds(path: Path) -> bool:
    return FOLD_FOLDER.fullmatch(path.name) is not None and any(map(_is_seed, _entries(path)))


def _is_study(path: Path) -> bool:
    return path.is_dir() and any(_is_seed(seed) for variant in path.iterdir() for seed in _entries(variant))


def _require(out: Path, holds: Callable[[], bool], what: str) -> None:
    if out.exists() and not out.is_dir():
        raise ArtifactError(out, "is not a folder", remedy=REMEDY)
    found = type_of(out)
    if found is not None:
        raise ArtifactError(out, f"is {NAMES[found]} itself", got=MARKERS[found], remedy=REMEDY)
    names = _visible(out)
    if names and not holds():
        raise ArtifactError(out, f"is not empty and holds no {what}", got=names[0], remedy=REMEDY)


def _visible(path: Path) -> list[str]:
    return [entry.name for entry in _entries(path) if not entry.name.startswith(".")]


def _entries(path: Path) -> list[Path]:
    return sorted(path.iterdir()) if path.is_dir() else []
