"""What a request may ask for: a number outside its bounds is refused in one sentence."""

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import TypeGuard

from nano_llm.errors import RequestError


def require_number(name: str, value: object, expected: str, within: Callable[[float], bool]) -> None:
    """Refuse what is not a finite number within bounds.

    Args:
        name: Of the option, as a user spells it.
        value: What was given; of any type, as a request comes from outside.
        expected: Ends the sentence "temperature=-1: give ...".
        within: Whether a finite number is allowed.

    Raises:
        RequestError: It is no number, not finite or out of bounds.
    """
    if not (_is_finite_number(value) and within(float(value))):
        raise RequestError(f"{name}={value!r}: give {expected}.")


def require_whole_number(name: str, value: object, expected: str, within: Callable[[float], bool]) -> None:
    """Refuse what is not a whole number within bounds; arguments and error as of `require_number`."""
    # The value itself: no float holds 2^63 - 1.
    require_number(name, value, expected, lambda _: isinstance(value, Integral) and within(int(value)))


def _is_finite_number(value: object) -> TypeGuard[Real]:
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False
