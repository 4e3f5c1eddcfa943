"""Errors that a user or a file can cause: each names the item, what was got, what was expected, and the remedy.

In: the facts. Out: one sentence, printed by the command line without a traceback. What our own code guarantees is an
`assert` instead. All errors can be pickled, since Dask sends them between processes.
"""

from __future__ import annotations

from functools import partial
from typing import Any

JOINERS = "\u200c\u200d"  # no letters, but Persian, Hindi and emoji need them


def printable(text: str) -> str:
    """`text` as it may be shown: what would move a cursor, colour a terminal or turn the direction of writing becomes
    an escape such as \\x1b. Names come from files, and so from anyone."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in JOINERS else c.encode("unicode_escape").decode() for c in text)


class StarError(Exception):
    """One sentence about one item.

    Args:
        item: the file, clip, argument or folder concerned; an argument by its Python name.
        problem: what is wrong with it, as the middle of a sentence.
        got, expected: the facts, where there are any.
        remedy: what to do next, in the imperative; arguments in backticks.
    """

    def __init__(
        self,
        item: object,
        problem: str,
        *,
        got: object = None,
        expected: object = None,
        remedy: str | None = None,
    ) -> None:
        self.item, self.problem, self.got, self.expected, self.remedy = str(item), problem, got, expected, remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        facts = [f"got {self.got}"] if self.got is not None else []
        facts += [f"expected {self.expected}"] if self.expected is not None else []
        text = f"{self.item}: {self.problem}"
        text += f" ({', '.join(facts)})" if facts else ""
        text += f"; {self.remedy}" if self.remedy else ""
        return printable(" ".join(text.split()))

    def __reduce__(self) -> tuple[object, ...]:
        rebuild = partial(type(self), got=self.got, expected=self.expected, remedy=self.remedy)
        return (rebuild, (self.item, self.problem))


class ConfigError(StarError):
    """An argument, name or setting that does not exist or is not valid."""


class SettingError(ConfigError):
    """A setting of a training, by its key; no argument, even where one has the same name."""


class DataError(StarError):
    """A file or folder of the user's that is missing, empty, damaged or of the wrong type."""


class DecodeError(DataError):
    """A video that does not give exactly the frames asked for.

    `frames` is the true number of frames, where a wrong number is the problem, so that a caller can draw its indices
    again; else None.
    """

    def __init__(self, item: object, problem: str, *, frames: int | None = None, **facts: Any) -> None:
        self.frames = frames
        super().__init__(item, problem, **facts)

    def __reduce__(self) -> tuple[object, ...]:
        return (*super().__reduce__(), {"frames": self.frames})


class ReaderError(DecodeError):
    """A video that this reader cannot decode, whatever is tried, where another one may."""


class SkeletonError(DataError):
    """A skeleton or pose file that cannot be read exactly."""


class ArtifactError(StarError):
    """A prepared folder, token store or run that is missing, of the wrong type, made from something else, or full."""


class CorruptError(ArtifactError):
    """Bytes of an artifact that do not match their digest."""
