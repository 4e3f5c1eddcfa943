"""Intervals and tests where clips belong together: against oracles, and by what they cover of simulated subjects."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import nct, t, ttest_1samp

from pipeline.records import VideoRecord, keyed_rng
from star.evaluate.clusters import Clusters, cluster_interval, clusters_of, groups_of, paired_difference
from star.evaluate.metrics import mcnemar, wilson_interval

TRIALS = 3000
ERROR = 3 * (0.95 * 0.05 / TRIALS) ** 0.5  # three standard errors of a simulated coverage of 95 %


def of(sizes: list[int], over: str = "subjects") -> Clusters:
    return Clusters(of_clip=np.repeat(np.arange(len(sizes)), sizes), over=over)


def record(subject: int, camera: int, replication: int, label: int = 0, setup: int = 1) -> VideoRecord:
    name = f"{setup} {camera} {subject} {replication}"
    return VideoRecord(
        clip_id=f"{name} {label}", key=name, label=label, subject=subject, camera=camera, setup=setup,
        replication=replication,
    )  # fmt: skip


def test_the_cameras_of_a_performance_belong_together() -> None:
    clips = [record(3, camera, replication) for replication in (1, 2) for camera in (1, 2, 3)]
    others = [record(3, 1, 1, label=1), record(3, 1, 1, setup=2), record(4, 1, 1), record(3, 1, -1), record(-1, 1, 1)]
    found = groups_of([*clips, *others])
    assert found["subjects"].tolist() == [3] * 8 + [4, 3, -1]
    assert found["performances"].tolist() == [0] * 3 + [1] * 3 + [2, 3, 4, -1, -1]


@pytest.mark.parametrize(("subjects", "performances", "over", "count"), [
    ([1, 1, 2, 2], [0, 1, 2, 2], "subjects", 2),
    ([1, 1, 2, -1], [0, 1, 2, -1], "subjects", 3),  # clips of unknown subjects may be of one
    ([1, 1, 1, 1], [0, 0, 1, 1], "performances", 2),
    ([1, 1, -1, -1], [0, 0, -1, -1], "performances", 3),
    ([-1, -1, -1, -1], [-1, -1, -1, -1], "clips", 4),
    ([1, 1, 1, 1], [0, 0, 0, 0], "clips", 4),  # a single performance has no spread
    ([7], [0], "clips", 1),
])  # fmt: skip
def test_subjects_come_before_performances(subjects: list[int], performances: list[int], over: str, count: int) -> None:
    found = clusters_of(np.asarray(subjects), np.asarray(performances))
    assert (found.over, found.count, str(found)) == (over, count, f"{count} {over}")
    names = subjects if over == "subjects" else performances
    for i, j in itertools.combinations(range(len(subjects)), 2):
        together = found.of_clip[i] == found.of_clip[j]
        assert together == (over != "clips" and names[i] == names[j] and (over == "subjects" or names[i] >= 0))


def subjects_right(rng: np.random.Generator, sizes: list[int], mean: float, likeness: float) -> np.ndarray:
    """(N,) bool: each subject has a share of its own, from the beta distribution whose correlation within subjects is
    `likeness`."""
    rest = (1 - likeness) / likeness
    return rng.random(sum(sizes)) < np.repeat(rng.beta(mean * rest, (1 - mean) * rest, len(sizes)), sizes)


@pytest.mark.parametrize("number", [4, 8, 20, 40])
@pytest.mark.parametrize(("mean", "likeness"), [(0.8, 0.05), (0.5, 0.1)])
def test_the_interval_covers_where_wilsons_does_not(number: int, mean: float, likeness: float) -> None:
    clusters, rng = of([100] * number), keyed_rng(0, "coverage", number, mean)
    drawn = [subjects_right(rng, [100] * number, mean, likeness) for _ in range(TRIALS)]

    def coverage(intervals: list[tuple[float, float]]) -> float:
        return float(np.mean([low <= mean <= high for low, high in intervals]))

    assert coverage([cluster_interval(right, clusters) for right in drawn]) == pytest.approx(0.95, abs=0.015 + ERROR)
    assert coverage([wilson_interval(int(right.sum()), len(right)) for right in drawn]) < 0.65


@pytest.mark.parametrize("number", [4, 20])
def test_subjects_of_unequal_sizes_are_covered_too(number: int) -> None:
    sizes = [40, 80, 160, 240] * (number // 4)
    rng = keyed_rng(0, "unequal", number)
    found = [cluster_interval(subjects_right(rng, sizes, 0.8, 0.05), of(sizes)) for _ in range(TRIALS)]
    assert np.mean([low <= 0.8 <= high for low, high in found]) > 0.95 - 0.015 - ERROR


def test_independent_clips_have_an_interval_that_is_at_least_wilsons() -> None:
    for number in (2, 4, 50):
        for right in (0.0, 0.3, 1.0):
            clips = np.arange(200) < 200 * right
            mixed = keyed_rng(0, "mixed", number).permutation(clips)
            low, high = cluster_interval(mixed, of([200 // number] * number))
            wilson = wilson_interval(int(clips.sum()), 200)
            assert low <= wilson[0] <= wilson[1] <= high
    alone = Clusters(of_clip=np.arange(200), over="clips")
    assert cluster_interval(clips, alone) == wilson_interval(200, 200)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=3, max_size=9).filter(lambda counts: len(set(counts)) > 1), st.data())
def test_equal_clusters_are_a_t_test_of_their_means(counts: list[int], data: st.DataObject) -> None:
    """`counts`: the clips of 20 that only the first result gets right, by subject; the rest both do."""
    clusters = of([20] * len(counts))
    gained = np.concatenate([np.arange(20) < count for count in counts])
    order = np.asarray(data.draw(st.permutations(range(len(gained)))))
    shuffled = Clusters(of_clip=clusters.of_clip[order], over="subjects")
    found = paired_difference(np.ones(len(gained)), ~gained[order], shuffled)
    means = np.asarray(counts) / 20
    alone = agresti_min(int(gained.sum()), 0, len(gained))
    assume(means.var(ddof=1) / len(means) > alone)  # else the test over clips may be the more cautious one
    expected = ttest_1samp(means, 0)
    low, high = expected.confidence_interval()
    assert found.value == pytest.approx(means.mean())
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    assert found.interval == (pytest.approx(max(low, -1), abs=1e-9), pytest.approx(min(high, 1), abs=1e-9))


def agresti_min(only_first: int, only_second: int, clips: int) -> float:
    """The variance of a paired difference of independent clips, from a table with half a clip more in each cell."""
    first, second = (only_first + 0.5) / (clips + 2), (only_second + 0.5) / (clips + 2)
    return (first + second - (first - second) ** 2) / (clips + 2)


def test_the_variance_is_that_of_leaving_each_cluster_out() -> None:
    rng = keyed_rng(0, "jackknife")
    sizes = [50, 90, 200, 140]
    clusters = of(sizes)
    first = rng.random(480) < np.repeat([0.4, 0.7, 0.5, 0.6], sizes)
    second = rng.random(480) < 0.5
    gained = first.astype(float) - second
    without = np.asarray([gained[clusters.of_clip != c].mean() for c in range(4)])
    variance = 3 / 4 * ((without - gained.mean()) ** 2).sum()
    found = paired_difference(first, second, clusters)
    freedom = 1 / np.sum((np.asarray(sizes) / 480) ** 2) - 1
    assert found.interval[1] < 1
    assert found.interval[1] - found.value == pytest.approx(t.ppf(0.975, freedom) * variance**0.5)
    centre = found.smallest / variance**0.5
    assert nct.sf(t.ppf(0.975, freedom), freedom, centre) == pytest.approx(0.8, abs=1e-6)


def two_results(
    rng: np.random.Generator, number: int, difference: float, spread: float
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) bool each, 100 clips a subject, whose true difference varies from subject to subject."""
    second = np.repeat(rng.uniform(0.5, 0.7, number), 100)
    first = second + np.repeat(difference + spread * rng.standard_normal(number), 100)
    return rng.random(len(first)) < first, rng.random(len(second)) < second


@pytest.mark.parametrize("number", [4, 20])
def test_equal_results_differ_as_rarely_as_the_level_says(number: int) -> None:
    clusters, rng = of([100] * number), keyed_rng(0, "level", number)
    pairs = [two_results(rng, number, 0.0, 0.1) for _ in range(TRIALS)]
    found = [paired_difference(first, second, clusters) for first, second in pairs]
    assert np.mean([each.p_value < 0.05 for each in found]) == pytest.approx(0.05, abs=0.01 + ERROR)
    for each in found[:50]:
        low, high = each.interval
        assert (each.p_value < 0.05) == (not low <= 0 <= high)
    assert np.mean([mcnemar(first, second) < 0.05 for first, second in pairs]) > 0.15


@pytest.mark.parametrize("number", [4, 20])
def test_the_smallest_difference_is_shown_in_four_of_five_studies(number: int) -> None:
    clusters, rng = of([100] * number), keyed_rng(0, "power", number)
    smallest = np.sqrt(
        np.mean([paired_difference(*two_results(rng, number, 0.0, 0.1), clusters).smallest ** 2 for _ in range(500)])
    )
    pairs = (two_results(rng, number, float(smallest), 0.1) for _ in range(TRIALS))
    shown = [paired_difference(first, second, clusters).p_value < 0.05 for first, second in pairs]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.05)


def test_few_clips_that_differ_are_taken_with_half_a_clip_more() -> None:
    first, second = np.arange(100) < 43, (np.arange(100) >= 3) & (np.arange(100) < 45)  # 3 and 2 alone
    found = paired_difference(first, second, Clusters(of_clip=np.arange(100), over="clips"))
    half = t.ppf(0.975, 99) * agresti_min(3, 2, 100) ** 0.5
    assert found.interval == (pytest.approx(0.01 - half), pytest.approx(0.01 + half))


def test_results_that_agree_are_not_proven_equal() -> None:
    right = np.arange(430) % 5 > 0
    for clusters in (of([108, 108, 107, 107]), Clusters(of_clip=np.arange(430), over="clips")):
        found = paired_difference(right, right, clusters)
        assert (found.value, found.p_value) == (0, 1)
        assert found.interval[0] < 0 < found.interval[1]
        assert found.smallest > 0.005
    single = paired_difference(
        np.asarray([True]), np.asarray([False]), Clusters(of_clip=np.zeros(1, int), over="clips")
    )
    assert (single.interval, single.smallest) == ((-1, 1), 1)
    assert single.p_value > 0.05


def test_the_power_is_said_in_a_sentence() -> None:
    right = np.arange(430) % 5 > 0
    found = paired_difference(right, np.roll(right, 1), of([108, 108, 107, 107]))
    shown = f"{100 * found.smallest:.1f} points"
    assert found.power().startswith(f"430 clips of 4 subjects show a true difference of {shown} in 4 of 5 studies")
