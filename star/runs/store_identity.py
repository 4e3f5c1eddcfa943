"""The identity of a run's store, views and clips, and the refusal of others.

In: data sets. Out: plain values for config.json and checkpoints, or an ArtifactError. A store keeps its fingerprint
when views are added or `star retry` finishes clips; so a run also saves the numbers of its views, a digest of its clips
and one of their tokens, by the digests in the store's commit records. Reads no tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts.fingerprint import canonical_json, differences, sha256
from pipeline.errors import ArtifactError
from pipeline.store.token_store import TokenStore
from star.data.dataset import TokenDataset

NO_CLIPS = {"count": 0, "sha256": "none", "content": "none"}  # of a split that a run does not have


def run_inputs(sides: Sequence[TokenDataset]) -> dict[str, Any]:
    """The store's identity and content digest, and by split the views and the digests of the clips; of all sides of a
    run, the first of which is its training side."""
    return {
        **dataset_identity(sides[0]),
        "content_digest": sides[0].store.content_digest(),
        "views": {side.split: side.views.tolist() for side in sides},
        "clips": {side.split: split_digest(side) for side in sides},
    }


def trained_on(inputs: dict[str, Any]) -> dict[str, Any]:
    """`run_inputs` without all that depends on the test clips: what a checkpoint was made from."""
    sides = {name: {s: of for s, of in inputs[name].items() if s != "test"} for name in ("views", "clips")}
    return {name: value for name, value in inputs.items() if name != "content_digest"} | sides


def dataset_identity(dataset: TokenDataset) -> dict[str, Any]:
    """The identity of the store and the protocol, without clips."""
    return {**identity_of_store(dataset), "dataset": dataset.attrs["dataset"], "protocol": dataset.protocol}


def identity_of_store(source: TokenStore | TokenDataset) -> dict[str, Any]:
    """URL, fingerprint and provenance of a store, for `require_same_store`; it compares no clips."""
    made_from = {name: source.attrs[name] for name in ("fingerprint", "made_from")}
    return {"url": str(source.url), **made_from, "clips": {}}


def split_digest(dataset: TokenDataset) -> dict[str, Any]:
    """Number of clips, a digest of their ids and labels in order, and one of their tokens in the views used."""
    tokens = hashlib.sha256()
    for view in dataset.views.tolist():
        tokens.update(dataset.store.clip_digests(view)[dataset.rows].tobytes())
    ids = clips_digest(dataset.clip_ids(), dataset.labels)
    return {"count": len(dataset.rows), "sha256": ids, "content": tokens.hexdigest()}


def clips_digest(clip_ids: np.ndarray, labels: np.ndarray) -> str:
    """SHA-256 over ids and labels in order."""
    return sha256(canonical_json([clip_ids.tolist(), labels.tolist()]))


def require_same_store(run: Path, before: dict[str, Any], found: dict[str, Any], *, remedy: str) -> None:
    """Raise ArtifactError for a store of another fingerprint (it names the differences), or with other clips in a split
    of `found`."""
    if before["fingerprint"] != found["fingerprint"]:
        lines = differences(before["made_from"], found["made_from"]) or ["the fingerprint alone"]
        raise ArtifactError(
            run,
            "was trained on another store: " + "; ".join(lines),
            got=f"{found['url']} ({found['fingerprint'][:12]})",
            expected=f"{before['url']} ({before['fingerprint'][:12]})",
            remedy=remedy,
        )
    for split, clips in found["clips"].items():
        began = before["clips"].get(split, NO_CLIPS)
        if (clips["count"], clips["sha256"]) != (began["count"], began["sha256"]):
            raise ArtifactError(
                run,
                f"the {split} split has other clips in {found['url']} than when the run began (`star retry` may have "
                "finished some)",
                got=f"{clips['count']} clips, {clips['sha256'][:12]}",
                expected=f"{began['count']} clips, {began['sha256'][:12]}",
                remedy="train on the store as it is now into another folder",
            )


def require_same_content(run: Path, before: dict[str, Any], found: dict[str, Any], *, remedy: str) -> None:
    """Raise ArtifactError where the same clips have other tokens in a split: the store was made again since."""
    for split in other_content(before, found):
        raise ArtifactError(
            run,
            f"the clips of the {split} split have other tokens in {found['url']} than when the run began",
            got=f"content {found['clips'][split]['content'][:12]}",
            expected=f"content {before['clips'].get(split, NO_CLIPS)['content'][:12]}",
            remedy=remedy,
        )


def other_content(before: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """The splits of `found` whose clips have other tokens than those that a run was trained on."""
    began = before["clips"]
    return [s for s, clips in found["clips"].items() if clips["content"] != began.get(s, NO_CLIPS)["content"]]
