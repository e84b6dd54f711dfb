"""How a figure follows from the rows of its group: the same recipe gives it for a model, and the difference of two.

A row is a review (or a pair of them). Rows with a column ``movie`` are drawn by movie, others one by one. The rows of
two models must be of the same reviews, in the same order.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nano_llm.data.arrays import FloatArray
from nano_llm.evaluation.bootstrap import Interval, paired_difference, ratio_interval, statistic_interval


@dataclass(frozen=True)
class Ratio:
    """scale * sum of one column / sum of another.

    Example: ``Ratio("nats", "bytes", scale=1 / math.log(2))`` is bits a byte, ``Ratio("correct")`` a mean.
    """

    numerator: str
    denominator: str | None = None  # none: ones, so that the figure is a mean
    scale: float = 1.0
    treatment: int | None = None  # only the rows of this one; none: all

    def interval(self, rows: pd.DataFrame) -> Interval:
        """Return the figure of one model."""
        return ratio_interval(*self._summed(rows), self._clusters(rows), scale=self.scale)

    def difference(
        self, rows_a: pd.DataFrame, rows_b: pd.DataFrame, shape: Callable[[FloatArray], FloatArray] = np.positive
    ) -> Interval:
        """Return the figure of model a less that of model b; ``shape`` is made of each before."""
        (numerator_a, denominator_a), (numerator_b, denominator_b) = self._summed(rows_a), self._summed(rows_b)
        columns = (numerator_a, numerator_b, denominator_a, denominator_b)
        return paired_difference(*columns, self._clusters(rows_a), scale=self.scale, shape=shape)

    def _summed(self, rows: pd.DataFrame) -> tuple[NDArray[Any], NDArray[Any]]:
        chosen = self._chosen(rows)
        numerator_R = chosen[self.numerator].to_numpy()
        if self.denominator is None:
            return numerator_R, np.ones(len(chosen))
        return numerator_R, chosen[self.denominator].to_numpy()

    def _clusters(self, rows: pd.DataFrame) -> NDArray[np.str_] | None:
        return _movies(self._chosen(rows))

    def _chosen(self, rows: pd.DataFrame) -> pd.DataFrame:
        return rows if self.treatment is None else rows[rows["treatment"] == self.treatment]


@dataclass(frozen=True)
class Root:
    """The square root of a ratio."""

    ratio: Ratio

    def interval(self, rows: pd.DataFrame) -> Interval:
        """Return the figure of one model."""
        squared = self.ratio.interval(rows)
        value, low, high = (math.sqrt(max(bound, 0.0)) for bound in (squared.value, squared.low, squared.high))
        return Interval(value, low, high, squared.n, squared.num_clusters)

    def difference(self, rows_a: pd.DataFrame, rows_b: pd.DataFrame) -> Interval:
        """Return the figure of model a less that of model b."""
        return self.ratio.difference(rows_a, rows_b, shape=np.sqrt)


@dataclass(frozen=True)
class Statistic:
    """Any function of columns, such as a mean over the outcomes of one ratio each."""

    function: Callable[..., float]  # of an array a column, of any number of rows
    columns: tuple[str, ...]

    def interval(self, rows: pd.DataFrame) -> Interval:
        """Return the figure of one model."""
        return statistic_interval(self._arrays(rows), self.function, _movies(rows))

    def difference(self, rows_a: pd.DataFrame, rows_b: pd.DataFrame) -> Interval:
        """Return the figure of model a less that of model b."""
        num = len(self.columns)

        def difference(*both: NDArray[Any]) -> float:
            return self.function(*both[:num]) - self.function(*both[num:])

        return statistic_interval([*self._arrays(rows_a), *self._arrays(rows_b)], difference, _movies(rows_a))

    def _arrays(self, rows: pd.DataFrame) -> list[NDArray[Any]]:
        return [rows[column].to_numpy() for column in self.columns]


Recipe = Ratio | Root | Statistic


def _movies(rows: pd.DataFrame) -> NDArray[np.str_] | None:
    return rows["movie"].to_numpy(np.str_) if "movie" in rows else None
