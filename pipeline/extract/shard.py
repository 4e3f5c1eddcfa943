"""The steps that take one shard of one view from prepared clips to tokens: read, decode, compute.

In: a prepared shard and, on a retry, the arrays and record that the store holds of it. Out: a ShardJob whose arrays and
entries are filled group by group, ready to be committed. A clip that cannot be computed ends as `failed`, with a reason
that names no path or time, since reasons are part of the content. Threads are `pipeline.extract.worker`'s business.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from pipeline import manifest
from pipeline.cluster.lookahead import Pending
from pipeline.config import ExtractOptions
from pipeline.errors import ArtifactError, CorruptError, DataError
from pipeline.extract.values import ClipView, Compute, ComputedGroup, DecodedGroup, Group, ShardJob
from pipeline.prepare.hdf5 import decode_pictures
from pipeline.prepare.shard import Shard
from pipeline.store.blobs import Blobs
from pipeline.store.clip_reader import read_committed
from pipeline.store.layout import StoreSizes, specs
from pipeline.views import crop_frames, crop_joints, crop_visible, mirror_xyz, view_of

NOT_WHOLE = "its prepared clip does not match its digest"
NOT_DECODED = "a picture of its prepared clip cannot be decoded"


def load_job(
    source: Shard, view: int, options: ExtractOptions, sizes: StoreSizes, blobs: Blobs, before: dict[str, Any] | None
) -> ShardJob:
    """Read a prepared shard, and reuse the clips that an earlier attempt, with the record `before`, has computed.

    Raises:
        ArtifactError: the prepared shard no longer exists.
    """
    prepared = source.committed()
    if prepared is None:
        raise ArtifactError(source.path, "no longer exists", remedy="run the same `star prepare` again")
    kept = None if before is None else read_committed(blobs, sizes, before)
    arrays = {spec.name: spec.blank(len(prepared["clips"])) for spec in specs(sizes)} if kept is None else kept
    job = ShardJob(source, view, options, sizes, arrays, [entry_of(clip) for clip in prepared["clips"]])
    job.remade = before is not None
    wanted = [row for row, entry in enumerate(job.entries) if entry["outcome"] == "done"]
    if before is not None and kept is not None:
        done = {row: entry for row, entry in enumerate(before["clips"]) if entry["outcome"] == "done"}
        for row, entry in done.items():
            job.entries[row] = entry
        wanted = [row for row in wanted if row not in done]
    _read_clips(job, wanted, prepared)
    job.unchanged = before is not None and not job.clips and job.entries == before["clips"]
    return job


def entry_of(source: dict[str, Any]) -> dict[str, Any]:
    """The entry of a prepared clip in a commit record of the store; the digest of a done one is added later."""
    if source["outcome"] == "done":
        return {"id": source["id"], "outcome": "done", "source": source["sha256"]}
    return {"id": source["id"], "outcome": source["outcome"], "reason": source["reason"]}


def _read_clips(job: ShardJob, rows: list[int], prepared: dict[str, Any]) -> None:
    """Read some rows' prepared clips and check each against its digest: a JPEG with a flipped bit still decodes."""
    if not rows:
        return
    # the outer error: the file's own structure is damaged, so all its clips are lost
    with suppress(CorruptError), job.source.reader() as reader:
        for row in rows:
            with suppress(CorruptError):
                clip = reader.clip(row)
                if clip.digest() == prepared["clips"][row]["sha256"]:
                    job.clips[row] = clip
    for row in set(rows) - set(job.clips):
        job.fail(row, NOT_WHOLE)


def decode_group(group: Group) -> DecodedGroup:
    """Decode, crop and flip the pictures of a group."""
    pictures = {}
    for row in group.rows:
        try:
            pictures[row] = view_of_clip(group.job, row)
        except CorruptError:
            group.job.fail(row, NOT_DECODED)
    return DecodedGroup(group, pictures)


def view_of_clip(job: ShardJob, row: int) -> ClipView:
    """One prepared clip in the view of a job: cropped and flipped."""
    clip, crop, draws = job.clips[row], job.options.crop, job.source.options.draws
    pairs = manifest.topology(job.source.topology).pairs
    frames = decode_pictures(clip.frames[job.view % draws])
    key = job.source.records[row].key
    chosen = view_of(key, job.view, seed=job.options.seed, draws=draws, kept=frames.shape[1:3], crop=crop)
    assert chosen.draw == job.view % draws
    return ClipView(
        crop_frames(frames, chosen, crop=crop),
        crop_joints(clip.joints[chosen.draw], chosen, pairs, crop=crop),
        crop_visible(clip.scores[chosen.draw], chosen, pairs),
        None if clip.xyz is None else mirror_xyz(clip.xyz[chosen.draw], chosen, pairs),
        clip.frame_index[chosen.draw],
    )


def begin_group(compute: Compute, decoded: DecodedGroup) -> PendingGroup:
    """Begin to compute a group."""
    views = decoded.pictures.values()
    if not views:
        return PendingGroup(compute, decoded, None)
    frames, joints, scores = (np.stack([getattr(v, name) for v in views]) for name in ("frames", "joints", "scores"))
    return PendingGroup(compute, decoded, compute(frames, joints, scores > 0))


class PendingGroup(NamedTuple):
    """A group whose tokens are being computed; None where no row of it could be decoded."""

    compute: Compute
    decoded: DecodedGroup
    tokens: Pending[tuple[np.ndarray, np.ndarray, np.ndarray]] | None

    def wait(self) -> list[ComputedGroup]:
        """The group's tokens, usually as one piece; rows that fail are marked as failed in the job."""
        if self.tokens is None:
            return []
        group, pictures = self.decoded
        try:
            return [ComputedGroup(pictures, *self.tokens.wait())]
        except DataError as error:
            # one of the clips has a value that float16 cannot hold: found one by one, so that only that one fails
            if len(pictures) == 1:
                group.job.fail(next(iter(pictures)), error.problem)
                return []
            alone = (DecodedGroup(group, {row: picture}) for row, picture in pictures.items())
            return [computed for one in alone for computed in begin_group(self.compute, one).wait()]
