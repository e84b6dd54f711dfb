"""What an evaluation found: figures with intervals, details for plots, and a row for each review."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from nano_llm.evaluation.bootstrap import Interval
from nano_llm.evaluation.recipe import Recipe


@dataclass(frozen=True)
class Measured:
    """The immutable result of one group of metrics."""

    figures: dict[str, Interval]
    """By the names of `nano_llm.metrics.METRICS`."""
    rows: pd.DataFrame
    """A row a review (or pair, or text): what the figures were made of."""
    details: dict[str, Any] = field(default_factory=dict)
    """What is no single figure: curves, fitted scales, texts of samples. JSON."""
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    """Of the figures that follow from the rows review by review, so that those of two models can be paired."""

    @classmethod
    def by_recipes(
        cls, rows: pd.DataFrame, recipes: Mapping[str, Recipe], details: dict[str, Any] | None = None
    ) -> "Measured":
        """Make every figure of the rows."""
        figures = {name: recipe.interval(rows) for name, recipe in recipes.items()}
        return cls(figures, rows, details or {}, recipes)


@dataclass(frozen=True)
class Assessed:
    """All that an evaluation of a model found."""

    provenance: dict[str, Any]
    """What was evaluated and how, as JSON."""
    figures: dict[str, Interval]
    """Those that were wanted, by name."""
    groups: dict[str, Measured]
    """All that was measured, with its rows, by group of metrics."""


class NotMeasurableError(Exception):
    """The group does not apply to this model, or a corpus is missing; the message says how to get it."""


def absolute(interval: Interval) -> Interval:
    """Return the interval of the absolute value: from 0 if the signed one holds 0."""
    low, high = sorted((abs(interval.low), abs(interval.high)))
    holds_zero = interval.low <= 0 <= interval.high
    return Interval(abs(interval.value), 0.0 if holds_zero else low, high, interval.n, interval.num_clusters)
