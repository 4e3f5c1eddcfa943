"""A GRU over joint coordinates, trained by settings of its own.

In: clips to learn from, others. Out: class probabilities (n, A) of the others. The model is
`star.baselines.CoordinateGRU`; nothing of a run's config decides how it is trained, and nothing is chosen by scores.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from star.baselines import CoordinateGRU
from star.build import seeded_model
from star.config.options import ModelConfig
from star.controls.inputs import features_of
from star.controls.sides import Side

# Chosen on UTD-MHAD with each training subject held out in turn.
WIDTH, DROPOUT, SMOOTHING = 128, 0.3, 0.1
BATCH, LR, WEIGHT_DECAY, WARMUP, CLIP_NORM = 32, 1e-2, 1e-2, 0.1, 1.0
EPOCHS, FEWEST_STEPS, MOST_STEPS = 20, 300, 5000
SETTINGS = f"width {WIDTH}, rate {LR:g}, batches of {BATCH}, {EPOCHS} epochs or {FEWEST_STEPS} to {MOST_STEPS} steps"


def gru_settings() -> list[float]:
    """All that decides the training."""
    sizes = [WIDTH, DROPOUT, SMOOTHING, BATCH, LR, WEIGHT_DECAY, WARMUP, CLIP_NORM]
    return [*sizes, EPOCHS, FEWEST_STEPS, MOST_STEPS]


def gru_probabilities(learnt: Side, others: Side, *, most: int, seed: int) -> np.ndarray:
    """(n, A) of other clips, from at most `most` clips; the same bits for the same clips, seed and threads."""
    sizes, learnt = learnt.store.sizes, learnt.spread(most)
    config = ModelConfig(
        kind="coordinate_gru", joints=sizes.joints, classes=learnt.classes, width=WIDTH, dropout=DROPOUT
    )
    model = seeded_model(config, seed=seed)
    assert isinstance(model, CoordinateGRU)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        _fit(model, features_of(learnt), torch.from_numpy(learnt.labels))
    model.eval()
    with torch.inference_mode():
        logits = torch.cat([model.of_features(features_of(part)) for part in others.parts()])
    return logits.double().softmax(dim=1).numpy()


def _fit(model: CoordinateGRU, features: torch.Tensor, labels: torch.Tensor) -> None:
    """AdamW with a rate that rises, then falls to nearly 0; every step takes `BATCH` clips of a shuffled pass."""
    steps = min(max(EPOCHS * -(-len(labels) // BATCH), FEWEST_STEPS), MOST_STEPS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps, pct_start=WARMUP)
    model.train()
    left: list[torch.Tensor] = []
    for _ in range(steps):
        left = left or list(torch.randperm(len(labels)).split(BATCH))
        part = left.pop()
        loss = cross_entropy(model.of_features(features[part]), labels[part], label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        rate.step()
