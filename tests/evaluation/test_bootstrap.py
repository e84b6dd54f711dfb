"""Bootstrap intervals: by hand, by brute force, by their coverage."""

from itertools import product

import numpy as np
import pytest

from nano_llm.errors import DataError
from nano_llm.evaluation.bootstrap import (
    Interval,
    paired_difference,
    ratio_interval,
    reversed_interval,
    statistic_interval,
)

RANDOM = np.random.default_rng(0)
NUMERATOR = RANDOM.gamma(2.0, size=60)
DENOMINATOR = NUMERATOR + RANDOM.gamma(2.0, size=60)


def mean_interval(values: np.ndarray, cluster: np.ndarray | None = None, **settings: int) -> Interval:
    return ratio_interval(values, np.ones(len(values)), cluster, **settings)


def test_a_mean_of_three_by_hand() -> None:
    """Of 0, 0, 3 a draw means 0 with (2/3)^3 = 30 %, 3 with 1/27 = 3.7 %: both bounds are at the ends."""
    interval = mean_interval(np.array([0.0, 0.0, 3.0]))
    assert interval == Interval(value=1.0, low=0.0, high=3.0, n=3, num_clusters=3)


def test_all_draws_of_a_small_ratio() -> None:
    """The 3^3 ordered draws are enumerated; the interval's bounds are quantiles of their law."""
    numerator, denominator = np.array([1.0, 2.0, 6.0]), np.array([4.0, 1.0, 2.0])
    draws = np.array(list(product(range(3), repeat=3)))
    law = numerator[draws].sum(1) / denominator[draws].sum(1)
    interval = ratio_interval(numerator, denominator, num_resamples=40_000, scale=2.0)
    assert interval.value == pytest.approx(2 * 9 / 7)
    # The quantile of so many draws is an atom of the law, that of the law itself or its neighbour.
    for bound, level in ((interval.low, 0.025), (interval.high, 0.975)):
        below, at_most = (law < bound / 2 - 1e-9).mean(), (law <= bound / 2 + 1e-9).mean()
        assert below - 0.004 <= level <= at_most + 0.004


def test_a_ratio_agrees_with_drawing_rows_one_by_one() -> None:
    ours = ratio_interval(NUMERATOR, DENOMINATOR, num_resamples=20_000)
    generator = np.random.default_rng(7)
    drawn = []
    for _ in range(20_000):
        rows = generator.integers(60, size=60)
        drawn.append(NUMERATOR[rows].sum() / DENOMINATOR[rows].sum())
    width = ours.high - ours.low
    assert (ours.low, ours.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.03 * width)


def test_numerator_and_denominator_are_drawn_together() -> None:
    interval = ratio_interval(3 * DENOMINATOR, DENOMINATOR)
    assert (interval.low, interval.high) == pytest.approx((3.0, 3.0))


def test_identical_arms_differ_by_exactly_nothing() -> None:
    for cluster in (None, np.arange(60) % 7):
        interval = paired_difference(NUMERATOR, NUMERATOR, DENOMINATOR, DENOMINATOR, cluster)
        assert (interval.value, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_arms_that_share_their_noise_are_told_apart() -> None:
    """Each arm's own interval is as wide as its noise; that of a constant difference has no width."""
    ones = np.ones(60)
    interval = paired_difference(NUMERATOR + 0.1, NUMERATOR, ones, ones)
    assert (interval.low, interval.high) == pytest.approx((0.1, 0.1))
    alone = mean_interval(NUMERATOR)
    assert alone.high - alone.low > 0.3


def test_a_paired_difference_is_the_difference_of_both_ratios_in_each_draw() -> None:
    shifted = np.roll(NUMERATOR, 1)
    both = paired_difference(NUMERATOR, shifted, DENOMINATOR, DENOMINATOR, scale=5.0)
    alone = ratio_interval(5 * (NUMERATOR - shifted), DENOMINATOR)
    assert (both.low, both.high) == pytest.approx((alone.low, alone.high))


def test_a_paired_difference_of_roots_is_taken_of_each_draws_ratios() -> None:
    """Arm a has four times the ratio of b in every draw, so twice its root."""
    found = paired_difference(4 * NUMERATOR, NUMERATOR, DENOMINATOR, DENOMINATOR, scale=9.0, shape=np.sqrt)
    alone = ratio_interval(NUMERATOR, DENOMINATOR, scale=9.0)
    expected = [np.sqrt(bound) for bound in (alone.value, alone.low, alone.high)]
    assert (found.value, found.low, found.high) == pytest.approx(expected)


@pytest.mark.parametrize("clustered", [False, True])
def test_intervals_cover_the_truth_in_95_percent_of_datasets(clustered: bool) -> None:
    """Ratio of means 2 / 4; rows of a cluster share half of their variance."""
    generator = np.random.default_rng(1)
    num_datasets, num_clusters, size = 400, 100, 3
    covered = 0
    for dataset in range(num_datasets):
        shared = np.repeat(generator.normal(size=num_clusters), size) if clustered else 0.0
        numerator = 2 + shared + generator.normal(size=num_clusters * size)
        denominator = 4 + generator.normal(size=num_clusters * size)
        cluster = np.repeat(np.arange(num_clusters), size) if clustered else None
        interval = ratio_interval(numerator, denominator, cluster, num_resamples=500, seed=dataset)
        covered += interval.low <= 0.5 <= interval.high
    # Three standard errors of a share of 400, and a point for percentile intervals of 100 clusters.
    assert covered / num_datasets == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / num_datasets) + 0.01)


def test_copies_of_rows_in_clusters_count_once() -> None:
    cluster = np.repeat(np.arange(60), 4)
    copied, alone = mean_interval(np.repeat(NUMERATOR, 4), cluster), mean_interval(NUMERATOR)
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))
    assert (copied.n, copied.num_clusters) == (240, 60)


def test_clusters_widen() -> None:
    values = np.repeat(NUMERATOR, 4)
    within = mean_interval(values, np.repeat(np.arange(60), 4))
    ignored = mean_interval(values)
    assert within.high - within.low == pytest.approx(2 * (ignored.high - ignored.low), rel=0.1)


def test_names_of_clusters_do_not_matter() -> None:
    number = np.arange(60) % 9
    names = np.array([f"movie-{index}" for index in number])
    assert mean_interval(NUMERATOR, names) == mean_interval(NUMERATOR, number)


def test_the_seed_decides() -> None:
    assert mean_interval(NUMERATOR, seed=3) == mean_interval(NUMERATOR, seed=3)
    assert mean_interval(NUMERATOR, seed=3) != mean_interval(NUMERATOR, seed=4)


@pytest.mark.parametrize("cluster", [None, np.arange(60) % 20])
def test_a_statistic_of_rows_agrees_with_the_ratio_it_spells(cluster: np.ndarray | None) -> None:
    sums = ratio_interval(NUMERATOR, DENOMINATOR, cluster)
    rows = statistic_interval([NUMERATOR, DENOMINATOR], lambda a, b: a.sum() / b.sum(), cluster, num_resamples=10_000)
    assert rows.value == pytest.approx(sums.value)
    width = sums.high - sums.low
    assert (rows.low, rows.high) == pytest.approx((sums.low, sums.high), abs=0.04 * width)
    assert (rows.n, rows.num_clusters) == (sums.n, sums.num_clusters)


def test_a_statistic_sees_clusters_whole() -> None:
    """Three rows of each cluster, so any draw holds each label a multiple of three times."""
    cluster = np.array([0, 1, 2, 3] * 3)

    def whole(labels: np.ndarray) -> float:
        assert (np.bincount(labels) % 3 == 0).all()
        assert len(labels) == 12
        return 1.0

    statistic_interval([cluster], whole, cluster, num_resamples=50)


def test_a_reversed_interval_by_hand() -> None:
    """Reflected at its value; widened to hold the value; not below 0; nothing where there is nothing."""
    for (value, low, high), expected in (
        ((0.5, 0.4, 0.7), (0.3, 0.6)),
        ((0.5, 0.6, 0.9), (0.1, 0.5)),
        ((0.5, 0.1, 0.4), (0.5, 0.9)),
        ((0.1, 0.1, 0.3), (0.0, 0.1)),
    ):
        found = reversed_interval(Interval(value, low, high, 9, 8))
        assert (found.low, found.high) == pytest.approx(expected)
        assert (found.value, found.n, found.num_clusters) == (value, 9, 8)
    nothing = reversed_interval(Interval(0.5, np.nan, np.nan, 3, 1))
    assert np.isnan(nothing.low)
    assert np.isnan(nothing.high)


def test_draws_without_a_statistic_are_left_out() -> None:
    values = np.array([1.0, 1.0, 1.0, np.nan])
    interval = statistic_interval([values], lambda x: float(np.mean(x)) if np.isfinite(x).all() else np.nan)
    assert (interval.low, interval.high) == (1.0, 1.0)
    assert np.isnan(interval.value)


def test_one_cluster_has_a_value_and_no_interval() -> None:
    together = np.zeros(60)
    for interval in (
        mean_interval(NUMERATOR, together),
        paired_difference(NUMERATOR, DENOMINATOR, DENOMINATOR, DENOMINATOR, together),
        statistic_interval([NUMERATOR], np.mean, together),
    ):
        assert np.isfinite(interval.value)
        assert np.isnan(interval.low)
        assert np.isnan(interval.high)
        assert interval.num_clusters == 1


def test_draws_with_an_empty_denominator_are_left_out() -> None:
    interval = ratio_interval([1.0, 2.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0])
    assert (interval.low, interval.high) == (1.0, 2.0)


@pytest.mark.parametrize(
    ("numerator", "denominator", "cluster", "message"),
    [
        ([], [], None, "at least one"),
        ([1.0, 2.0], [1.0], None, r"\[2, 1\]"),
        ([1.0, 2.0], [1.0, 1.0], [0], r"\[1, 2\]"),
        ([1.0, np.nan], [1.0, 1.0], None, "Row 1"),
        ([1.0, 2.0], [0.0, 0.0], None, "sums to 0"),
    ],
)
def test_what_cannot_be_resampled_is_refused(
    numerator: list[float], denominator: list[float], cluster: list[int] | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        ratio_interval(numerator, denominator, cluster)
