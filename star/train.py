"""Training from a token store, which may be stopped anywhere and continued by the same command.

In: a store, a folder, a `TrainConfig`. Out: the folder RUN with config.json, metrics.jsonl and checkpoint-*.pt
(`star.run`). A plain loop; one process, or those of torchrun. Order, views, dropout and mixup are functions of (seed,
step), so the losses of a resumed run equal the undisturbed one's to the bit (one process, same machine and threads,
not compiled). Prints nothing: `progress` is told.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pipeline.commit import sole_writer, sweep_temporaries
from pipeline.errors import ArtifactError, DataError
from pipeline.store import TokenStore
from star.build import TokenModel, seeded_model
from star.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from star.config import TrainConfig, to_dict
from star.data import Batch
from star.evaluate import score
from star.facts import require_same_store, store_facts
from star.loader import loader
from star.memory import require_room
from star.optim import MovingAverage, learning_rate, make_optimizer, set_learning_rate
from star.progress import Clock, Progress, TrainEvent, tell
from star.run import ITS_OWN_OR_NEW, MetricsLog, Run, restored_model, run_there, start_run
from star.sampler import Batches
from star.scores import Scores
from star.splits import Splits, fitted, open_splits
from star.statistics import channel_statistics, require_finite
from star.step import train_step
from star.world import World, join_world

Stop = AbstractContextManager[Callable[[], bool]]  # entered for the steps; asked whether to save and end after this one


def train(
    store: TokenStore | Path | str,
    out: Path | str,
    *,
    config: TrainConfig,
    resume: bool = True,
    device: str = "auto",
    workers: int | None = None,
    save_every_s: float = 30.0,
    tensorboard: bool = False,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Run:
    """Train, or go on training, the run in `out`.

    Args:
        store: an open token store or where it lies.
        out: the run's folder; one that holds a finished run is left as it is.
        config: all that decides the result. The sizes in `config.model` are taken from the store.
        resume: False refuses a folder that holds a run already.
        device: "auto", "cpu", "cuda", "cuda:1".
        workers: threads that read ahead; None: none if the tokens are in memory, else 2.
        save_every_s: seconds of training that a kill may cost; 0: a checkpoint after every step.
        tensorboard: write RUN/tensorboard as well.
        progress: called after every step and evaluation, in the leading process.
        stop: held while there are steps to do, and asked after each; where one process says true, all end there.

    Raises:
        KeyboardInterrupt: `stop` said so; the step is saved.
        ArtifactError: no store, one of another fingerprint or with other clips than the run's, a folder in use or of
            another kind, a full disk (the last checkpoint is intact).
        ConfigError: a setting that does not fit, or not those of the run.
        DataError: an empty split, a class without training clips, a token or a loss that is not finite.
    """
    out = Path(out)
    with contextlib.ExitStack() as stack:
        world = join_world(device)
        before = run_there(out)
        data = open_splits(store, config, views=None if before is None else before.store["views"])
        facts = store_facts(data.train, data.test)
        run = Run(path=out, config=config, store=facts, class_names=tuple(data.train.class_names))
        if world.leads:
            if not resume and (out / "config.json").exists():
                raise ArtifactError(out, "holds a run already", remedy="choose another --out, or leave out --no-resume")
            stack.enter_context(sole_writer(out))
            start_run(run)
            sweep_temporaries(out)
        world.wait()
        checkpoint = load_checkpoint(out)
        if checkpoint is not None:
            require_same_store(out, checkpoint.store, run.store, remedy=ITS_OWN_OR_NEW)
        devices = [world.device] if world.device.type == "cuda" else []
        stack.enter_context(torch.random.fork_rng(devices=devices))
        training = Training(run, data, world, checkpoint)
        if training.step < training.batches.steps:
            require_room(training.model, config, world, clips=training.batches.count(training.step))
            log = None
            if world.leads:
                log = MetricsLog(out, step=training.step, tensorboard=tensorboard)
                stack.enter_context(contextlib.closing(log))
            asked = stack.enter_context(stop) if stop is not None else None
            training.loop(log, workers=workers, save_every_s=save_every_s, progress=progress, stop=asked)
        world.wait()  # for the last checkpoint, which any process may want to read next
    return run


class Training:
    """A run while it is being trained: model, optimiser, average, and the number of steps done."""

    def __init__(self, run: Run, data: Splits, world: World, checkpoint: Checkpoint | None) -> None:
        self.run, self.data, self.world, self.config = run, data, world, run.config
        self.model_config = fitted(self.config.model, data.train)
        self.step = 0 if checkpoint is None else checkpoint.step
        optim = self.config.optim
        self.batches = Batches(
            items=len(data.train),
            batch_size=optim.batch_size,
            epochs=optim.epochs,
            seed=self.config.seed,
            start=self.step,
            rank=world.rank,
            world=world.size,
        )
        self.model = self._model(checkpoint)
        self.optimizer = make_optimizer(self.model, optim)
        self.average = MovingAverage(self.model, optim.ema) if optim.ema > 0 else None
        if checkpoint is not None:
            self.optimizer.load_state_dict(checkpoint.optimizer)
            if self.average is not None:
                self.average.weights = {name: w.to(world.device) for name, w in checkpoint.average.items()}

    def _model(self, checkpoint: Checkpoint | None) -> TokenModel:
        model = seeded_model(self.model_config, seed=self.config.seed)
        if checkpoint is not None:
            model.load_state_dict(checkpoint.model)
        elif self.config.data.standardise:
            found = channel_statistics(self.data.train, most=self.config.data.statistics_clips)
            model.standardise(gg=found.get("gg"), jm=found.get("jm"))
        return model.to(self.world.device)

    def loop(
        self,
        log: MetricsLog | None,
        *,
        workers: int | None,
        save_every_s: float,
        progress: Progress | None,
        stop: Callable[[], bool] | None,
    ) -> None:
        """From the step that is next to the end; `log` in the leading process alone."""
        clock = Clock(first=self.step, total=self.batches.steps, epochs=self.config.optim.epochs)
        forward = torch.compile(self.model) if self.config.optim.compile else self.model
        saved_at = time.monotonic()
        for batch in clock.waiting(self._loader(workers)):
            event = self._one_step(forward, batch, clock)
            last = self.step == self.batches.steps
            if log is not None:
                if self.step % self.config.log_every == 0 or last:
                    log.write({"step": event.done, "epoch": event.epoch, "loss": event.loss, "lr": event.lr})
                tell(progress, event)
            if self._evaluates():
                scores = self.evaluate(workers=workers)
                if log is not None:
                    log.write({"step": event.done, "epoch": event.epoch, **scores.summary()})
                    tell(progress, replace(event, top1=scores.top1))
            stopped = stop is not None and self.world.any(stop()) and not last
            if log is not None and (last or stopped or time.monotonic() - saved_at >= save_every_s):
                log.sync()
                save_checkpoint(self.run.path, self.checkpoint())
                saved_at = time.monotonic()
            if stopped:
                raise KeyboardInterrupt

    def _loader(self, workers: int | None) -> Iterator[Batch]:
        dataset = self.data.train
        workers = (0 if dataset.in_memory else 2) if workers is None else workers
        return loader(dataset, self.batches, workers=workers, pin=self.world.device.type == "cuda")

    def _one_step(self, forward: Any, batch: Batch, clock: Clock) -> TrainEvent:
        optim, step = self.config.optim, self.step
        rate = learning_rate(step, self.batches.steps, optim)
        set_learning_rate(self.optimizer, rate)
        self.model.train()
        clips = self.batches.count(step)
        try:
            loss = train_step(
                forward,
                self.optimizer,
                batch,
                config=optim,
                clips=clips,
                step=step,
                seed=self.config.seed,
                world=self.world,
            )
        except DataError:
            require_finite(self.data.train, batch.gg, batch.jm, batch.clips)  # the likelier cause, and a clip's name
            raise
        if self.average is not None:
            self.average.update(self.model)
        self.step += 1
        return clock.event(done=self.step, clips=clips, loss=loss, lr=rate)

    def _evaluates(self) -> bool:
        """At the end of every `eval_every`-th epoch, and at the end."""
        epoch, rest = divmod(self.step, self.batches.steps_per_epoch)
        every = self.config.eval_every
        return self.step == self.batches.steps or (rest == 0 and every > 0 and epoch % every == 0)

    def evaluate(self, *, workers: int | None = None) -> Scores:
        """The test split's scores, with the averaged weights where there are any."""
        model = restored_model(self.checkpoint()).to(self.world.device) if self.average is not None else self.model
        return score(model, self.data.test, world=self.world, workers=workers)

    def checkpoint(self) -> Checkpoint:
        """The state as it is now."""
        return Checkpoint(
            step=self.step,
            seed=self.config.seed,
            config=to_dict(self.config),
            model_config=vars(self.model_config),
            store=self.run.store,
            class_names=list(self.run.class_names),
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            average={} if self.average is None else self.average.weights,
        )
