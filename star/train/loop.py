"""The steps of a training, with their evaluations and checkpoints.

In: a run, its data, the processes, a checkpoint to resume from. Out: lines of metrics.jsonl, checkpoints, events. The
validation side is scored during the run, the test side once, after the last step. An evaluation follows the checkpoint
of its step, so its failure costs no training; one that was due and is missing is made before the next step. Opens and
checks nothing: `star.train.start` does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from pipeline.errors import DataError
from star.batch import Batch
from star.build import seeded_model
from star.config.text import TrainConfig, to_dict
from star.data.loader import loader, workers_for
from star.data.sampler import Batches
from star.data.splits import Splits, fitted
from star.data.statistics import channel_statistics, place_statistics, require_finite
from star.distributed.batch_size import clips_at_once, evaluated_at_once
from star.distributed.world import World
from star.evaluate.scores import Scores, save_scores
from star.evaluate.scoring import score
from star.runs.checkpoint import Checkpoint, save_checkpoint
from star.runs.metrics_log import MetricsLog
from star.runs.run import Run, load_weights, restored_model, score_file
from star.runs.store_identity import trained_on
from star.train.memory import too_large
from star.train.optim import MovingAverage, learning_rate, make_optimizer, restore_states
from star.train.progress import Clock, StepProgress, TrainEvent
from star.train.step import train_step


def splits_due(config: TrainConfig, plan: Batches, step: int, *, validates: bool) -> list[str]:
    """The splits that are to be scored after so many steps, in order: "val" after every `eval_every`-th epoch and at
    the end, if the run `validates`; "test" at the end alone."""
    last, (epoch, rest) = step == plan.steps, divmod(step, plan.steps_per_epoch)
    now = last or (step > 0 and rest == 0 and config.eval_every > 0 and epoch % config.eval_every == 0)
    return ["val"] * (validates and now) + ["test"] * (last and config.score_test)


def _as_in_the_first(model: nn.Module, world: World) -> None:
    """Give every process the buffers of the first: another machine may round its statistics otherwise, and turn the
    directions of whitened channels."""
    if world.size > 1:
        first = world.gather({name: buffer.clone() for name, buffer in model.named_buffers()})[0]
        for name, buffer in model.named_buffers():
            buffer.copy_(first[name])


class Training:
    """A run during its training: model, optimiser, moving average, number of steps done."""

    def __init__(self, run: Run, data: Splits, world: World, plan: Batches, checkpoint: Checkpoint | None) -> None:
        self.run, self.data, self.world, self.batches, self.config = run, data, world, plan, run.config
        self.model_config = fitted(self.config.model, data.train)
        self.step = plan.start
        optim = self.config.optim
        model = seeded_model(self.model_config, seed=self.config.seed)
        if checkpoint is not None:
            load_weights(model, checkpoint.model)
        elif self.config.data.standardise:
            statistics = place_statistics if self.model_config.whiten else channel_statistics
            model.standardise(**statistics(data.train, most=self.config.data.statistics_clips))
            _as_in_the_first(model, world)
        self.model = model.to(world.device)
        self.optimizer = make_optimizer(self.model, optim)
        self.average = MovingAverage(self.model, optim.ema) if optim.ema > 0 else None
        if checkpoint is not None:
            restore_states(self.optimizer, checkpoint)
            if self.average is not None:
                self.average.restore(checkpoint)

    def loop(
        self,
        log: MetricsLog | None,
        *,
        due: Sequence[str],
        workers: int | None,
        save_every_s: float,
        progress: StepProgress | None,
        stop: Callable[[], bool] | None,
    ) -> None:
        """From the next step to the end, after the evaluations that are due; only the leader has a `log`."""
        clock = Clock(first=self.step, total=self.batches.steps, steps_per_epoch=self.batches.steps_per_epoch)
        for split in due:
            self._evaluation(split, log, clock, workers)
        validates = self.data.val is not None
        forward = torch.compile(self.model) if self.config.optim.compile else self.model
        saved_at = time.monotonic()
        dataset, device = self.data.train, self.world.device
        readers = workers_for(dataset, device) if workers is None else workers
        for batch in clock.waiting(loader(dataset, self.batches, workers=readers, pin=device.type == "cuda")):
            event = self._one_step(forward, batch, clock)
            last = self.step == self.batches.steps
            due = splits_due(self.config, self.batches, self.step, validates=validates)
            if log is not None:
                if self.step % self.config.log_every == 0 or last:
                    log.write({"step": event.done, "epoch": event.epoch, "loss": event.loss, "lr": event.lr})
                if progress is not None:
                    progress(event)
            stopped = stop is not None and self.world.any(stop()) and not last
            if stopped:
                with self.world.agreed():  # torchrun ends all processes as soon as one has ended
                    self._save(log)
                raise KeyboardInterrupt
            if log is not None and (due or last or time.monotonic() - saved_at >= save_every_s):
                with clock.paused():
                    self._save(log)
                saved_at = time.monotonic()
            for split in due:
                with clock.paused():
                    scores = self._evaluation(split, log, clock, workers)
                if log is not None and progress is not None:
                    progress(replace(event, split=split, top1=scores.top1))

    def _save(self, log: MetricsLog | None) -> None:
        """In the leader; the metrics first, since the checkpoint relies on them."""
        if log is not None:
            log.sync()
            save_checkpoint(self.run.path, self.checkpoint())

    def _evaluation(self, split: str, log: MetricsLog | None, clock: Clock, workers: int | None) -> Scores:
        """Of the last step, on a split, with the averaged weights if the run keeps them; its line is on the disk when
        this returns."""
        averaged = self.average is not None
        model = restored_model(self.checkpoint()).to(self.world.device) if averaged else self.model
        clips = evaluated_at_once(self.config, self.world)
        scores = score(model, self.data.scored(split), batch_size=clips, world=self.world, workers=workers)
        if log is not None:
            if self.step == self.batches.steps:  # before the line: without that line the next call evaluates again
                seen = self.data.train.clip_ids()
                save_scores(replace(scores, trained_on=seen), self.run.path / score_file(split))
            log.write({"step": self.step, "epoch": clock.epoch(self.step), **scores.summary()})
            log.sync()
        return scores

    def _one_step(self, forward: Any, batch: Batch, clock: Clock) -> TrainEvent:
        optim, step = self.config.optim, self.step
        rate = learning_rate(step, self.batches.steps, optim)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
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
            with self.world.agreed():  # the likelier cause, and it names the clip
                require_finite(self.data.train, batch)
            with self.world.agreed():  # every process gets here: the loss is summed over all
                raise
        except torch.OutOfMemoryError as error:
            held = clips_at_once(self.config, self.world, clips)
            raise too_large(held, self.world, fits=held // 2) from error  # although `require_memory` allowed it
        if self.average is not None:
            self.average.update(self.model)
        self.step += 1
        return clock.event(done=self.step, clips=clips, loss=loss, lr=rate)

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(
            step=self.step,
            seed=self.config.seed,
            config=to_dict(self.config),
            model_config=vars(self.model_config),
            store=trained_on(self.run.store),
            class_names=list(self.run.class_names),
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            average={} if self.average is None else self.average.weights,
        )
