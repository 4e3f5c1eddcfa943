"""Are `pipeline`, `star` and `cli` the three that were installed together? Their names are common words.

In: the import system. Out: nothing, or a DataError that names the folder in the way. Imports none of their modules.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import DataError


def one_parent() -> None:
    """Check that the packages lie side by side, and keep child processes from importing out of the working folder.

    Raises:
        DataError: a folder of the same name is in the way.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
    ours = Path(__file__).resolve().parent.parent
    for name in ("pipeline", "star", "cli", "manifests"):
        spec = find_spec(name)
        found = Path(spec.origin).resolve().parent.parent if spec is not None and spec.origin else None
        if found != ours:
            raise DataError(
                f"the package {name}",
                "is not the one this command was installed with",
                got=found or "a folder without code",
                expected=ours,
                remedy="run `star` from another folder, or take that folder off PYTHONPATH",
            )
