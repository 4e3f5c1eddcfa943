"""The three artifacts, and the one file by which each is recognised.

In: a path. Out: the type of the artifact there, or a description of what is there instead. Reads no content.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import ArtifactError

MARKERS = {"prepared": "dataset.json", "store": "zarr.json", "run": "config.json"}
NAMES = {"prepared": "a prepared folder", "store": "a token store", "run": "a training run"}


def artifact_type(path: str) -> str:
    """ "prepared", "store" or "run"; a URL is a store.

    Raises:
        ArtifactError: nothing is there, or no artifact.
    """
    if "://" in path:
        return "store"
    if not Path(path).exists():
        raise ArtifactError(path, "does not exist", remedy="name a prepared folder, a token store or a run")
    found = type_of(Path(path))
    if found is None:
        expected = "dataset.json (prepared clips), zarr.json (a token store) or config.json (a run) in it"
        raise ArtifactError(path, "is not an artifact of this program", expected=expected)
    return found


def type_of(folder: Path) -> str | None:
    """The type of the artifact in a folder; None where there is none."""
    return next((name for name, marker in MARKERS.items() if (folder / marker).is_file()), None)


def describe(path: Path, *, wanted: str) -> str:
    """What is at `path` instead of an artifact of the `wanted` type, as the problem of an error."""
    if not path.exists():
        return "does not exist"
    if not path.is_dir():
        return "is a file"
    found = type_of(path)
    if found not in (None, wanted):
        return f"is {NAMES[found]}, not {NAMES[wanted]}"
    return f"holds no {MARKERS[wanted]}" if any(path.iterdir()) else "is empty"
