"""Training from a token store: it may be stopped anywhere and resumed by the same command.

In: a store, a folder, a `TrainConfig`. Out: the folder RUN with config.json, metrics.jsonl, checkpoint-*.pt, val.npz
and test.npz (`star.runs.run`). A plain loop; one process, or those of torchrun. Order, views, dropout and mixup are
functions of (seed, step), so the losses of a resumed run equal the undisturbed one's to the bit (one process, same
machine and threads, not compiled; on a GPU with `optim.deterministic`). No test token is read before the last step is
saved. Prints nothing; calls `progress`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pipeline.artifacts.files import sweep_temporaries
from pipeline.artifacts.fingerprint import fingerprint, sha256
from pipeline.artifacts.lock import sole_writer
from pipeline.errors import ArtifactError
from pipeline.store.token_store import TokenStore
from star.config.text import TrainConfig, to_dict
from star.data.sampler import Batches
from star.data.splits import Splits, fitted, open_splits
from star.data.statistics import require_finite_held
from star.distributed.machine import autocast_precision
from star.distributed.world import World, join_world
from star.runs.checkpoint import Checkpoint, checkpoints, load_checkpoint
from star.runs.metrics_log import MetricsLog
from star.runs.run import ITS_OWN_OR_NEW, Run, has_begun, require_place, run_there, start_run
from star.runs.store_identity import (
    identity_of_store,
    require_same_content,
    require_same_store,
    run_inputs,
    trained_on,
)
from star.runs.tensorboard import require_tensorboard
from star.train.loop import Training, splits_due
from star.train.memory import require_memory
from star.train.plan import fitting_model
from star.train.progress import StepProgress

Stop = AbstractContextManager[Callable[[], bool]]  # entered for the steps; returns true to save and end after this one


def train(
    store: TokenStore | Path | str,
    out: Path | str,
    *,
    config: TrainConfig,
    among: Sequence[int] | None = None,
    resume: bool = True,
    device: str = "auto",
    workers: int | None = None,
    save_every_s: float = 30.0,
    tensorboard: bool = False,
    progress: StepProgress | None = None,
    stop: Stop | None = None,
) -> Run:
    """Train, or resume, the run in `out`.

    Args:
        store: an open token store, its path or URL.
        out: the run's folder; a finished run in it is left unchanged.
        config: everything that decides the result. The sizes in `config.model` come from the store, and so does the
            protocol where it is "".
        among: numbers of the store's views that a new run may use; None: all that are finished.
        resume: False refuses a folder that already holds a run.
        device: "auto", "cpu", "cuda", "cuda:1".
        workers: threads that read ahead; None: `star.data.loader.workers_for`.
        save_every_s: seconds of training that a kill may cost; 0: a checkpoint after every step.
        tensorboard: write RUN/tensorboard as well.
        progress: called after every step and evaluation, in the leading process.
        stop: entered while there are steps to do, and called after each; if it is true in one process, all end there.

    Raises:
        KeyboardInterrupt: `stop` was true; the step is saved.
        ArtifactError: no store, one of another fingerprint or with other clips than the run's, a folder that is in use
            or holds something else, a full disk (the last checkpoint is intact).
        ConfigError: a setting that does not fit, or differs from the run's.
        DataError: an empty split, a class without training clips, a token or a loss that is not finite.
    """
    out = Path(out)
    if tensorboard:
        require_tensorboard()  # before anything is read
    with contextlib.ExitStack() as stack:
        world = join_world(device)
        with world.agreed():
            run, data = _opened(store, out, config, among, world.device)
            begun = has_begun(out)
            if not begun:
                fitting_model(data, run.config, world)  # else nothing is left behind
            if world.leads:
                if not resume and run_there(out) is not None:
                    raise ArtifactError(out, "holds a run already", remedy="choose another folder, or pass resume=True")
                require_place(out)
                stack.enter_context(sole_writer(out))
                start_run(run)
                sweep_temporaries(out)
        with world.agreed():
            checkpoint = load_checkpoint(out)
            if checkpoint is not None:
                now = trained_on(run.store)  # start_run has compared the test clips
                require_same_store(out, checkpoint.store, now, remedy=ITS_OWN_OR_NEW)
                require_same_content(out, checkpoint.store, now, remedy=ITS_OWN_OR_NEW)
        with world.agreed():
            _require_same_everywhere(run, world)
        options = {"workers": workers, "save_every_s": save_every_s, "progress": progress}
        _steps(run, data, world, checkpoint, begun=begun, tensorboard=tensorboard, stop=stop, options=options)
        world.wait()  # for the last checkpoint, which any process may read next
    return run


def _steps(
    run: Run,
    data: Splits,
    world: World,
    checkpoint: Checkpoint | None,
    *,
    begun: bool,
    tensorboard: bool,
    stop: Stop | None,
    options: dict[str, Any],
) -> None:
    """The remaining steps of a run; reads no tokens if there are none."""
    step = 0 if checkpoint is None else checkpoint.step
    plan = Batches(
        items=len(data.train),
        batch_size=run.config.optim.batch_size,
        epochs=run.config.optim.epochs,
        seed=run.config.seed,
        min_steps=run.config.optim.min_steps,
        start=step,
        rank=world.rank,
        world=world.size,
    )
    with world.agreed():
        lines = run.metrics() if world.leads else []
    scored = {line["split"] for line in lines if line["step"] == step and "top1" in line}
    due = splits_due(run.config, plan, step, validates=data.val is not None)
    due = [split for split in due if world.any(world.leads and split not in scored)]
    if step == plan.steps and not due:
        return
    with contextlib.ExitStack() as stack:
        devices = [world.device] if world.device.type == "cuda" else []
        stack.enter_context(torch.random.fork_rng(devices=devices))
        if run.config.optim.deterministic:
            stack.enter_context(_deterministic())
        with world.agreed():
            for side in (data.train, data.val):  # test is read once, after the last step
                if side is not None and side.fits_in_memory:
                    side.hold()
                    require_finite_held(side)  # before the first step, and at little cost
            training = Training(run, data, world, plan, checkpoint)
            if begun and step < plan.steps:  # else it was asked for before anything was written
                require_memory(training.model, run.config, world, clips=min(run.config.optim.batch_size, plan.items))
            log = None
            if world.leads:
                log = MetricsLog(run.path, step=step, tensorboard=tensorboard)
                stack.enter_context(contextlib.closing(log))
        stopped = stack.enter_context(stop) if stop is not None else None
        training.loop(log, due=due, stop=stopped, **options)


def _opened(
    store: TokenStore | Path | str, out: Path, config: TrainConfig, among: Sequence[int] | None, device: torch.device
) -> tuple[Run, Splits]:
    """The requested run, on the views and in the precision with which it began, and its data, not yet in memory."""
    opened = store if isinstance(store, TokenStore) else TokenStore.open(store)
    views = None if among is None else {"train": among, "test": among}
    before = run_there(out) if has_begun(out) else None
    if before is not None:
        require_same_store(out, before.store, identity_of_store(opened), remedy=ITS_OWN_OR_NEW)
        views = before.store["views"]
    data = open_splits(opened, config, views=views, in_memory=False)
    actual = replace(  # with what the store decides, so that config.json is complete
        config,
        model=fitted(config.model, data.train),
        data=replace(config.data, protocol=data.train.protocol),
        optim=replace(config.optim, precision=_precision(config, before, device)),
    )
    inputs = run_inputs(data.all)
    return Run(path=out, config=actual, store=inputs, class_names=tuple(data.train.class_names)), data


def _precision(config: TrainConfig, before: Run | None, device: torch.device) -> str:
    """ "fp32" or "bf16"; "auto" is that with which the run began, so that it can be resumed on another machine."""
    asked = config.optim.precision
    if asked == "auto" and before is not None:
        asked = before.config.optim.precision
    return autocast_precision(asked, device)


def _require_same_everywhere(run: Run, world: World) -> None:
    """Refuse processes with different settings, stores or checkpoints: hosts may not see the same folder."""
    if world.size == 1:
        return
    newest = checkpoints(run.path)[-1:]
    found = {
        "settings": fingerprint(to_dict(run.config)),
        "store": fingerprint({name: value for name, value in run.store.items() if name != "url"}),
        "checkpoint": [path.name + " " + sha256(path.read_bytes()) for path in newest],
    }
    everywhere = world.gather(found)
    different = [name for name in found if any(each[name] != everywhere[0][name] for each in everywhere)]
    if different:
        raise ArtifactError(
            run.path,
            f"is not the same for every process of this training: another {' and another '.join(different)}",
            remedy="start all with the same command and store, and with `out` in a folder that all of them see",
        )


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    """Only kernels that give the same bits each time; an operation without one raises."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS requires it, and reads it at its first use
    memory: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    memory.fill_uninitialized_memory = False  # every batch is read into such memory, and fills it
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = filled
