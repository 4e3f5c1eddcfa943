"""Number of clips in one forward pass, in training and in evaluation.

In: a config, the processes. Out: numbers of clips. `star.train.memory` checks whether they fit into memory.
"""

from __future__ import annotations

from star.config.text import TrainConfig
from star.distributed.world import World


def clips_at_once(config: TrainConfig, world: World, clips: int) -> int:
    """Of the `clips` of a step, the number in one forward pass of one process."""
    share = -(-clips // world.size)
    return min(config.optim.micro_batch or share, share)


def evaluated_at_once(config: TrainConfig, world: World) -> int:
    """Clips of a forward pass in evaluation: four times those in training, since it holds the arrays of one layer at a
    time where training keeps those of all layers."""
    return min(64, 4 * clips_at_once(config, world, config.optim.batch_size))  # more than 64 at once are no faster
