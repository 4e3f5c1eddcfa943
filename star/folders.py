"""Whether a folder may take several runs: the seeds of one config, or the studies of `star ablate`.

In: a folder that is to be written. Out: nothing, or an ArtifactError. One run looks after its own folder
(`star.run.start_run`); these are the folders above it, which hold nothing of their own to be known by. Writes nothing.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.errors import ArtifactError

SEED_FOLDER = re.compile(r"seed-\d+")
ARTIFACTS = {"dataset.json": "prepared clips", "zarr.json": "a token store", "config.json": "a run"}
REMEDY = "choose another --out, a new folder"


def require_folder_of_seeds(out: Path) -> None:
    """Refuse a folder that is there, not empty, and holds no seed-N run; files beside such runs are left alone.

    Raises:
        ArtifactError: it is a file or something else's folder.
    """
    names = _names(out)
    if names and not any(_is_seed(out / name) for name in names):
        raise ArtifactError(out, "is not empty and holds no seed-N run", got=names[0], remedy=REMEDY)


def require_folder_of_studies(out: Path) -> None:
    """Refuse a folder that is there, not empty, and holds no study: a folder of variants, each with its seed-N runs.

    Raises:
        ArtifactError: it is a file or something else's folder.
    """
    names = _names(out)
    if names and not any(_is_study(out / name) for name in names):
        raise ArtifactError(out, "is not empty and holds no study", got=names[0], remedy=REMEDY)


def require_folder_of_variants(study: Path) -> None:
    """The same for OUT/STUDY itself, whose name is a common word.

    Raises:
        ArtifactError: it is a file or something else's folder.
    """
    names = _names(study)
    if names and not _is_study(study):
        raise ArtifactError(study, "is not empty and holds no variant of the study", got=names[0], remedy=REMEDY)


def _is_seed(path: Path) -> bool:
    """A run, or one that was stopped before it wrote anything."""
    if SEED_FOLDER.fullmatch(path.name) is None or not path.is_dir():
        return False
    return not _visible(path) or (path / "config.json").is_file()


def _is_study(path: Path) -> bool:
    return path.is_dir() and any(_is_seed(seed) for variant in path.iterdir() for seed in _entries(variant))


def _names(out: Path) -> list[str]:
    """What is in it; none where it is not there."""
    if out.exists() and not out.is_dir():
        raise ArtifactError(out, "is no folder", remedy=REMEDY)
    for name, what in ARTIFACTS.items():
        if (out / name).exists():
            raise ArtifactError(out, f"holds {what} itself", got=name, remedy=REMEDY)
    return _visible(out)


def _visible(path: Path) -> list[str]:
    return [entry.name for entry in _entries(path) if not entry.name.startswith(".")]


def _entries(path: Path) -> list[Path]:
    return sorted(path.iterdir()) if path.is_dir() else []
