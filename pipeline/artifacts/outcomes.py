"""The outcomes of an artifact's rows, and the damage that `verify` finds; for both data stages.

In: (outcome, reason) pairs, damaged files. Out: an Account, in which every row is exactly one of pending, done,
excluded (a fact of the data set), missing (a file that should be there and is not), failed; a Damage, which names the
clips that are lost with a file.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

OUTCOMES = ("pending", "done", "excluded", "failed", "missing")  # by status number, as the store holds it
WORST_FIRST = ("pending", "failed", "missing", "excluded", "done")
AGAIN = ("failed", "missing")  # what may end otherwise when it is tried again
LARGE_SHARE = 0.1  # of clips that are missing: more looks like an archive that was not unpacked


@dataclass(frozen=True, kw_only=True)
class Account:
    """The number of clips by outcome, and the reasons."""

    done: int = 0
    excluded: int = 0
    failed: int = 0
    pending: int = 0
    missing: int = 0
    reasons: tuple[tuple[str, str, int], ...] = ()  # (outcome, reason, count)

    @property
    def total(self) -> int:
        return self.done + self.excluded + self.failed + self.pending + self.missing


def account_of(outcomes: list[tuple[str, str]]) -> Account:
    """Count (outcome, reason) pairs."""
    counts = Counter(outcome for outcome, _ in outcomes)
    reasons = Counter((outcome, reason) for outcome, reason in outcomes if outcome not in ("done", "pending"))
    return Account(
        **{name: counts[name] for name in OUTCOMES},
        reasons=tuple((outcome, reason, n) for (outcome, reason), n in reasons.most_common()),
    )


DIFFERS = "differs from what was committed"


@dataclass(frozen=True)
class Damage:
    """A file that differs from what was committed.

    Attributes:
        file: its path.
        clips: ids of the clips that are lost; empty where they are not known, or the file holds none.
        record: the commit record with its digest; once both are deleted, the same command makes them again.
        problem: what is wrong with the file.
    """

    file: str
    clips: tuple[str, ...]
    record: str
    problem: str = DIFFERS
