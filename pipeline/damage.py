"""What `verify` finds, in both data stages.

In: a file that is not as it was committed. Out: its name, and the clips that it costs. How it was found is not its
concern.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Damage:
    """A file that differs from what was committed.

    Attributes:
        file: which.
        clips: ids of the clips that it costs; empty: none can be told, or it holds no clip.
        record: the commit record that vouches for it; without both, the same command makes them again.
    """

    file: str
    clips: tuple[str, ...]
    record: str
