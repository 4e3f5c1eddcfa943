"""Scoring: a model on every clip of a split, over all views.

In: a model and a data set, or a run's folder. Out: `star.evaluate.scores.Scores`. Every batch has the same size, the
last one padded and the padding cut off again, so the batch size changes no result. Always fp32. Never chooses a
checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.errors import ArtifactError, CorruptError, DataError
from pipeline.store.token_store import TokenStore
from pipeline.torch_device import out_of_memory
from star.batch import Batch
from star.data.dataset import TokenDataset
from star.data.loader import loader, workers_for
from star.data.splits import scored_split, train_split
from star.data.statistics import require_finite
from star.distributed.batch_size import evaluated_at_once
from star.distributed.world import World, join_world
from star.evaluate.clusters import groups_of
from star.evaluate.scores import Scores, load_scores
from star.runs.run import Run, open_run, restored_model, score_file
from star.runs.store_identity import (
    NO_CLIPS,
    clips_digest,
    dataset_identity,
    identity_of_store,
    require_same_store,
    split_digest,
)

HERE = ("file://", "memory://")  # URLs of this machine
ITS_OWN = "give the store it was trained on"
ScoreProgress = Callable[[int, int], None]  # (clips done, clips in all)


def score(
    model: nn.Module,
    dataset: TokenDataset,
    *,
    batch_size: int = 64,
    world: World | None = None,
    workers: int | None = None,
    progress: ScoreProgress | None = None,
) -> Scores:
    """Score every clip of a data set (views="all" for the mean over views) with a model in evaluation mode.

    Args:
        batch_size: items of a forward pass.
        world: its processes share the items; each gets all scores.
        workers: threads that read ahead; None: `star.data.loader.workers_for`.

    Raises:
        DataError: a token (its clip is named) or a score of the model is not finite. ConfigError: so many items do not
            fit into the device's memory.
    """
    world = world or World(device=torch.device("cpu"))
    device = world.device
    mine = list(range(world.rank, len(dataset), world.size))
    logits = torch.empty(len(mine), len(dataset.class_names))
    padded = mine + mine[:1] * (-len(mine) % batch_size)  # with an item whose scores are cut off
    batches = [padded[first : first + batch_size] for first in range(0, len(padded), batch_size)]
    workers = workers_for(dataset, device) if workers is None else workers
    was_training = model.training
    model.eval()
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)  # else CUDA rounds in recurrent layers
    with world.agreed(), torch.inference_mode(), exact:
        for i, batch in enumerate(loader(dataset, batches, workers=workers, pin=device.type == "cuda")):
            found = _logits(model, batch, device)
            if not found.isfinite().all():
                require_finite(dataset, batch)  # the likelier cause, and it names the clip
                raise DataError(
                    "the model's scores", "are not finite numbers", remedy="train again with a lower optim.lr"
                )
            part = logits[i * batch_size : (i + 1) * batch_size]
            part.copy_(found[: len(part)])
            if progress is not None:
                progress(min(len(dataset), (i + 1) * batch_size * world.size), len(dataset))
    model.train(was_training)
    every = np.empty((len(dataset), logits.shape[1]))
    for rank, part in enumerate(world.gather(logits.double().softmax(dim=1).numpy())):
        every[rank :: world.size] = part
    records = dataset.store.records()
    return Scores(
        clip_ids=dataset.clip_ids(),
        labels=dataset.labels,
        probabilities=every.reshape(len(dataset.rows), -1, every.shape[1]).mean(axis=1),
        class_names=tuple(dataset.class_names),
        split=dataset.split,
        protocol=dataset.protocol,
        **groups_of([records[row] for row in dataset.rows]),
    )


def _logits(model: nn.Module, batch: Batch, device: torch.device) -> Tensor:
    try:
        return model(batch.to(device, non_blocking=True)).float().cpu()  # type: ignore[no-any-return]
    except torch.OutOfMemoryError:
        remedy = (
            "see with `nvidia-smi` which process uses it and run the same command again, or take fewer at a time: with "
            "a smaller `batch_size`, or a smaller optim.micro_batch in training"
        )
        raise out_of_memory("batch_size", len(batch), device, remedy=remedy) from None


def evaluate_run(
    run: Run | Path | str,
    *,
    store: TokenStore | Path | str | None = None,
    protocol: str | None = None,
    split: str = "test",
    views: str | int = "all",
    batch_size: int | None = None,
    device: str = "auto",
    workers: int | None = None,
    progress: ScoreProgress | None = None,
) -> Scores:
    """Score a run's newest checkpoint on its own store, or on another with the same fingerprint.

    Args:
        store, protocol: None: those of the training.
        split: "test", "val" (the run's own validation side) or "train" (without it).
        batch_size: items of a forward pass; None: `star.distributed.batch_size.evaluated_at_once`.

    Raises:
        ArtifactError: no run, no checkpoint, or a store of another fingerprint.
        ConfigError, DataError: see `TokenDataset`.
    """
    world = join_world(device)
    with world.agreed():
        run = run if isinstance(run, Run) else open_run(run)
        checkpoint = run.checkpoint()
        model = restored_model(checkpoint)
        opened = store_of(run, store)
        require_same_store(run.path, checkpoint.store, identity_of_store(opened), remedy=ITS_OWN)
        dataset = scored_clips(run, opened, protocol=protocol, split=split, views=views)
        require_same_store(run.path, run.store, clips_of_its_metrics(run, dataset), remedy=ITS_OWN)
        by_its_rule = split in ("val", "test") and dataset.protocol == run.store["protocol"]
        trained_on = trained_clips(run, store=opened, or_none=by_its_rule)
    model.to(world.device)
    clips = batch_size if batch_size is not None else evaluated_at_once(run.config, world)
    scores = score(model, dataset, batch_size=clips, world=world, workers=workers, progress=progress)
    return replace(scores, trained_on=trained_on)


def scored_clips(run: Run, store: TokenStore, *, protocol: str | None, split: str, views: str | int) -> TokenDataset:
    """The clips that `evaluate_run` scores, for its arguments."""
    protocol = run.store["protocol"] if protocol is None else protocol
    among = run.store["views"]["test"]
    return scored_split(store, run.config, split, protocol=protocol, views=views, among=among)


def clips_of_its_metrics(run: Run, scored: TokenDataset) -> dict[str, Any]:
    """The identity of scored clips: with digests where they are those of the run's own metrics, on its validation or
    test side in all views."""
    own = (scored.view_choice, scored.protocol) == ("all", run.store["protocol"]) and scored.split in ("val", "test")
    return dataset_identity(scored) | ({"clips": {scored.split: split_digest(scored)}} if own else {})


def final_scores(
    run: Run,
    *,
    split: str = "test",
    store: TokenStore | Path | str | None = None,
    device: str = "auto",
    workers: int | None = None,
) -> Scores:
    """Scores of a finished run on its test or validation side: those that it saved, or else `evaluate_run`."""
    world = join_world(device)
    saved = saved_scores(run, split)
    if world.any(saved is None):
        return evaluate_run(run, split=split, store=store, device=device, workers=workers)
    assert saved is not None
    return saved


def saved_scores(run: Run, split: str) -> Scores | None:
    """The scores in a run's own file of a split; None where it has none, or they are not those of its metrics."""
    try:
        scores = load_scores(run.path / score_file(split))
    except ArtifactError:  # none, or damaged
        return None
    same = clips_digest(scores.clip_ids, scores.labels) == run.store["clips"].get(split, NO_CLIPS)["sha256"]
    last = [line for line in run.metrics() if line.get("split") == split][-1:]  # else the file holds other scores
    same = same and bool(last) and scores.summary().items() <= last[0].items()
    return scores if same and scores.class_names == run.class_names else None


def trained_clips(
    run: Run, *, store: TokenStore | Path | str | None = None, or_none: bool = False
) -> np.ndarray | None:
    """(n,) ids of the run's training clips.

    Args:
        store: as in `evaluate_run`.
        or_none: None, not an ArtifactError, where the training split of the same store has other clips now.
    """
    opened = store_of(run, store)
    require_same_store(run.path, run.store, identity_of_store(opened), remedy=ITS_OWN)
    dataset = train_split(opened, run.config, among=run.store["views"]["train"], in_memory=False)
    found = {**dataset_identity(dataset), "clips": {"train": split_digest(dataset)}}
    if or_none and found["clips"]["train"]["sha256"] != run.store["clips"]["train"]["sha256"]:
        return None
    require_same_store(run.path, run.store, found, remedy=ITS_OWN)
    return dataset.clip_ids()


def store_of(run: Run, store: TokenStore | Path | str | None = None) -> TokenStore:
    """The given store, open; None: the run's own.

    A run may come from a stranger: a server that it names is asked nothing until the user names it too.

    Raises:
        ArtifactError: there is none, or the run's own is on a server; if it has moved, the remedy says how to name it.
    """
    if store is not None:
        return store if isinstance(store, TokenStore) else TokenStore.open(store)
    if "://" in run.store["url"] and not run.store["url"].startswith(HERE):
        problem = "was trained from a store on a server, which is opened only if you name it"
        remedy = "if you trust it, name it with `store`"
        raise ArtifactError(run.path, problem, got=run.store["url"], remedy=remedy)
    try:
        return TokenStore.open(run.store["url"])
    except CorruptError:
        raise
    except ArtifactError as error:
        raise ArtifactError(
            run.path,
            f"its store is no longer where it was trained from: {run.store['url']} {error.problem}",
            remedy="say where the store is with `store`, or train on from there",
        ) from error
