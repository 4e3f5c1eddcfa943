"""Facts about videos: a VideoRecord for each video, a Listing for each data set, and random generators keyed by them.

In: names and folders, through a recipe. Out: frozen values. Records describe files; they never hold pixels or joints.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

UNKNOWN = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoRecord:
    """One video of a data set.

    Attributes:
        clip_id: unique in the data set; the listing is sorted by it.
        key: `clip_id` without its action field; it keys random generators, so that they cannot depend on the label.
        label: class index, 0-based, into the listing's `class_names`.
        subject, camera, setup, replication: as numbered by the data set; -1 where it has none.
        split: "train", "val" or "test" where the data set itself assigns each video; "" where a protocol's rule does.
        video: path below the listing's root "videos" ("" where there is none); a file, or a folder of frames.
        skeleton: path below the listing's root "skeletons" ("" where there is none).
        excluded: why the data set's authors leave this video out ("" if they do not).
        missing: which file should be there and is not ("" if all are).
    """

    clip_id: str
    key: str
    label: int
    subject: int = UNKNOWN
    camera: int = UNKNOWN
    setup: int = UNKNOWN
    replication: int = UNKNOWN
    split: str = ""
    video: str = ""
    skeleton: str = ""
    excluded: str = ""
    missing: str = ""

    @property
    def usable(self) -> bool:
        """Whether a clip can be tried: it is not excluded, and its files are there."""
        return not (self.excluded or self.missing)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A data set as a recipe returns it: its videos, sorted by `clip_id`, and facts about all of them.

    Attributes:
        dataset: "ntu60", "ntu120", "penn-action", "folder", "synthetic".
        class_names: by label.
        topology: the name of the skeleton's topology (`pipeline.manifest.topology`).
        protocols: the names `pipeline.manifest.split` knows for this data set.
        roots: absolute folders, "videos" and "skeletons"; they are part of no digest.
        notes: sentences for the user about what was found and not used, or guessed; part of no digest.
    """

    dataset: str
    class_names: tuple[str, ...]
    topology: str
    protocols: tuple[str, ...]
    records: tuple[VideoRecord, ...]
    roots: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = field(default=(), compare=False)


def keyed_rng(seed: int, *parts: object) -> np.random.Generator:
    """A generator that depends on `seed` and `parts` (strings and integers) alone.

    Use `record.key`, never `clip_id`, for all that changes a clip's content (frame draws, crops, flips).
    """
    text = "\x1f".join([str(int(seed)), *(str(part) for part in parts)])
    return np.random.default_rng(np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype=np.uint32))


def evenly_spread(count: int, most: int) -> np.ndarray:
    """At most `most` of the indices 0 to count - 1, evenly spread, the first and the last among them: int64, rising."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))
