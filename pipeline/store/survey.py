"""Outcomes of all clips of a store, from its commit records.

In: Blobs. Out: outcomes by row, accounts by view, the content digest. Decodes no array.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from pipeline.artifacts.fingerprint import canonical_json
from pipeline.artifacts.outcomes import WORST_FIRST, Account, account_of
from pipeline.store.blobs import Blobs
from pipeline.store.commit_records import each_record, read_metadata_record, view_shards
from pipeline.store.layout import StoreSizes


class StoreSurvey(NamedTuple):
    """A summary of all commit records of a store.

    Attributes:
        outcomes: for each row its entry in its worst view. account: the number of each outcome among them.
        views: the account of each view.
        nbytes: bytes of the committed arrays and metadata, without commit records and `log/`.
        content_digest: SHA-256 over metadata and every clip's outcome and digest, for all views; not over `log/`.
    """

    outcomes: list[dict[str, Any]]
    account: Account
    views: list[Account]
    nbytes: int
    content_digest: str


def survey(blobs: Blobs, fingerprint: str, sizes: StoreSizes, id_of: Callable[[int], str]) -> StoreSurvey:
    """A survey in one pass over the records; `id_of` gives the clip id of a row."""
    metadata = read_metadata_record(blobs)
    files = [] if metadata is None else metadata["files"]
    digest, nbytes = hashlib.sha256(canonical_json([files])), sum(entry["bytes"] for entry in files)
    worst: list[dict[str, Any]] = []
    accounts = []
    for view in range(sizes.views):
        of_view: list[dict[str, Any]] = []
        for view_shard, record in each_record(blobs, fingerprint, sizes, view_shards(sizes, [view])):
            entries = [] if record is None else record["clips"]
            rows = [[e["id"], e["outcome"], e.get("reason", ""), e.get("sha256", "")] for e in entries]
            digest.update(canonical_json([view_shard, rows]))
            nbytes += 0 if record is None else sum(entry["bytes"] for entry in record["files"])
            of_view += entries or _pending(sizes, view_shard[1], id_of)
        accounts.append(account_of_entries(of_view))
        worst = _worst_by_row(worst, of_view)
    return StoreSurvey(worst, account_of_entries(worst), accounts, nbytes, digest.hexdigest())


def outcomes_of(
    blobs: Blobs, fingerprint: str, sizes: StoreSizes, views: Iterable[int], id_of: Callable[[int], str]
) -> list[dict[str, Any]]:
    """For each row its entry in the worst of some views, or one that says pending."""
    worst: list[dict[str, Any]] = []
    for view in views:
        of_view: list[dict[str, Any]] = []
        for (_, shard), record in each_record(blobs, fingerprint, sizes, view_shards(sizes, [view])):
            of_view += _pending(sizes, shard, id_of) if record is None else record["clips"]
        worst = _worst_by_row(worst, of_view)
    return worst


def clip_digests(blobs: Blobs, fingerprint: str, sizes: StoreSizes, view: int) -> np.ndarray:
    """(N,) S64, the SHA-256 of each clip in a view; empty where it is not done."""
    digests = np.zeros(sizes.clips, "S64")
    for (_, shard), record in each_record(blobs, fingerprint, sizes, view_shards(sizes, [view])):
        if record is not None:
            rows = sizes.rows(shard)
            digests[rows.start : rows.stop] = [entry.get("sha256", "") for entry in record["clips"]]
    return digests


def account_of_entries(entries: list[dict[str, Any]]) -> Account:
    """The number of each outcome."""
    return account_of([(entry["outcome"], entry.get("reason", "")) for entry in entries])


def _pending(sizes: StoreSizes, shard: int, id_of: Callable[[int], str]) -> list[dict[str, Any]]:
    return [{"id": id_of(row), "outcome": "pending"} for row in sizes.rows(shard)]


def _worst_by_row(these: list[dict[str, Any]], those: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The worse entry of each row; `those` where there are no others."""
    pairs = zip(these or those, those, strict=True)
    return [min(pair, key=lambda entry: WORST_FIRST.index(entry["outcome"])) for pair in pairs]
