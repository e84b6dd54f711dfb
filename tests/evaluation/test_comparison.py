"""Two models beside each other: what is paired, what is left out, what is refused."""

import numpy as np
import pandas as pd
import pytest

from nano_llm.errors import RequestError
from nano_llm.evaluation.bootstrap import Interval
from nano_llm.evaluation.comparison import Arm, compare, left_out
from nano_llm.evaluation.measured import Measured
from nano_llm.evaluation.recipe import Ratio

RATE = {"pair_order": Ratio("in_order")}
AUC = Interval(0.7, 0.6, 0.8, 9, 9)


def arm(name: str, in_order: list[float], reviews: list[str], movies: list[str] | None = None) -> Arm:
    rows = pd.DataFrame({"review": reviews, "in_order": in_order})
    if movies is not None:
        rows["movie"] = movies
    texts = Measured({"two_sample_auc": AUC}, pd.DataFrame({"score": [1.0]}))
    return Arm(name, f"corpus of {name}", {"pairs": Measured.by_recipes(rows, RATE), "texts": texts})


def test_a_difference_by_hand() -> None:
    a, b = arm("one", [1.0, 1.0, 0.0], ["x", "y", "z"]), arm("two", [0.0, 1.0, 0.0], ["x", "y", "z"])
    compared = compare(a, b)
    assert set(compared) == {"pair_order"}
    found = compared["pair_order"]
    assert (found.a, found.b) == (2 / 3, 1 / 3)
    # Only the first review differs: a draw has it 0, 1, 2 or 3 times of three, never with probability 8/27.
    assert found.difference == Interval(2 / 3 - 1 / 3, 0.0, 1.0, 3, 3)


def test_what_is_no_sum_over_reviews_is_left_out() -> None:
    a, b = arm("one", [1.0, 0.0], ["x", "y"]), arm("two", [0.0, 1.0], ["x", "y"])
    assert left_out(a, b, compare(a, b)) == ["two_sample_auc"]


def test_what_one_model_lacks_is_left_out() -> None:
    a, b = arm("one", [1.0, 0.0], ["x", "y"]), arm("two", [0.0, 1.0], ["x", "y"])
    rows = b.groups["pairs"].rows
    b = Arm("two", "corpus", {"pairs": Measured.by_recipes(rows, RATE | {"localisation": Ratio("in_order")})})
    assert set(compare(a, b)) == {"pair_order"}
    assert left_out(a, b, ["pair_order"]) == ["two_sample_auc", "localisation"]
    assert compare(a, Arm("two", "corpus", {})) == {}


@pytest.mark.parametrize("others", [["x", "q"], ["y", "x"], ["x"]])
def test_other_reviews_or_another_order_are_refused_with_both_names(others: list[str]) -> None:
    a, b = arm("one", [1.0, 0.0], ["x", "y"]), arm("two", [0.0] * len(others), others)
    shared = len({"x", "y"} & set(others))
    message = (
        r"one \(corpus of one\) and two \(corpus of two\) were not judged on the same reviews: of 2 and "
        rf"{len(others)} in the group 'pairs', {shared} are shared"
    )
    with pytest.raises(RequestError, match=message):
        compare(a, b)


@pytest.mark.parametrize("movies", [None, ["tt1", "tt2"]])
def test_other_movies_are_refused(movies: list[str] | None) -> None:
    a = arm("one", [1.0, 0.0], ["x", "y"], ["tt1", "tt1"])
    with pytest.raises(RequestError, match=r"movies of the judged reviews differ between one .* and two"):
        compare(a, arm("two", [0.0, 1.0], ["x", "y"], movies))


def test_reviews_of_a_movie_are_drawn_together() -> None:
    movies = ["tt1", "tt1", "tt2", "tt2"]
    a, b = arm("one", [1.0, 1.0, 0.0, 0.0], list("wxyz"), movies), arm("two", [0.0] * 4, list("wxyz"), movies)
    difference = compare(a, b)["pair_order"].difference
    assert (difference.n, difference.num_clusters) == (4, 2)
    assert np.array_equal([difference.low, difference.high], [0.0, 1.0])
