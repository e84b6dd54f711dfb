"""Numbers of a request: what passes, and what the refusal says."""

from fractions import Fraction

import numpy as np
import pytest

from nano_llm.errors import RequestError
from nano_llm.generation.bounds import require_number, require_whole_number


def below_three(number: float) -> bool:
    return number < 3


@pytest.mark.parametrize("value", [2, -1e300, 2.5, np.float32(1), np.int64(2), Fraction(1, 3)])
def test_finite_numbers_within_bounds_pass(value: object) -> None:
    require_number("share", value, "less", below_three)


@pytest.mark.parametrize(
    "value", [3, float("nan"), float("inf"), -float("inf"), 10**400, -(10**400), True, "1", None, 1j, [1.0], np.True_]
)
def test_anything_else_is_refused_in_one_sentence(value: object) -> None:
    with pytest.raises(RequestError) as refusal:
        require_number("share", value, "a number below 3", below_three)
    assert str(refusal.value) == f"share={value!r}: give a number below 3."
    assert refusal.value.exit_status == 2


@pytest.mark.parametrize("value", [2, 0, -5, np.int64(1)])
def test_whole_numbers_pass(value: object) -> None:
    require_whole_number("k", value, "less", below_three)


@pytest.mark.parametrize("value", [2.0, 1.5, 3, True, "1", np.float64(1)])
def test_numbers_that_are_not_whole_are_refused(value: object) -> None:
    with pytest.raises(RequestError, match=r"^k=.*: give a whole number below 3\.$"):
        require_whole_number("k", value, "a whole number below 3", below_three)


def test_whole_numbers_are_compared_exactly() -> None:
    largest = 2**63 - 1
    require_whole_number("seed", largest, "less", lambda number: number <= largest)
    with pytest.raises(RequestError):
        require_whole_number("seed", largest + 1, "less", lambda number: number <= largest)
