"""A check that `pipeline`, `star` and `cli` are the packages installed together: their names are common words.

In: the import system. Out: nothing, or a DataError that names the folder imported instead. Imports none of them.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import DataError


def require_own_packages() -> None:
    """Raise DataError where another package of the same name is imported first, and keep child processes from importing
    from the working folder."""
    os.environ["PYTHONSAFEPATH"] = "1"
    root = Path(__file__).resolve().parent.parent
    for name in ("pipeline", "star", "cli", "manifests"):
        spec = find_spec(name)
        found = Path(spec.origin).resolve().parent.parent if spec is not None and spec.origin else None
        if found != root:
            raise DataError(
                f"the package {name}",
                "is not the one this command was installed with",
                got=found or "a folder without code",
                expected=root,
                remedy="run `star` from another folder, or take that folder off PYTHONPATH",
            )
