"""How many examples a property is tried with."""

from hypothesis import HealthCheck, settings

from torture_factor import FACTOR

LEAST = 5_000
"""Examples of a property in the long form, if the factor gives no more."""

_SLOW_ON_A_BUSY_MACHINE = (HealthCheck.too_slow, HealthCheck.data_too_large)


def examples(num: int, least: int = LEAST) -> int:
    """Return how many examples a property gets that has so many in the bounded form.

    Args:
        num: In the bounded form.
        least: In the long one, if the factor gives no more.
    """
    return num if FACTOR == 1 else max(least, num * FACTOR)


def load_profile() -> None:
    """Set the defaults of all properties: the bounded form tries the same examples each time, the long one new ones.

    An example may take long on a busy machine, which is no failure.
    """
    settings.register_profile(
        "bounded" if FACTOR == 1 else "long",
        max_examples=examples(100),
        deadline=None,
        derandomize=FACTOR == 1,
        print_blob=True,
        suppress_health_check=[*_SLOW_ON_A_BUSY_MACHINE, HealthCheck.function_scoped_fixture],
    )
    settings.load_profile("bounded" if FACTOR == 1 else "long")
