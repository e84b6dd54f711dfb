"""How figures follow from rows: by hand, and the same way for one model and for the difference of two."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nano_llm.evaluation.bootstrap import ratio_interval
from nano_llm.evaluation.recipe import Ratio, Recipe, Root, Statistic

RANDOM = np.random.default_rng(0)


def some_rows(num: int = 40, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {"treatment": np.arange(num) % 2, "nats": random.gamma(2.0, size=num), "bytes": 1 + np.arange(num) % 5}
    )


def by_movie(rows: pd.DataFrame, size: int) -> pd.DataFrame:
    return rows.assign(movie=[f"tt{row // size}" for row in range(len(rows))])


def gap(nats_R: np.ndarray, treatment_R: np.ndarray) -> float:
    sums, counts = np.bincount(treatment_R, nats_R, 2), np.bincount(treatment_R, minlength=2)
    return float(sums[1] / counts[1] - sums[0] / counts[0]) if counts.all() else float("nan")


RECIPES: tuple[Recipe, ...] = (
    Ratio("nats"),
    Ratio("nats", "bytes", 1 / np.log(2)),
    Ratio("nats", "bytes", 1 / np.log(2), treatment=1),
    Root(Ratio("nats", "bytes", 3.0)),
    Statistic(gap, ("nats", "treatment")),
)


def test_figures_by_hand() -> None:
    rows = pd.DataFrame({"treatment": [0, 1, 1], "nats": [1.0, 2.0, 7.0], "bytes": [1, 1, 8]})
    assert Ratio("nats").interval(rows).value == 10 / 3
    assert Ratio("nats", "bytes", 2.0).interval(rows).value == 2.0
    assert Ratio("nats", "bytes", treatment=1).interval(rows).value == 1.0
    assert Ratio("nats", "bytes", treatment=1).interval(rows).n == 2
    assert Root(Ratio("nats", "bytes", 4.0)).interval(rows).value == 2.0
    assert Statistic(gap, ("nats", "treatment")).interval(rows).value == 3.5


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("size", [None, 2])
def test_a_difference_is_that_of_both_figures(recipe: Recipe, size: int | None) -> None:
    rows_a, rows_b = some_rows(), some_rows(seed=1)
    if size is not None:
        rows_a, rows_b = by_movie(rows_a, size), by_movie(rows_b, size)
    a, b, difference = recipe.interval(rows_a), recipe.interval(rows_b), recipe.difference(rows_a, rows_b)
    assert difference.value == a.value - b.value
    assert difference.low < difference.value < difference.high
    assert (difference.n, difference.num_clusters) == (a.n, a.num_clusters)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("size", [None, 2])
def test_equal_models_differ_by_nothing(recipe: Recipe, size: int | None) -> None:
    rows = some_rows() if size is None else by_movie(some_rows(), size)
    difference = recipe.difference(rows, rows.copy())
    assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("recipe", RECIPES)
def test_movies_are_drawn_whole(recipe: Recipe) -> None:
    """With one movie alone there is nothing to resample, whatever the number of its reviews."""
    rows = by_movie(some_rows(), 40)
    for interval in (recipe.interval(rows), recipe.difference(rows, by_movie(some_rows(seed=1), 40))):
        assert interval.num_clusters == 1
        assert np.isnan(interval.low)


def test_the_reviews_of_a_movie_count_together() -> None:
    """Copies of a review in its movie tell nothing new; alone they would halve the interval."""
    fourfold = some_rows().loc[np.repeat(np.arange(40), 4)].reset_index(drop=True)
    other = fourfold.assign(nats=np.repeat(RANDOM.gamma(2.0, size=40), 4))
    recipe = Ratio("nats", "bytes")
    alone = recipe.difference(fourfold, other)
    together = recipe.difference(by_movie(fourfold, 4), by_movie(other, 4))
    assert together.high - together.low == pytest.approx(2 * (alone.high - alone.low), rel=0.1)


def test_a_shared_error_cancels() -> None:
    """Model b is model a and a constant a byte: pairing leaves no width, though each alone has one."""
    rows = some_rows()
    worse = rows.assign(nats=rows["nats"] + 0.25 * rows["bytes"])
    difference = Ratio("nats", "bytes").difference(worse, rows)
    assert (difference.low, difference.high) == pytest.approx((0.25, 0.25))
    alone = Ratio("nats", "bytes").interval(rows)
    assert alone.high - alone.low > 0.1


def test_a_treatment_draws_of_its_own_rows_only() -> None:
    rows = by_movie(some_rows(), 4)
    chosen = rows[rows["treatment"] == 1]
    expected = ratio_interval(chosen["nats"], chosen["bytes"], chosen["movie"], scale=2.0)
    ratio = Ratio("nats", "bytes", 2.0, treatment=1)
    assert ratio.interval(rows) == expected
    assert replace(ratio, treatment=None).interval(chosen) == expected
