"""How the rows of an artifact ended, and what `verify` finds damaged; for both data stages.

In: (outcome, reason) pairs, damaged files. Out: an Account, in which every row is exactly one of pending, done,
excluded, failed; a Damage, which names the clips that a file costs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

OUTCOMES = ("pending", "done", "excluded", "failed")  # by status number, as the store holds it


@dataclass(frozen=True, kw_only=True)
class Account:
    """How many clips ended how, and why: every row is exactly one of done, excluded, failed, pending."""

    done: int = 0
    excluded: int = 0
    failed: int = 0
    pending: int = 0
    reasons: tuple[tuple[str, str, int], ...] = ()  # (outcome, reason, how many)

    @property
    def total(self) -> int:
        """All rows."""
        return self.done + self.excluded + self.failed + self.pending


def account_of(outcomes: list[tuple[str, str]]) -> Account:
    """Count (outcome, reason) pairs."""
    counts = Counter(outcome for outcome, _ in outcomes)
    reasons = Counter((outcome, reason) for outcome, reason in outcomes if outcome in ("excluded", "failed"))
    return Account(
        **{name: counts[name] for name in OUTCOMES},
        reasons=tuple((outcome, reason, n) for (outcome, reason), n in reasons.most_common()),
    )


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
