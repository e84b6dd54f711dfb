"""Means over seeds and paired differences, with the uncertainty that so few seeds leave.

The unit of a comparison is the difference of two arms under the same seed. An improvement is claimed only where the
interval excludes 0 and the adjusted p is below 0.05.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95
ALPHA = 1 - LEVEL
ENOUGH_SEEDS = 6
"""The smallest n whose least two-sided sign-flip p, 2 / 2**n, is below 0.05."""

MAX_FLIPS = 2**14

EQUAL = 1e-9
"""Relative distance below which differences are the same number."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds; the interval is None for a single seed."""

    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Difference:
    """Arm minus baseline over the seeds that both have."""

    mean: float
    low: float | None
    high: float | None
    p: float | None
    n: int


def t_interval(values: Sequence[float]) -> Estimate:
    """Return mean and 95 % t-interval: mean +- t(0.975, n - 1) sd / sqrt(n)."""
    n = len(values)
    mean = float(np.mean(values))
    if n < 2:
        return Estimate(mean, None, None, n)
    half = float(stats.t.ppf(1 - ALPHA / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return Estimate(mean, mean - half, mean + half, n)


def paired_difference(differences: Sequence[float]) -> Difference:
    """Return the mean difference, its BCa bootstrap interval and the p of a sign-flip permutation test.

    Equal differences give neither an interval nor a p: there is nothing to resample.
    """
    n = len(differences)
    mean = float(np.mean(differences))
    # Subtraction leaves rounding: 1.1 - 1.0 and 2.1 - 2.0 differ in the last bits only.
    if n < 2 or np.allclose(differences, differences[0], rtol=EQUAL, atol=0.0):
        return Difference(mean, None, None, None, n)
    sample = (np.asarray(differences, dtype=float),)
    interval = stats.bootstrap(
        sample, np.mean, confidence_level=LEVEL, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    flipped = stats.permutation_test(
        sample,
        np.mean,
        permutation_type="samples",
        n_resamples=MAX_FLIPS,
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    return Difference(mean, float(interval.low), float(interval.high), float(flipped.pvalue), n)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values for their number (Holm 1979): the i-th smallest of m times m - i, made monotone, at most 1."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted.tolist()


def verdict(difference: Difference, adjusted_p: float | None) -> str:
    """Say in words what a difference of a lower-is-better figure shows."""
    if difference.n < ENOUGH_SEEDS:
        return f"n too small to test (n={difference.n}, at least {ENOUGH_SEEDS} seeds)"
    if difference.low is None or difference.high is None or adjusted_p is None:
        return "degenerate: all differences are equal"
    if adjusted_p < ALPHA and difference.high < 0:
        return "better"
    if adjusted_p < ALPHA and difference.low > 0:
        return "worse"
    return "no difference shown"
