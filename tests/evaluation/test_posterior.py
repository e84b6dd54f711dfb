"""Bayes' rule over two outcomes: by hand, and on scores whose calibration is known."""

import numpy as np
import pytest
from scipy.special import expit, logit

from nano_llm.evaluation.bootstrap import reversed_interval, statistic_interval
from nano_llm.evaluation.outcome_model import TokenScores
from nano_llm.evaluation.posterior import (
    Evidence,
    decile_of_position,
    expected_calibration_error,
    fit_scale,
    is_correct,
    log_loss,
    means_by_bin,
    measure_posterior,
    overlap_curve,
    running_posterior,
)

HALF = 0.5


def calibrated(num: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Log odds, and labels that are drawn by them."""
    rng = np.random.default_rng(seed)
    odds_R = rng.normal(0, 2, num)
    return odds_R, (rng.random(num) < expit(odds_R)).astype(np.int64)


def test_log_loss_and_ties_by_hand() -> None:
    assert log_loss(np.array([0.0, logit(0.8), logit(0.8)]), np.array([1, 1, 0])) == pytest.approx(
        -np.log([0.5, 0.8, 0.2])
    )
    assert is_correct(np.array([0.0, 2.0, 2.0, -1.0]), np.array([1, 1, 0, 0])).tolist() == [0.5, 1, 0, 1]


def test_extreme_odds_have_a_finite_loss() -> None:
    assert log_loss(np.array([-1e4, 1e4]), np.array([1, 1])).tolist() == [1e4, 0.0]


def test_calibration_error_of_two_bins_by_hand() -> None:
    """Thirty texts at confidence .6, half of them right, in bins of two: every bin is off by .1."""
    odds_R = np.full(30, logit(0.6))
    assert expected_calibration_error(odds_R, np.tile([0, 1], 15)) == pytest.approx(0.1)


def test_calibrated_odds_have_a_small_error_and_overconfident_ones_a_large_one() -> None:
    odds_R, label_R = calibrated(20_000)
    assert expected_calibration_error(odds_R, label_R) < 0.02
    assert expected_calibration_error(5 * odds_R, label_R) > 0.1


def test_intervals_of_the_calibration_error_cover_it_where_those_of_percentiles_do_not() -> None:
    """Odds stretched by 1.3, 200 reviews: noise raises the error, and the draws' errors again: 83 % and 0 % cover."""
    stretched_R, label_R = calibrated(400_000)
    truth = expected_calibration_error(1.3 * stretched_R, label_R)
    covered, percentile_covered = 0, 0
    for seed in range(50):
        odds_R, label_R = calibrated(200, seed)
        columns = [1.3 * odds_R, label_R]
        percentile = statistic_interval(columns, expected_calibration_error, num_resamples=100)
        interval = reversed_interval(percentile)
        assert 0 <= interval.low <= interval.value <= interval.high
        covered += interval.low <= truth <= interval.high
        percentile_covered += percentile.low <= truth <= percentile.high
    assert covered >= 0.7 * 50
    assert percentile_covered <= 0.2 * 50


def test_the_fitted_scale_undoes_a_stretch_and_a_shift() -> None:
    odds_R, label_R = calibrated(20_000)
    scale = fit_scale(4 * odds_R + 2, np.full(len(odds_R), HALF), label_R)
    assert scale.slope == pytest.approx(0.25, rel=0.05)
    assert scale.intercept == pytest.approx(-0.5, abs=0.07)


def test_a_separable_sample_has_a_finite_scale() -> None:
    scale = fit_scale(np.array([-1.0, 1.0]), np.full(2, HALF), np.array([0, 1]))
    assert np.isfinite([scale.slope, scale.intercept]).all()


def test_the_prior_of_the_prompt_moves_the_odds() -> None:
    scores = TokenScores(np.zeros((2, 2)), np.zeros(2, np.int64), np.array([0, 1, 2]))
    evidence = Evidence.of(scores, np.array([0.9, 0.1]), np.array([1, 0]))
    found = measure_posterior(scores, evidence, evidence, None)
    assert found.figures["posterior_accuracy"].value == 1.0
    assert found.figures["info_hat"].value == pytest.approx(0.0)


def test_equal_outcomes_know_nothing() -> None:
    scores = TokenScores(np.full((6, 2), -1.0), np.zeros(6, np.int64), np.array([0, 2, 4, 6]))
    evidence = Evidence.of(scores, np.full(3, HALF), np.array([0, 1, 1]))
    figures = measure_posterior(scores, evidence, evidence, None).figures
    assert figures["posterior_accuracy"].value == 0.5
    assert figures["posterior_log_loss"].value == pytest.approx(np.log(2))
    assert figures["info_hat"].value == pytest.approx(0)


def test_the_posterior_runs_over_earlier_tokens_and_starts_anew_in_each_review() -> None:
    log_p_NK = np.log([[0.2, 0.6], [0.5, 0.5], [0.9, 0.1]])
    scores = TokenScores(log_p_NK, np.zeros(3, np.int64), np.array([0, 2, 3]))
    assert running_posterior(scores, np.array([0.5, 0.3])) == pytest.approx([0.5, 0.75, 0.3])


def test_overlap_by_tenths_of_the_review() -> None:
    posterior_N = np.array([0.5] * 10 + [0.99] * 10)
    assert decile_of_position(np.array([0, 20])).tolist() == [i // 2 for i in range(20)]
    assert overlap_curve(posterior_N, np.array([0, 20])) == [1.0] * 5 + [0.0] * 5
    assert means_by_bin(np.array([1.0, 3.0]), np.array([0, 0]), 2) == [2.0, None]
