"""Which of the three artifacts lies at a path: told by the one file that each of them always has."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import ArtifactError


def artifact_type(path: str) -> str:
    """ "prepared", "store" or "run".

    Raises:
        ArtifactError: nothing is there, or nothing of ours.
    """
    if "://" in path:
        return "store"
    folder = Path(path)
    if not folder.exists():
        raise ArtifactError(path, "does not exist", remedy="name a prepared folder, a token store or a run")
    if (folder / "dataset.json").is_file():
        return "prepared"
    if (folder / "zarr.json").is_file():
        return "store"
    if (folder / "config.json").is_file():
        return "run"
    raise ArtifactError(
        path,
        "is none of our artifacts",
        expected="dataset.json (prepared clips), zarr.json (a token store) or config.json (a run) in it",
    )
