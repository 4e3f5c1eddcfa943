"""What is known of a store before any token is computed: its sizes, what it is made from, the attributes for readers.

In: a prepared folder, options without "auto", the weights' "kind" and "sha256". Out: plain values. Reads no clip and
writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from pipeline import manifest
from pipeline.config import CHANNELS, FRAMES, GG_LAYER, STRIDES, ExtractOptions
from pipeline.prepare.folder import PreparedFolder
from pipeline.store.layout import StoreSizes

MACHINE = ("cudnn", "gpu")  # where the options were resolved
VERSIONS = ("star-tokens", "torch", "torchvision", "numpy", "zarr", "opencv-python-headless")


def sizes_of(folder: PreparedFolder, options: ExtractOptions) -> StoreSizes:
    """The store's sizes, known before anything is computed."""
    return StoreSizes(
        clips=len(folder.listing.records),
        views=options.views,
        shard_clips=folder.options.shard_clips,
        persons=folder.options.max_persons,
        frames=FRAMES,
        joints=len(manifest.topology(folder.listing.topology).joint_names),
        cells=(options.crop // STRIDES[GG_LAYER]) ** 2,
        gg_channels=CHANNELS[GG_LAYER],
        jm_channels=CHANNELS[options.jm_layer],
        dtype=options.dtype,
        codec=options.codec,
    )


def made_from_of(folder: PreparedFolder, options: ExtractOptions, weights: Mapping[str, str]) -> dict[str, Any]:
    """All that changes a token's value, and nothing else: the fingerprint is its digest."""
    return {
        "prepared": folder.fingerprint,
        "weights": {"sha256": weights["sha256"]},  # of the tensors, whatever file they came in
        **options.content(),
    }


def about_of(folder: PreparedFolder, weights: Mapping[str, str]) -> dict[str, Any]:
    """Attributes for readers; not part of the fingerprint."""
    return {
        "dataset": folder.listing.dataset,
        "class_names": list(folder.listing.class_names),
        "topology": folder.listing.topology,
        "joint_names": list(manifest.topology(folder.listing.topology).joint_names),
        "protocols": list(folder.listing.protocols),
        "weights": weights["kind"],
        "prepared_with": folder.options.content(),
        "versions": {name: version(name) for name in VERSIONS} | {n: weights[n] for n in MACHINE if n in weights},
    }
