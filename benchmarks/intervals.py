"""Which 95 % interval of an accuracy holds 95 % where clips of a subject are alike, and there are few subjects?

In: nothing. Out: one table: how often each interval covers the true accuracy, and its mean width in points, over
simulated test splits. A subject's accuracy is drawn from a beta distribution with the true mean; `likeness` is the
correlation within subjects that follows (0.001: almost none). The rows of unequal subjects have 40, 80, 160 and 240
clips in turn. The intervals are

    Wilson       over clips, as if they were independent
    percentile   the cluster bootstrap's percentiles
    bootstrap-t  the cluster bootstrap's quantiles of t
    t            the mean over clusters with t's quantile for one degree of freedom less than there are clusters
    ours         `star.evaluate.clusters.cluster_interval`

    python benchmarks/intervals.py [--trials 1000] [--draws 400]
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.special import stdtrit

from pipeline.records import keyed_rng
from star.evaluate.clusters import Clusters, cluster_interval
from star.evaluate.metrics import wilson_interval

CASES = [(0.85, 0.03, "equal"), (0.85, 0.1, "equal"), (0.95, 0.05, "equal"), (0.85, 0.001, "equal")]
CASES += [(0.85, 0.03, "unequal")]
SIZES = {"equal": [100, 100, 100, 100], "unequal": [40, 80, 160, 240]}


def bootstrap(right: np.ndarray, clips: np.ndarray, rng: np.random.Generator, draws: int) -> list[tuple[float, float]]:
    """The percentile and the bootstrap-t interval, of the numbers of clips and right ones by cluster (G,)."""
    chosen = rng.integers(len(clips), size=(draws, len(clips)))
    means, errors = moments(right[chosen], clips[chosen])
    mean, error = moments(right, clips)
    low, high = np.quantile(means, [0.025, 0.975])
    t = (means - mean)[errors > 0] / errors[errors > 0]
    below, above = np.quantile(t, [0.025, 0.975]) if len(t) else (0.0, 0.0)
    return [(float(low), float(high)), (float(mean - above * error), float(mean - below * error))]


def moments(right: np.ndarray, clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean over clips and its standard error over clusters, the last axis."""
    total = clips.sum(-1)
    mean, number = right.sum(-1) / total, clips.shape[-1]
    residuals = right - mean[..., None] * clips
    return mean, np.sqrt(number / (number - 1) * (residuals**2).sum(-1)) / total


def intervals(right: np.ndarray, clips: np.ndarray, rng: np.random.Generator, draws: int) -> np.ndarray:
    """(5, 2) the intervals of one simulated split, in the order of the table."""
    mean, error = moments(right, clips)
    half = float(stdtrit(len(clips) - 1, 0.975)) * float(error)
    each = np.concatenate([np.arange(n) < r for n, r in zip(clips, right, strict=True)])
    clusters = Clusters(of_clip=np.repeat(np.arange(len(clips)), clips), over="subjects")
    found = [wilson_interval(float(right.sum()), float(clips.sum())), *bootstrap(right, clips, rng, draws)]
    found += [(float(mean) - half, float(mean) + half), cluster_interval(each, clusters)]
    return np.clip(found, 0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=400, help="of each bootstrap")
    given = parser.parse_args()
    print("| subjects | sizes | mean | likeness | Wilson | percentile | bootstrap-t | t | ours |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for number in (2, 4, 8, 20, 40):
        for mean, likeness, sizes in CASES:
            clips = np.resize(SIZES[sizes], number)
            rng, rest = keyed_rng(0, "intervals", number, mean, likeness, sizes), (1 - likeness) / likeness
            shares = rng.beta(mean * rest, (1 - mean) * rest, (given.trials, number))
            found = np.stack([intervals(rng.binomial(clips, one), clips, rng, given.draws) for one in shares])
            covered = ((found[..., 0] <= mean) & (mean <= found[..., 1])).mean(0)
            widths = 100 * (found[..., 1] - found[..., 0]).mean(0)
            cells = [f"{100 * share:.0f} % ({width:.0f})" for share, width in zip(covered, widths, strict=True)]
            print(f"| {number} | {sizes} | {mean} | {likeness} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
