"""What an evaluation found: figures with intervals, details for plots, and a row for each review."""

import math
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from nano_llm.evaluation.bootstrap import Interval


@dataclass(frozen=True)
class Measured:
    """The immutable result of one group of metrics."""

    figures: dict[str, Interval]
    """By the names of `nano_llm.metrics.METRICS`."""
    rows: pd.DataFrame
    """A row a review (or pair, or text): what the figures were made of."""
    details: dict[str, Any] = field(default_factory=dict)
    """What is no single figure: curves, fitted scales, texts of samples. JSON."""


class NotMeasurableError(Exception):
    """The group does not apply to this model, or a corpus is missing; the message says how to get it."""


def root(interval: Interval) -> Interval:
    """Return the interval of the square root."""
    value, low, high = (math.sqrt(max(bound, 0.0)) for bound in (interval.value, interval.low, interval.high))
    return Interval(value, low, high, interval.n, interval.num_clusters)


def absolute(interval: Interval) -> Interval:
    """Return the interval of the absolute value: from 0 if the signed one holds 0."""
    low, high = sorted((abs(interval.low), abs(interval.high)))
    holds_zero = interval.low <= 0 <= interval.high
    return Interval(abs(interval.value), 0.0 if holds_zero else low, high, interval.n, interval.num_clusters)
