"""Means over seeds and paired differences, with the uncertainty that so few seeds leave.

The unit of a comparison is the difference of two arms under the same seed. An improvement is claimed only where the
interval excludes 0 and the adjusted p is below 0.05.

Axes: A arms, N seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.95
ALPHA = 1 - LEVEL
ENOUGH_SEEDS = 6
"""The smallest n whose least two-sided sign-flip p, 2 / 2**n, is below 0.05."""

MAX_FLIPS = 2**14

CHUNK = 32
"""Arms that are tested at once; bounds the memory, 10,000 resamples of each."""

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
    half = float(_t_quantile(n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return Estimate(mean, mean - half, mean + half, n)


@cache
def _t_quantile(degrees: int) -> float:
    return float(stats.t.ppf(1 - ALPHA / 2, degrees))


def paired_differences(samples: Sequence[Sequence[float]]) -> list[Difference]:
    """Return of each sample its mean, its BCa bootstrap interval and the p of a sign-flip permutation test.

    Equal differences give neither an interval nor a p: there is nothing to resample.

    Args:
        samples: Arm minus baseline under each seed that both have, a sample for each arm.
    """
    made = {i: _untested(sample) for i, sample in enumerate(samples)}
    varied = [i for i, sample in enumerate(samples) if not _all_equal(sample)]
    for n in sorted({len(samples[i]) for i in varied}):
        alike = [i for i in varied if len(samples[i]) == n]
        for start in range(0, len(alike), CHUNK):
            chunk = alike[start : start + CHUNK]
            made |= zip(chunk, _tested(np.array([samples[i] for i in chunk], dtype=float)), strict=True)
    return list(made.values())


def _untested(differences: Sequence[float]) -> Difference:
    return Difference(float(np.mean(differences)), None, None, None, len(differences))


def _all_equal(differences: Sequence[float]) -> bool:
    """Tell whether differences are the same number: 1.1 - 1.0 and 2.1 - 2.0 differ in the last bits only."""
    return len(differences) < 2 or np.allclose(differences, differences[0], rtol=EQUAL, atol=0.0)


def _tested(differences_AN: NDArray[np.float64]) -> list[Difference]:
    """Test arms of the same number of seeds at once: the resampling is the same for each of them."""
    interval = stats.bootstrap(
        (differences_AN,), np.mean, axis=-1, confidence_level=LEVEL, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    flipped = stats.permutation_test(
        (differences_AN,),
        np.mean,
        axis=-1,
        permutation_type="samples",
        n_resamples=MAX_FLIPS,
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    columns = (differences_AN.mean(axis=-1), interval.low, interval.high, flipped.pvalue)
    return [
        Difference(float(mean), float(low), float(high), float(p), differences_AN.shape[1])
        for mean, low, high, p in zip(*columns, strict=True)
    ]


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
