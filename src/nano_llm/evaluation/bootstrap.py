"""Bootstrap intervals over units or clusters: of means, of ratios of sums, of any statistic of rows.

A cluster (the reviews of one movie, say) is drawn whole, so rows that depend on each other stay together. All
intervals are at 95 %, and percentile intervals but where `reversed_interval` turns them around. The same seed gives the
same interval; arms that are compared are always resampled by the same draw.

Axes: R rows (reviews, pairs, texts), C clusters, X columns of sums, D draws.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nano_llm.data.arrays import FloatArray
from nano_llm.errors import DataError

IndexArray = NDArray[np.int64]

LEVEL = 0.95
_ENTRIES = 1 << 20  # counts drawn at a time, which bounds the memory


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval.

    With fewer than two clusters there is nothing to resample: low and high are NaN.
    """

    value: float
    low: float
    high: float
    n: int
    """Rows."""
    num_clusters: int


def ratio_interval(
    numerator_R: ArrayLike,
    denominator_R: ArrayLike,
    cluster_R: ArrayLike | None = None,
    *,
    num_resamples: int = 10_000,
    seed: int = 0,
    scale: float = 1.0,
) -> Interval:
    """Return scale * sum(numerator) / sum(denominator) and its interval; both sums come from the same draw.

    A mean has ones in the denominator. Bits a byte have nats and bytes, and the scale 1 / ln 2.

    Args:
        numerator_R: Summed above the line, a number a row.
        denominator_R: Summed below the line.
        cluster_R: What each row belongs to, of any type that sorts; None: every row is its own cluster.
        num_resamples: Draws.
        seed: Of the draws.
        scale: Factor of the figure and of both bounds.

    Raises:
        DataError: No rows, rows of different number, values that are not finite, or a denominator that sums to 0.
    """
    columns_RX = _columns(numerator_R, denominator_R)
    sums_CX = _cluster_sums(columns_RX, cluster_R)

    def ratio(sums_DX: FloatArray) -> FloatArray:
        return scale * _ratio(sums_DX[:, 0], sums_DX[:, 1])

    return _interval(ratio, sums_CX, len(columns_RX), num_resamples, seed)


def paired_difference(
    numerator_a_R: ArrayLike,
    numerator_b_R: ArrayLike,
    denominator_a_R: ArrayLike,
    denominator_b_R: ArrayLike,
    cluster_R: ArrayLike | None = None,
    *,
    num_resamples: int = 10_000,
    seed: int = 0,
    scale: float = 1.0,
    shape: Callable[[FloatArray], FloatArray] = np.positive,
) -> Interval:
    """Return the figure of arm a minus that of arm b and its interval; each draw takes the same rows of both.

    An arm's figure is shape(scale * sum(numerator) / sum(denominator)).

    Args:
        numerator_a_R: Of arm a; row r of both arms is the same unit.
        numerator_b_R: Of arm b.
        denominator_a_R: Of arm a.
        denominator_b_R: Of arm b.
        cluster_R: As in `ratio_interval`.
        num_resamples: Draws.
        seed: Of the draws.
        scale: Factor of both ratios.
        shape: What is made of each ratio, such as its root.

    Raises:
        DataError: As in `ratio_interval`.
    """
    columns_RX = _columns(numerator_a_R, denominator_a_R, numerator_b_R, denominator_b_R)
    sums_CX = _cluster_sums(columns_RX, cluster_R)

    def difference(sums_DX: FloatArray) -> FloatArray:
        a_D, b_D = (shape(scale * _ratio(sums_DX[:, column], sums_DX[:, column + 1])) for column in (0, 2))
        return a_D - b_D

    return _interval(difference, sums_CX, len(columns_RX), num_resamples, seed)


def statistic_interval(
    columns: Sequence[NDArray[Any]],
    statistic: Callable[..., float],
    cluster_R: ArrayLike | None = None,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return any statistic of rows and its interval: a calibration error, an AUC, the root of a mean.

    A draw for which the statistic is NaN (an AUC of a draw without positives) is left out.

    Args:
        columns: Arrays of R rows each, drawn together.
        statistic: Takes one array a column, in their order, of any number of rows.
        cluster_R: As in `ratio_interval`.
        num_resamples: Draws, each of which calls the statistic once.
        seed: Of the draws.

    Raises:
        DataError: No rows, or columns of different length.
    """
    num_rows = _num_rows(columns)
    value = float(statistic(*columns))
    start_C1, row_R = _grouped(num_rows, cluster_R)
    size_C = np.diff(start_C1)
    generator = np.random.default_rng(seed)
    drawn_D = np.full(num_resamples, np.nan)
    if len(size_C) > 1:
        for draw in range(num_resamples):
            cluster = generator.integers(len(size_C), size=len(size_C))
            rows = row_R[_spans(start_C1[cluster], size_C[cluster])]
            drawn_D[draw] = statistic(*(column[rows] for column in columns))
    return Interval(value, *_bounds(drawn_D), num_rows, len(size_C))


def reversed_interval(interval: Interval) -> Interval:
    """Turn the percentile interval of a nonnegative statistic that noise can only raise into a basic one around it.

    Draws of such a statistic (a distance, a calibration error) lie above its value as the value lies above the truth:
    a percentile interval repeats the bias, and may exclude its own value. The basic interval
    [2 value - high, 2 value - low] (Davison and Hinkley 1997, section 5.2.1) reflects it instead. Here it is widened to
    hold the value where the reflection passes it, and not below 0. Where the truth is almost 0, it still covers it
    too seldom: the draws tell less than half of the bias.
    """
    low = np.clip(2 * interval.value - interval.high, 0.0, interval.value)
    high = np.maximum(2 * interval.value - interval.low, interval.value)
    return replace(interval, low=float(low), high=float(high))


def _interval(
    figure: Callable[[FloatArray], FloatArray], sums_CX: FloatArray, num_rows: int, num_resamples: int, seed: int
) -> Interval:
    value = float(figure(sums_CX.sum(axis=0, keepdims=True))[0])
    if np.isnan(value):
        raise DataError("The denominator of a ratio sums to 0 over all rows: there is nothing to divide by.")
    drawn_D = np.full(num_resamples, np.nan)
    if len(sums_CX) > 1:
        drawn_D = np.concatenate([figure(sums_DX) for sums_DX in _resampled(sums_CX, num_resamples, seed)])
    return Interval(value, *_bounds(drawn_D), num_rows, len(sums_CX))


def _resampled(sums_CX: FloatArray, num_resamples: int, seed: int) -> Iterator[FloatArray]:
    """Yield the sums of draws, some draws at a time: multinomial counts of the clusters times their sums."""
    num_clusters = len(sums_CX)
    generator = np.random.default_rng(seed)
    step = max(_ENTRIES // num_clusters, 1)
    for first in range(0, num_resamples, step):
        num_draws = min(step, num_resamples - first)
        drawn_DC = generator.integers(num_clusters, size=(num_draws, num_clusters))
        drawn_DC += np.arange(num_draws)[:, None] * num_clusters
        counts = np.bincount(drawn_DC.ravel(), minlength=num_draws * num_clusters)
        yield counts.reshape(num_draws, num_clusters).astype(np.float64) @ sums_CX


def _ratio(numerator_D: FloatArray, denominator_D: FloatArray) -> FloatArray:
    """Divide; NaN where the denominator is 0."""
    quotient_D = np.full(len(numerator_D), np.nan)
    np.divide(numerator_D, denominator_D, out=quotient_D, where=denominator_D != 0)
    return quotient_D


def _bounds(drawn_D: FloatArray) -> tuple[float, float]:
    known = drawn_D[~np.isnan(drawn_D)]
    if not len(known):
        return np.nan, np.nan
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _columns(*columns: ArrayLike) -> FloatArray:
    arrays = [np.asarray(column, np.float64) for column in columns]
    _num_rows(arrays)
    columns_RX = np.stack(arrays, axis=1)
    bad = np.flatnonzero(~np.isfinite(columns_RX).all(axis=1))
    if len(bad):
        raise DataError(
            f"Row {bad[0]} (and {len(bad) - 1} more) of {len(columns_RX)} holds a value that is not finite."
        )
    return columns_RX


def _num_rows(columns: Sequence[NDArray[Any]]) -> int:
    lengths = [len(column) for column in columns]
    if len(set(lengths)) != 1 or lengths[0] == 0:
        raise DataError(f"A bootstrap needs columns of the same number of rows, at least one; given {lengths}.")
    return lengths[0]


def _cluster_numbers(num_rows: int, cluster_R: ArrayLike | None) -> IndexArray:
    """Return the number of each row's cluster, 0 to C - 1."""
    if cluster_R is None:
        return np.arange(num_rows)
    labels = np.asarray(cluster_R)
    _num_rows([labels, np.empty(num_rows)])
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _cluster_sums(columns_RX: FloatArray, cluster_R: ArrayLike | None) -> FloatArray:
    number_R = _cluster_numbers(len(columns_RX), cluster_R)
    return np.stack([np.bincount(number_R, weights=column) for column in columns_RX.T], axis=1)


def _grouped(num_rows: int, cluster_R: ArrayLike | None) -> tuple[IndexArray, IndexArray]:
    """Return where each cluster starts (and one more entry) in the rows sorted by cluster, and those rows."""
    number_R = _cluster_numbers(num_rows, cluster_R)
    start_C1 = np.concatenate(([0], np.cumsum(np.bincount(number_R))))
    return start_C1, np.argsort(number_R, kind="stable")


def _spans(start_C: IndexArray, size_C: IndexArray) -> IndexArray:
    """Return start, start + 1, ..., start + size - 1 of each cluster, end to end."""
    ends_C = np.cumsum(size_C)
    spans: IndexArray = np.arange(ends_C[-1]) + np.repeat(start_C - ends_C + size_C, size_C)
    return spans
