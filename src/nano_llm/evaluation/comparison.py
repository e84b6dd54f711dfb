"""Two models on the same reviews: each figure of both, and their difference by the paired bootstrap."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from nano_llm.errors import RequestError
from nano_llm.evaluation.bootstrap import Interval
from nano_llm.evaluation.measured import Measured


@dataclass(frozen=True)
class Arm:
    """One of the two models."""

    name: str
    """That a user knows it by: a folder."""
    corpus: str
    """What its reviews are of."""
    groups: Mapping[str, Measured]
    """What was found of it, by group."""


@dataclass(frozen=True)
class Compared:
    """A figure of both models. A draw of the interval takes the same reviews, or movies, of both."""

    a: float
    b: float
    difference: Interval
    """a - b."""


def compare(a: Arm, b: Arm) -> dict[str, Compared]:
    """Pair the rows of two models, review by review.

    Returns:
        By name, every figure that both have and that follows from rows of reviews. Others cannot be paired: calibration
        errors are no sums over reviews, and reviews that the models write are not the same ones.

    Raises:
        RequestError: A group was measured on other reviews of b than of a.
    """
    compared = {}
    for group in [name for name in a.groups if name in b.groups]:
        of_a, of_b = a.groups[group], b.groups[group]
        recipes = {name: recipe for name, recipe in of_a.recipes.items() if name in of_b.recipes}
        if recipes:
            _demand_same_reviews(group, a, b)
        for name, recipe in recipes.items():
            values = (of_a.figures[name].value, of_b.figures[name].value)
            compared[name] = Compared(*values, recipe.difference(of_a.rows, of_b.rows))
    return compared


def left_out(a: Arm, b: Arm, compared: Collection[str]) -> list[str]:
    """Return the figures of either model that were not compared."""
    names = [name for arm in (a, b) for measured in arm.groups.values() for name in measured.figures]
    return [name for name in dict.fromkeys(names) if name not in compared]


def _demand_same_reviews(group: str, a: Arm, b: Arm) -> None:
    rows_a, rows_b = a.groups[group].rows, b.groups[group].rows
    if not rows_a["review"].equals(rows_b["review"]):
        num_shared = len(set(rows_a["review"]) & set(rows_b["review"]))
        raise RequestError(
            f"{a.name} ({a.corpus}) and {b.name} ({b.corpus}) were not judged on the same reviews: of {len(rows_a):,} "
            f"and {len(rows_b):,} in the group {group!r}, {num_shared:,} are shared; all must be, in one order. "
            "Compare models of one corpus and split, or name metrics of other groups by --metrics."
        )
    if ("movie" in rows_a) != ("movie" in rows_b) or (
        "movie" in rows_a and not rows_a["movie"].equals(rows_b["movie"])
    ):
        raise RequestError(
            f"The movies of the judged reviews differ between {a.name} ({a.corpus}) and {b.name} ({b.corpus}). Compare "
            "models that were trained with the same data.movies."
        )
