"""Is there room on the disk? Asked before a stage starts, and by its estimate.

In: where an artifact will lie and how many bytes it needs. Out: nothing, or one sentence. What fills up in mid-run is
told by `pipeline.commit.unwritable`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.errors import ArtifactError


def bytes_free(out: Path) -> int:
    """Bytes free where `out` lies or will lie."""
    place = out.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def require_room(out: Path, needed: int) -> None:
    """Raises ArtifactError where fewer than `needed` bytes are free for `out`."""
    free = bytes_free(out)
    if free < needed:
        raise ArtifactError(
            out,
            "the disk is too small",
            got=f"{free / 1e6:,.1f} MB free",
            expected=f"at least {needed / 1e6:,.1f} MB",
            remedy="free some space, or choose an --out on another disk",
        )
