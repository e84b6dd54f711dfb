"""A two-outcome model as a classifier: Bayes' rule over its outcomes tells how well they know the treatment apart.

    log odds of T = 1 = s + logit P(T = 1 | prompt),    s = log p_1(x) - log p_0(x)

Axes: R reviews, R1 one more, N tokens of all reviews, D deciles.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit

from nano_llm.data.arrays import FloatArray, IntArray
from nano_llm.evaluation.bootstrap import Interval, reversed_interval, statistic_interval
from nano_llm.evaluation.measured import Measured
from nano_llm.evaluation.outcome_model import TokenScores
from nano_llm.evaluation.recipe import Ratio

NUM_BINS = 15
"""Of equal mass, in the calibration error."""

OVERLAP = (0.05, 0.95)
"""A position whose posterior lies between these still has both outcomes in play."""

_RECIPES = {
    "posterior_accuracy": Ratio("correct"),
    "posterior_log_loss": Ratio("log_loss"),
    "posterior_log_loss_scaled": Ratio("log_loss_scaled"),
    "info_hat": Ratio("info"),
    "info_hat_scaled": Ratio("info_scaled"),
}

_STEEPEST = 100.0  # a fitted slope at most; a sample that the scores separate would ask for an infinite one


@dataclass(frozen=True)
class Evidence:
    """What a model says about the treatment of R labelled reviews."""

    s_R: FloatArray  # nats
    num_tokens_R: IntArray
    prior_R: FloatArray  # P(T = 1 | prompt)
    treatment_R: IntArray

    @classmethod
    def of(cls, scores: TokenScores, prior_R: FloatArray, treatment_R: IntArray) -> "Evidence":
        """Read it off the scores of two outcomes."""
        log_p_RK = scores.log_p_RK
        return cls(log_p_RK[:, 1] - log_p_RK[:, 0], scores.num_tokens_R, prior_R, treatment_R)


@dataclass(frozen=True)
class Scale:
    """Calibrated log odds: slope * score + intercept + logit prior."""

    slope: float
    intercept: float

    def log_odds(self, score_R: FloatArray, prior_R: FloatArray) -> FloatArray:
        """Return the log odds of T = 1."""
        odds_R: FloatArray = self.slope * score_R + self.intercept + logit(prior_R)
        return odds_R


RAW = Scale(1.0, 0.0)


def fit_scale(score_R: FloatArray, prior_R: FloatArray, treatment_R: IntArray) -> Scale:
    """Fit slope and intercept by the log loss; the slope is not negative."""
    spread = float(score_R.std()) or 1.0
    sign_R = 2.0 * treatment_R - 1

    def loss(parameters: FloatArray) -> float:
        odds_R = parameters[0] / spread * score_R + parameters[1] + logit(prior_R)
        return float(-log_expit(sign_R * odds_R).mean())

    found = minimize(loss, np.array([1.0, 0.0]), method="L-BFGS-B", bounds=[(0.0, _STEEPEST), (None, None)])
    return Scale(float(found.x[0]) / spread, float(found.x[1]))


def measure_posterior(
    tokens: TokenScores, evidence: Evidence, calibration: Evidence, cluster_R: NDArray[np.str_] | None
) -> Measured:
    """Score Bayes' rule on whole reviews.

    Args:
        tokens: Of the reviews that are judged, for the overlap curve.
        evidence: Of the same reviews.
        calibration: Of other reviews, which the scales are fitted to.
        cluster_R: What each review belongs to; None: to itself.
    """
    scale = fit_scale(calibration.s_R, calibration.prior_R, calibration.treatment_R)
    per_token_R = calibration.s_R / calibration.num_tokens_R
    length_scale = fit_scale(per_token_R, calibration.prior_R, calibration.treatment_R)
    s_R, prior_R, treatment_R = evidence.s_R, evidence.prior_R, evidence.treatment_R
    odds_R = RAW.log_odds(s_R, prior_R)
    scaled_R = scale.log_odds(s_R, prior_R)
    length_scaled_R = length_scale.log_odds(s_R / evidence.num_tokens_R, prior_R)
    log_loss_R, scaled_loss_R = log_loss(odds_R, treatment_R), log_loss(scaled_R, treatment_R)
    prior_loss_R = log_loss(logit(prior_R), treatment_R)
    rows = pd.DataFrame(
        {"treatment": treatment_R, "prior": prior_R, "s": s_R, "tokens": evidence.num_tokens_R, "log_odds": odds_R}
        | {"log_odds_scaled": scaled_R, "log_odds_length_scaled": length_scaled_R}
        | {"correct": is_correct(odds_R, treatment_R), "log_loss": log_loss_R, "log_loss_scaled": scaled_loss_R}
        | {"info": prior_loss_R - log_loss_R, "info_scaled": prior_loss_R - scaled_loss_R}
    )
    if cluster_R is not None:
        rows["movie"] = cluster_R
    details = {
        "scale": vars(scale),
        "length_scale": vars(length_scale),
        "overlap_by_position": overlap_curve(running_posterior(tokens, prior_R), tokens.offset_R1),
    }
    measured = Measured.by_recipes(rows, _RECIPES, details)

    def calibration_error(log_odds_R: FloatArray) -> Interval:
        columns = [log_odds_R, treatment_R]
        return reversed_interval(statistic_interval(columns, expected_calibration_error, cluster_R))

    errors = {
        "posterior_ece": calibration_error(odds_R),
        "posterior_ece_scaled": calibration_error(scaled_R),
        "posterior_ece_length_scaled": calibration_error(length_scaled_R),
    }
    return replace(measured, figures=measured.figures | errors)


def log_loss(log_odds_R: FloatArray, treatment_R: IntArray) -> FloatArray:
    """Return -log P(T | x) of each review, in nats."""
    loss_R: FloatArray = -log_expit((2.0 * treatment_R - 1) * log_odds_R)
    return loss_R


def is_correct(log_odds_R: FloatArray, treatment_R: IntArray) -> FloatArray:
    """Return 1 where the likelier treatment is the true one, 1/2 at a tie, 0 elsewhere."""
    correct_R: FloatArray = 0.5 * (1 + np.sign(log_odds_R) * (2.0 * treatment_R - 1))
    return correct_R


def expected_calibration_error(log_odds_R: FloatArray, treatment_R: IntArray) -> float:
    """Return the mean distance of confidence and accuracy over bins of equal mass, a share."""
    confidence_R = expit(np.abs(log_odds_R))
    order = np.argsort(confidence_R, kind="stable")
    excess_R = (confidence_R - is_correct(log_odds_R, treatment_R))[order]
    bins = np.array_split(excess_R, min(NUM_BINS, len(excess_R)))
    return float(sum(abs(excess.sum()) for excess in bins) / len(excess_R))


def running_posterior(tokens: TokenScores, prior_R: FloatArray) -> FloatArray:
    """Return P(T = 1) before each token (N,): the prior at the first token of each review."""
    llr_N = tokens.log_p_NK[:, 1] - tokens.log_p_NK[:, 0]
    before_N = np.cumsum(llr_N) - llr_N
    start_R = tokens.offset_R1[:-1]
    evidence_N = before_N - np.repeat(before_N[start_R], tokens.num_tokens_R)
    posterior_N: FloatArray = expit(evidence_N + np.repeat(logit(prior_R), tokens.num_tokens_R))
    return posterior_N


def decile_of_position(offset_R1: IntArray) -> IntArray:
    """Return the tenth of its review (0 to 9) that each token lies in."""
    length_R = np.diff(offset_R1)
    place_N = np.arange(offset_R1[-1]) - np.repeat(offset_R1[:-1], length_R)
    decile_N: IntArray = 10 * place_N // np.repeat(length_R, length_R)
    return decile_N


def overlap_curve(posterior_N: FloatArray, offset_R1: IntArray) -> list[float | None]:
    """Return, for each tenth of the reviews, the share of positions at which both treatments are still likely."""
    inside_N = (posterior_N >= OVERLAP[0]) & (posterior_N <= OVERLAP[1])
    return means_by_bin(inside_N.astype(np.float64), decile_of_position(offset_R1), 10)


def means_by_bin(values_N: FloatArray, bin_N: IntArray, num_bins: int) -> list[float | None]:
    """Return the mean of the values in each bin, None in an empty one."""
    sums = np.bincount(bin_N, weights=values_N, minlength=num_bins)
    counts = np.bincount(bin_N, minlength=num_bins)
    return [float(total / count) if count else None for total, count in zip(sums, counts, strict=True)]
