"""What a run remembers of the store it is trained from, and the refusal of another store or of other clips.

In: data sets. Out: plain values for config.json and checkpoints, or an ArtifactError. A store may get views, and
`star retry` may finish clips, under one fingerprint; so a run also keeps the numbers of the views it chose from and a
digest of its clips. Reads no tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts.fingerprint import canonical_json, differences, sha256
from pipeline.errors import ArtifactError
from pipeline.store.token_store import TokenStore
from star.data.dataset import TokenDataset


def run_inputs(train: TokenDataset, test: TokenDataset) -> dict[str, Any]:
    """What a run keeps: where its store lies, what it was made from, and by split its views and its clips."""
    return {
        **dataset_identity(train),
        "views": {split.split: split.views.tolist() for split in (train, test)},
        "clips": {split.split: split_digest(split) for split in (train, test)},
    }


def dataset_identity(dataset: TokenDataset) -> dict[str, Any]:
    """What holds for any data set of the store under this protocol."""
    return {**identity_of_store(dataset), "dataset": dataset.attrs["dataset"], "protocol": dataset.protocol}


def identity_of_store(source: TokenStore | TokenDataset) -> dict[str, Any]:
    """What tells a store from others, for `require_same_store`."""
    made_from = {name: source.attrs[name] for name in ("fingerprint", "made_from")}
    return {"url": str(source.url), **made_from, "clips": {}}


def split_digest(dataset: TokenDataset) -> dict[str, Any]:
    """How many clips, and a digest of their names and labels in order."""
    return {"count": len(dataset.rows), "sha256": clips_digest(dataset.clip_ids(), dataset.labels)}


def clips_digest(clip_ids: np.ndarray, labels: np.ndarray) -> str:
    """SHA-256 over names and labels in order."""
    return sha256(canonical_json([clip_ids.tolist(), labels.tolist()]))


def require_same_store(run: Path, trained_on: dict[str, Any], found: dict[str, Any], *, remedy: str) -> None:
    """Refuse a store of another fingerprint, naming what differs, and one with other clips in a split of `found`.

    Raises:
        ArtifactError: they differ.
    """
    if trained_on["fingerprint"] != found["fingerprint"]:
        lines = differences(trained_on["made_from"], found["made_from"]) or ["the fingerprint alone"]
        raise ArtifactError(
            run,
            "was trained on another store: " + "; ".join(lines),
            got=f"{found['url']} ({found['fingerprint'][:12]})",
            expected=f"{trained_on['url']} ({trained_on['fingerprint'][:12]})",
            remedy=remedy,
        )
    for split, clips in found["clips"].items():
        if clips != trained_on["clips"][split]:
            raise ArtifactError(
                run,
                f"the {split} split has other clips in {found['url']} than when the run began (`star retry` may have "
                "finished some)",
                got=f"{clips['count']} clips, {clips['sha256'][:12]}",
                expected=f"{trained_on['clips'][split]['count']} clips, {trained_on['clips'][split]['sha256'][:12]}",
                remedy="train on the store as it is now into another folder",
            )
