"""Statistics against numbers worked out by hand."""

import numpy as np
import pytest
from scipy import stats

from nano_llm.report.statistics import Difference, holm, paired_differences, t_interval, verdict


def paired_difference(differences: list[float]) -> Difference:
    (made,) = paired_differences([differences])
    return made


def test_the_t_interval_of_three_values() -> None:
    """1, 2, 3: mean 2, sd 1, t(0.975, 2) = 4.302653, half width 4.302653 / sqrt(3) = 2.484138."""
    estimate = t_interval([1.0, 2.0, 3.0])
    assert estimate.mean == 2.0
    assert estimate.low == pytest.approx(2 - 2.484138, abs=1e-6)
    assert estimate.high == pytest.approx(2 + 2.484138, abs=1e-6)
    assert estimate.n == 3


def test_one_seed_has_no_interval() -> None:
    assert t_interval([1.5]).low is None


@pytest.mark.parametrize(("n", "expected"), [(3, 0.25), (5, 0.0625), (6, 0.03125)])
def test_the_least_sign_flip_p_is_two_in_two_to_the_n(n: int, expected: float) -> None:
    differences = [-1.0 - 0.1 * i for i in range(n)]
    assert paired_difference(differences).p == pytest.approx(expected)


def test_sign_flips_are_enumerated() -> None:
    """Of the 8 signings of (1, 2, -4), 6 have a mean at least as far from 0 as -1/3 on one side or the other."""
    values = np.array([1.0, 2.0, -4.0])
    signs = np.array(np.meshgrid(*[[1, -1]] * 3)).reshape(3, -1).T
    means = (signs * values).mean(axis=1)
    observed = values.mean()
    tail = min((means <= observed + 1e-12).mean(), (means >= observed - 1e-12).mean())
    assert paired_difference(values.tolist()).p == pytest.approx(min(1.0, 2 * tail))


def test_the_interval_is_the_bca_bootstrap() -> None:
    values = [0.1, -0.3, -0.2, -0.5, -0.4, -0.1, -0.25]
    ours = paired_difference(values)
    many = stats.bootstrap((values,), np.mean, method="BCa", n_resamples=60_000, rng=1).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((many.low, many.high), abs=0.01)
    assert ours.low < ours.mean < ours.high


def test_an_arm_is_judged_alike_alone_and_among_others() -> None:
    """Many arms, so that they fall into several chunks; some of them equal, some with another number of seeds."""
    rng = np.random.default_rng(0)
    samples = [rng.normal(size=3 + i % 4).tolist() if i % 7 else [0.5] * 4 for i in range(150)]
    assert paired_differences(samples) == [paired_difference(sample) for sample in samples]


def test_no_arm_no_difference() -> None:
    assert paired_differences([]) == []


def test_equal_differences_are_degenerate() -> None:
    difference = paired_difference([0.5] * 6)
    assert (difference.low, difference.p) == (None, None)
    assert verdict(difference, None).startswith("degenerate")


def test_differences_that_are_equal_but_for_rounding_are_degenerate() -> None:
    assert len({level + 0.1 - level for level in range(1, 7)}) > 1
    assert paired_difference([level + 0.1 - level for level in range(1, 7)]).p is None


def test_holm_by_hand() -> None:
    """Sorted 0.01, 0.03, 0.04: 3 x 0.01 = 0.03, 2 x 0.03 = 0.06, max(0.06, 1 x 0.04) = 0.06."""
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])


def test_three_seeds_are_too_few_for_a_verdict() -> None:
    assert verdict(paired_difference([-1.0, -1.1, -1.2]), 0.25).startswith("n too small to test (n=3")


@pytest.mark.parametrize(
    ("low", "high", "p", "expected"),
    [
        (-0.3, -0.1, 0.03, "better"),
        (0.1, 0.3, 0.03, "worse"),
        (-0.3, 0.1, 0.03, "no difference shown"),
        (-0.3, -0.1, 0.06, "no difference shown"),
    ],
)
def test_a_claim_needs_interval_and_p(low: float, high: float, p: float, expected: str) -> None:
    assert verdict(Difference((low + high) / 2, low, high, p, 6), p) == expected
