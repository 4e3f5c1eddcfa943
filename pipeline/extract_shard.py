"""One shard of one view on its way from prepared clips to tokens: what is read, decoded, computed and kept of it.

In: a prepared shard and, on a retry, what the store holds of it. Out: a ShardJob whose arrays and entries are filled
group by group, ready to be committed. A clip that cannot be computed ends as `failed`, with a reason that names no
place or moment, since reasons are part of the content. Knows no threads; `pipeline.extract_worker` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from pipeline import manifest
from pipeline.blobs import Blobs
from pipeline.clips import ClipContent, ShardReader, decode_picture
from pipeline.config import ExtractOptions
from pipeline.errors import ArtifactError, CorruptError, DataError
from pipeline.prepared_shards import Shard
from pipeline.store_int8 import stored
from pipeline.store_layout import StoreSizes, specs
from pipeline.store_reader import read_committed
from pipeline.store_records import clip_digest
from pipeline.views import crop_frames, crop_joints, crop_visible, view_of

NOT_WHOLE = "its prepared clip does not match its digest"
NOT_DECODED = "a picture of its prepared clip cannot be decoded"

# frames (B, T, H, W, 3) uint8, joints (B, M, T, V, 2), visible (B, M, T, V) to a function that waits for gg, jm float16
# and joint_mask: a GPU works on them while the next ones are made ready
Compute = Callable[[np.ndarray, np.ndarray, np.ndarray], Callable[[], tuple[np.ndarray, np.ndarray, np.ndarray]]]


class Picture(NamedTuple):
    """One view of a clip: frames (T, H, W, 3) uint8; in their pixels joints (M, T, V, 2), scores (M, T, V); and
    frame_index (T,)."""

    frames: np.ndarray
    joints: np.ndarray
    scores: np.ndarray
    frame_index: np.ndarray


@dataclass
class ShardJob:
    """A shard of a view in the making.

    Attributes:
        source: its prepared shard. view, options, sizes: of the store.
        arrays: by name (n, *tail), as stored. entries: for each row what the commit record will say.
        clips: of the rows still to be computed, their prepared clips.
        remade: it has been committed before, with clips that had failed. unchanged: and none of them can be made now.
    """

    source: Shard
    view: int
    options: ExtractOptions
    sizes: StoreSizes
    arrays: dict[str, np.ndarray]
    entries: list[dict[str, Any]]
    clips: dict[int, ClipContent] = field(default_factory=dict)
    remade: bool = False
    unchanged: bool = False

    def groups(self) -> Iterator[Group]:
        """The rows to compute, so many at a time; at least one group, if only to end the job."""
        rows = sorted(self.clips)
        size = self.options.batch_clips
        parts = [rows[a : a + size] for a in range(0, len(rows), size)] or [[]]
        for number, part in enumerate(parts):
            yield Group(self, part, number + 1 == len(parts))

    def fail(self, row: int, reason: str) -> None:
        """A row that will have no tokens."""
        self.entries[row] = {"id": self.entries[row]["id"], "outcome": "failed", "reason": reason}

    def absorb(self, group: Computed) -> None:
        """Take over a group's tokens, and hash them."""
        for name, tokens in (("gg", group.gg), ("jm", group.jm)):
            for key, values in stored(name, tokens, self.sizes.dtype).items():
                self.arrays[key][group.rows] = values
        self.arrays["joint_mask"][group.rows] = group.joint_mask
        for row, picture in zip(group.rows, group.pictures, strict=True):
            self.arrays["joints"][row], self.arrays["frame_index"][row] = picture.joints, picture.frame_index
            self.arrays["persons"][row] = (picture.scores > 0).any(axis=(1, 2)).sum()
            self.entries[row]["sha256"] = clip_digest(self.sizes, self.arrays, row)


class Group(NamedTuple):
    """Rows of a job that go through the backbone together; the last one of a job ends it."""

    job: ShardJob
    rows: list[int]
    last: bool


class Decoded(NamedTuple):
    """A group's pictures by row; rows that failed are not in it."""

    group: Group
    pictures: dict[int, Picture]


class Computed(NamedTuple):
    """Rows of a group that have tokens: gg (B, T, P, D) and jm (B, T, V, D') float16, joint_mask (B, T, V)."""

    rows: list[int]
    pictures: list[Picture]
    gg: np.ndarray
    jm: np.ndarray
    joint_mask: np.ndarray


def load_job(
    source: Shard, view: int, options: ExtractOptions, sizes: StoreSizes, blobs: Blobs, before: dict[str, Any] | None
) -> ShardJob:
    """Read a prepared shard, and take over from the store what an earlier attempt, `before`, made of it.

    Raises:
        ArtifactError: the prepared shard is not there any more.
    """
    told = source.committed()
    if told is None:
        raise ArtifactError(source.path, "is not there any more", remedy="run the same `star prepare` again")
    kept = None if before is None else read_committed(blobs, sizes, before)
    arrays = {spec.name: spec.blank(len(told["clips"])) for spec in specs(sizes)} if kept is None else kept
    job = ShardJob(source, view, options, sizes, arrays, [_entry(clip) for clip in told["clips"]])
    job.remade = before is not None
    wanted = [row for row, entry in enumerate(job.entries) if entry["outcome"] == "done"]
    if before is not None and kept is not None:
        done = {row: entry for row, entry in enumerate(before["clips"]) if entry["outcome"] == "done"}
        for row, entry in done.items():
            job.entries[row] = entry
        wanted = [row for row in wanted if row not in done]
    _read_clips(job, wanted, told)
    job.unchanged = before is not None and not job.clips and job.entries == before["clips"]
    return job


def _entry(source: dict[str, Any]) -> dict[str, Any]:
    if source["outcome"] == "done":
        return {"id": source["id"], "outcome": "done", "source": source["sha256"]}
    return {"id": source["id"], "outcome": source["outcome"], "reason": source["reason"]}


def _read_clips(job: ShardJob, rows: list[int], told: dict[str, Any]) -> None:
    """The prepared clips of some rows, each checked against its digest: a JPEG with a flipped bit decodes all the
    same."""
    if not rows:
        return
    try:
        with ShardReader(job.source.path) as reader:
            for row in rows:
                clip = _clip(reader, row)
                if clip is not None and clip.digest() == told["clips"][row]["sha256"]:
                    job.clips[row] = clip
    except CorruptError:
        pass  # the file's own structure is damaged: all of its clips are
    for row in set(rows) - set(job.clips):
        job.fail(row, NOT_WHOLE)


def _clip(reader: ShardReader, row: int) -> ClipContent | None:
    try:
        return reader.clip(row)
    except CorruptError:
        return None


def decode_group(group: Group) -> Decoded:
    """Decode, crop and flip the pictures of a group."""
    pictures = {}
    for row in group.rows:
        try:
            pictures[row] = view_of_clip(group.job, row)
        except CorruptError:
            group.job.fail(row, NOT_DECODED)
    return Decoded(group, pictures)


def view_of_clip(job: ShardJob, row: int) -> Picture:
    """A job's view of one of its prepared clips, as the backbone is to see it."""
    clip, crop, draws = job.clips[row], job.options.crop, job.source.options.draws
    pairs = manifest.topology(job.source.topology).pairs
    frames = np.stack([decode_picture(picture) for picture in clip.frames[job.view % draws]])
    key = job.source.records[row].key
    chosen = view_of(key, job.view, seed=job.options.seed, draws=draws, kept=frames.shape[1:3], crop=crop)
    assert chosen.draw == job.view % draws
    return Picture(
        crop_frames(frames, chosen, crop=crop),
        crop_joints(clip.joints[chosen.draw], chosen, pairs, crop=crop),
        crop_visible(clip.scores[chosen.draw], chosen, pairs),
        clip.frame_index[chosen.draw],
    )


def begin_group(compute: Compute, decoded: Decoded) -> Callable[[], list[Computed]]:
    """Begin to compute a group; call the result to wait for its tokens, in one piece as a rule. Rows that fail are told
    to the job."""
    rows = list(decoded.pictures)
    if not rows:
        return lambda: []
    pictures = [decoded.pictures[row] for row in rows]
    frames, joints, scores = (np.stack([getattr(p, name) for p in pictures]) for name in ("frames", "joints", "scores"))
    wait = compute(frames, joints, scores > 0)

    def finish() -> list[Computed]:
        try:
            return [Computed(rows, pictures, *wait())]
        except DataError as error:
            # a value that float16 cannot hold, in one of them: told of that one, without costing the others
            if len(rows) == 1:
                decoded.group.job.fail(rows[0], error.problem)
                return []
            alone = [Decoded(decoded.group, {row: decoded.pictures[row]}) for row in rows]
            return [computed for one in alone for computed in begin_group(compute, one)()]

    return finish
