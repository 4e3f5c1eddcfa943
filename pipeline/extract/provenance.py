"""What a store will be, known before anything is computed: its sizes, what it is made from, what its readers are told.

In: a prepared folder, options without "auto", the weights' "kind" and "sha256". Out: plain values. Reads no clip and
writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from pipeline import manifest
from pipeline.config import FRAMES, ExtractOptions
from pipeline.prepare.folder import PreparedFolder
from pipeline.prepare.hdf5 import PERSONS
from pipeline.store.layout import StoreSizes

JM_CHANNELS = {"layer1": 64, "layer2": 128, "layer3": 256}
GG_CHANNELS, GG_STRIDE = 512, 16  # of layer4
VIEW_RULE = 1  # raised when `pipeline.views.view_of` changes what a view is
VERSIONS = ("star-tokens", "torch", "torchvision", "numpy", "zarr", "opencv-python-headless")


def sizes_of(folder: PreparedFolder, options: ExtractOptions) -> StoreSizes:
    """The store's sizes, known before anything is computed."""
    return StoreSizes(
        clips=len(folder.listing.records),
        views=options.views,
        shard_clips=folder.options.shard_clips,
        persons=PERSONS,
        frames=FRAMES,
        joints=len(manifest.topology(folder.listing.topology).joint_names),
        cells=(options.crop // GG_STRIDE) ** 2,
        gg_channels=GG_CHANNELS,
        jm_channels=JM_CHANNELS[options.jm_layer],
        dtype=options.dtype,
        codec=options.codec,
    )


def made_from_of(folder: PreparedFolder, options: ExtractOptions, weights: Mapping[str, str]) -> dict[str, Any]:
    """All that changes a token's value, and nothing else: what the fingerprint is of."""
    return {
        "prepared": folder.fingerprint,
        "weights": {"sha256": weights["sha256"]},  # of the tensors, whatever file they came in
        "precision": options.precision,
        "jm_layer": options.jm_layer,
        "sigma": options.sigma,
        "normalize": options.normalize,
        "crop": options.crop,
        "view_rule": VIEW_RULE,
        "seed": options.seed,
        "dtype": options.dtype,
        "deterministic": options.deterministic,
    }


def about_of(folder: PreparedFolder, weights: Mapping[str, str]) -> dict[str, Any]:
    """What readers are told beside the arrays; no part of the fingerprint."""
    return {
        "dataset": folder.listing.dataset,
        "class_names": list(folder.listing.class_names),
        "topology": folder.listing.topology,
        "joint_names": list(manifest.topology(folder.listing.topology).joint_names),
        "protocols": list(folder.listing.protocols),
        "weights": weights["kind"],
        "prepared_with": folder.options.content(),
        "versions": {name: version(name) for name in VERSIONS},
    }
