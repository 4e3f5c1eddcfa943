"""What an accuracy is worth where clips belong together: intervals and paired differences over clusters.

In: subjects and performances of clips, what a model got right (N,). Out: `Clusters`, intervals, differences. Clips of a
subject are alike, and synchronous cameras see one performance: a test over clips alone, as McNemar's or Wilson's
interval, takes them for more evidence than they are. Draws nothing at random; knows no models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import nctdtrinc, ndtri, stdtr, stdtrit

from pipeline.records import UNKNOWN, VideoRecord
from star.evaluate.metrics import wilson_interval

LEVEL, POWER = 0.05, 0.8


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """Which clips belong together.

    Attributes:
        of_clip: (N,) int64, numbers from 0. over: "subjects", "performances" or "clips" (each alone).
    """

    of_clip: np.ndarray
    over: str

    @property
    def count(self) -> int:
        return int(self.of_clip.max()) + 1

    def __str__(self) -> str:
        return f"{self.count} {self.over}"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The accuracy of one result less that of another on the same clips.

    Attributes:
        value: the difference. interval: of 95 %.
        p_value: two-sided, of a t-test over the clusters.
        smallest: the smallest true difference that such clips show in 80 % of all studies at a level of 5 %.
        clips: their number. over: of the `Clusters`. clusters: their number.
    """

    value: float
    interval: tuple[float, float]
    p_value: float
    smallest: float
    clips: int
    over: str
    clusters: int

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "difference": self.value,
            "difference95": list(self.interval),
            "cluster_p_value": self.p_value,
            "smallest": self.smallest,
            "over": self.over,
            "clusters": self.clusters,
        }

    def power(self) -> str:
        """What the clips could show at all, as a sentence for people."""
        of = "" if self.over == "clips" else f" of {self.clusters} {self.over}"
        return (
            f"{self.clips} clips{of} show a true difference of {100 * self.smallest:.1f} points in 4 of 5 studies "
            "(80 % power at 5 %); a smaller one may well stay unseen"
        )


def groups_of(records: Sequence[VideoRecord]) -> dict[str, np.ndarray]:
    """{"subjects": (N,), "performances": (N,)} of clips, int64, -1 where unknown.

    Clips of one setup, subject, replication and action are one performance, seen by several cameras.
    """
    numbers: dict[tuple[int, ...], int] = {}
    performances = [
        numbers.setdefault((each.setup, each.subject, each.replication, each.label), len(numbers))
        if UNKNOWN not in (each.subject, each.replication)
        else UNKNOWN
        for each in records
    ]
    subjects = [each.subject for each in records]
    return {"subjects": np.asarray(subjects, np.int64), "performances": np.asarray(performances, np.int64)}


def clusters_of(subjects: np.ndarray, performances: np.ndarray) -> Clusters:
    """By subject, where at least two are known; else by performance; where each clip has its own, by clip.

    Args:
        subjects, performances: see `groups_of`. All clips of unknown subjects are one cluster; a clip of an unknown
            performance is one by itself.
    """
    names, numbers = np.unique(subjects, return_inverse=True)
    if (names != UNKNOWN).sum() > 1:
        return Clusters(of_clip=numbers, over="subjects")
    alone = -2 - np.arange(len(performances))
    names, numbers = np.unique(np.where(performances == UNKNOWN, alone, performances), return_inverse=True)
    if 1 < len(names) < len(performances):
        return Clusters(of_clip=numbers, over="performances")
    return Clusters(of_clip=np.arange(len(performances)), over="clips")


def cluster_interval(right: np.ndarray, clusters: Clusters) -> tuple[float, float]:
    """The 95 % interval of an accuracy over clusters; never narrower than Wilson's over the clips.

    Wilson's interval of the effective number of clips (Korn and Graubard, Survey Methodology 1998; Franco et al.,
    Journal of Survey Statistics and Methodology 2019): of as many independent clips as have the variance that the
    jackknife over clusters finds, and fewer still by the square of the normal quantile over t's, for few clusters.
    `benchmarks/intervals.py` compares it with the cluster bootstrap, which covers too little with few subjects.

    Args:
        right: (N,) bool, or the share of seeds that got the clip right.
    """
    clips, mean = float(len(right)), float(np.mean(right))
    variance, freedom = _jackknife(np.asarray(right, np.float64), clusters)
    if clusters.over != "clips" and variance > 0:
        fewer = float(ndtri(1 - LEVEL / 2) / stdtrit(freedom, 1 - LEVEL / 2)) ** 2
        clips = min(clips, fewer * mean * (1 - mean) / variance)
    return wilson_interval(mean * clips, clips)


def paired_difference(first: np.ndarray, second: np.ndarray, clusters: Clusters) -> Difference:
    """The accuracy of `first` less that of `second`, by the more cautious of two t-tests.

    One is over clusters, with the jackknife's variance: for equal clusters, the t-test of their means. The other is
    over clips, with half a clip more in each cell of the table (Agresti and Min, Statistics in Medicine 2005): a
    handful of clusters may agree by chance.

    Args:
        first, second: as in `cluster_interval`, of the same clips.
    """
    gained = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    clips, value = len(gained), float(gained.mean())
    alone = (float((gained**2).sum()) + 1 - float(gained.sum()) ** 2 / (clips + 2)) / (clips + 2) ** 2
    half, p_value, smallest = 0.0, 0.0, 0.0
    for variance, freedom in (_jackknife(gained, clusters), (alone, max(1.0, clips - 1.0))):
        error, critical = math.sqrt(variance), float(stdtrit(freedom, 1 - LEVEL / 2))
        half = max(half, critical * error)
        smallest = max(smallest, float(nctdtrinc(freedom, 1 - POWER, critical)) * error)
        if error > 0:
            p_value = max(p_value, float(2 * stdtr(freedom, -abs(value) / error)))
    return Difference(
        value=value,
        interval=(max(-1.0, value - half), min(1.0, value + half)),
        p_value=p_value,
        smallest=min(1.0, smallest),
        clips=clips,
        over=clusters.over,
        clusters=clusters.count,
    )


def _jackknife(values: np.ndarray, clusters: Clusters) -> tuple[float, float]:
    """The variance of the mean of `values` (N,) over clusters, each left out in turn, and its degrees of freedom: the
    effective number of clusters (that many equal ones have the same sum of squared shares) less one, at least 1."""
    clips = np.bincount(clusters.of_clip)
    shares, number = clips / len(values), len(clips)
    if number == 1:  # a single clip
        return 0.0, 1.0
    residuals = np.bincount(clusters.of_clip, values) - values.mean() * clips
    without = residuals / (len(values) - clips)  # the change of the mean without the cluster
    return float((number - 1) / number * (without**2).sum()), max(1.0, 1 / float((shares**2).sum()) - 1)
