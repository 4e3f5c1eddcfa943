"""How many clips go through a model at once, in training and in evaluation.

In: a config, the processes. Out: numbers of clips. Whether they fit into memory is `star.train.memory`.
"""

from __future__ import annotations

from star.config.text import TrainConfig
from star.distributed.world import World

MOST_EVALUATED = 64  # clips: more at once are no faster


def clips_at_once(config: TrainConfig, world: World, clips: int) -> int:
    """Of the `clips` of a step, how many go through the model of one process together."""
    share = -(-clips // world.size)
    return min(config.optim.micro_batch or share, share)


def evaluated_at_once(config: TrainConfig, world: World) -> int:
    """Clips of a forward pass of an evaluation: it holds one layer's arrays at a time, where a training step keeps all
    that every layer made, so it may take more clips than a step does at once: four times as many."""
    return min(MOST_EVALUATED, 4 * clips_at_once(config, world, config.optim.batch_size))
