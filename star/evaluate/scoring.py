"""Scoring: a model on every clip of a split, over all views.

In: a model and a data set, or a run's folder. Out: `star.evaluate.scores.Scores`. Every batch has the same size, the
last one padded and the padding cut off again, so the batch size changes no result. Always fp32. Never chooses a
checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.errors import ArtifactError, CorruptError, DataError
from pipeline.store.token_store import TokenStore
from pipeline.torch_device import out_of_memory
from star.batch import Batch
from star.data.dataset import TokenDataset
from star.data.loader import loader, workers_for
from star.data.splits import train_split
from star.data.statistics import require_finite
from star.distributed.batch_size import evaluated_at_once
from star.distributed.world import World, join_world
from star.evaluate.scores import Scores, load_scores
from star.runs.run import TEST_SCORES, Run, open_run, restored_model
from star.runs.store_identity import clips_digest, dataset_identity, identity_of_store, require_same_store, split_digest

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
    return Scores(
        clip_ids=dataset.clip_ids(),
        labels=dataset.labels,
        probabilities=every.reshape(len(dataset.rows), -1, every.shape[1]).mean(axis=1),
        class_names=tuple(dataset.class_names),
        split=dataset.split,
        protocol=dataset.protocol,
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
        found = dataset_identity(dataset)
        if (split, views, dataset.protocol) == ("test", "all", run.store["protocol"]):  # as in its metrics
            found["clips"] = {"test": split_digest(dataset)}
        require_same_store(run.path, checkpoint.store, found, remedy=ITS_OWN)
    model.to(world.device)
    clips = batch_size if batch_size is not None else evaluated_at_once(run.config, world)
    return score(model, dataset, batch_size=clips, world=world, workers=workers, progress=progress)


def scored_clips(run: Run, store: TokenStore, *, protocol: str | None, split: str, views: str | int) -> TokenDataset:
    """The clips that `evaluate_run` scores, for its arguments."""
    return TokenDataset(
        store,
        protocol=run.store["protocol"] if protocol is None else protocol,
        split=split,
        tokens=run.config.model.kinds,
        fields=run.config.model.fields,
        views=views,
        among=run.store["views"]["test"],
        frame_step=run.config.data.frame_step,
        in_memory=False,  # a single pass
    )


def final_scores(
    run: Run, *, store: TokenStore | Path | str | None = None, device: str = "auto", workers: int | None = None
) -> Scores:
    """Test scores of a finished run: those saved by its last evaluation, or else `evaluate_run`."""
    world = join_world(device)
    saved = _saved_by_training(run)
    if world.any(saved is None):
        return evaluate_run(run, store=store, device=device, workers=workers)
    assert saved is not None
    return saved


def _saved_by_training(run: Run) -> Scores | None:
    try:
        scores = load_scores(run.path / TEST_SCORES)
    except ArtifactError:  # none, or damaged
        return None
    same = clips_digest(scores.clip_ids, scores.labels) == run.store["clips"]["test"]["sha256"]
    last = [line for line in run.metrics() if "top1" in line][-1:]  # else the file holds other scores
    same = same and bool(last) and scores.summary().items() <= last[0].items()
    return scores if same and scores.class_names == run.class_names else None


def trained_clips(run: Run, *, store: TokenStore | Path | str | None = None) -> np.ndarray:
    """(n,) ids of the run's training clips. `store`: as in `evaluate_run`."""
    opened = store_of(run, store)
    require_same_store(run.path, run.store, identity_of_store(opened), remedy=ITS_OWN)
    dataset = train_split(opened, run.config, among=run.store["views"]["train"], in_memory=False)
    found = {**dataset_identity(dataset), "clips": {"train": split_digest(dataset)}}
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
