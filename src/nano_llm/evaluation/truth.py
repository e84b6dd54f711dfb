"""Two outcomes against the law that made the reviews: what only a structural corpus can tell.

All figures are taken on reviews x ~ do(T = k) with prompts whose topic is independent of T, so the prior is 1/2. The
true law of the next event and the model's law of the next token are compared where both are defined: with
``data.tokenizer.kind=words``, one token an event. Mass that the model gives to tokens that no event can be counts
against it.

Axes: R reviews, R1 one more, N events of all reviews (the end among them), K outcomes, V tokens, E events of the law.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nano_llm.data import scm_law
from nano_llm.data.arrays import FloatArray, IntArray
from nano_llm.data.review import Review
from nano_llm.data.scm import ReviewLaw, Sampling
from nano_llm.data.scm_law import Events
from nano_llm.data.scm_truth import jensen_shannon
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.evaluation.measured import Measured
from nano_llm.evaluation.outcome_model import OutcomeModel, TokenScores, sum_by_review
from nano_llm.evaluation.posterior import decile_of_position, is_correct, means_by_bin, running_posterior
from nano_llm.evaluation.recipe import Ratio, Recipe, Root, Statistic

NEUTRAL = (0.4, 0.6)
"""True posteriors of a prefix that leaves the treatment open."""
DECIDED = 0.95
"""True posterior, of the likelier treatment, beyond which a prefix has settled it."""
POSTERIOR_EDGES = (0.005, 0.05, 0.4, 0.6, 0.95, 0.995)
"""Bounds of the bins of the true posterior in the profile of the divergence."""
_PART = 100  # reviews whose whole laws are in memory at a time


@dataclass(frozen=True)
class Divergences:
    """Of model and law before each of N events, in nats."""

    cf_kl_N: FloatArray  # of the outcome that the review was not written under
    factual_kl_N: FloatArray
    effect_error_N: FloatArray  # sum_v m(v) (tau_hat(v) - tau*(v))^2, squared nats
    js_N: FloatArray  # of the model's two outcomes
    true_js_N: FloatArray
    js_pi_N: FloatArray  # of the model's two outcomes, weighted by the model's posterior
    true_js_pi_N: FloatArray  # of the law's two outcomes, weighted by the true posterior


def measure_sequences(law: ReviewLaw, reviews: list[Review], scores: TokenScores) -> Measured:
    """Compare log-probabilities of whole reviews; for any tokenizer.

    Args:
        law: That the reviews were sampled from.
        reviews: Under do(T).
        scores: The model's, of both outcomes.
    """
    events, true_NK = _true_scores(law, reviews)
    true_RK = sum_by_review(true_NK, events.offset_R1)
    treatment_R = _treatments(reviews)
    row_R = np.arange(len(reviews))
    excess_R = true_RK[row_R, treatment_R] - scores.log_p_RK[row_R, treatment_R]
    s_R, true_s_R = _difference(scores.log_p_RK), _difference(true_RK)
    rows = {
        "treatment": treatment_R, "excess_nats": excess_R, "excess_bits": excess_R / np.log(2),
        "entropy_nats": -true_RK[row_R, treatment_R], "s": s_R, "true_s": true_s_R,
        "right": is_correct(s_R, treatment_R), "bayes_right": is_correct(true_s_R, treatment_R),
    }  # fmt: skip
    return Measured.by_recipes(
        pd.DataFrame(rows),
        {
            "excess_nll": Statistic(mean_of_means, ("excess_bits", "treatment")),
            "excess_nll_share": Statistic(mean_of_ratios, ("excess_nats", "entropy_nats", "treatment")),
            "posterior_accuracy_do": Ratio("right"),
            "bayes_accuracy_do": Ratio("bayes_right"),
        },
    )


def measure_tokens(law: ReviewLaw, reviews: list[Review], model: OutcomeModel) -> Measured:
    """Compare the laws of the next event; for the tokenizer of whole words.

    Args:
        law: That the reviews were sampled from.
        reviews: Under do(T).
        model: With both outcomes.
    """
    events, true_NK = _true_scores(law, reviews)
    scores = drop_last_token(model.score(reviews))
    prior_R = np.full(len(reviews), 0.5)
    true_posterior_N = scm_law.posterior(true_NK, events.offset_R1, prior_R)
    posterior_N = running_posterior(scores, prior_R)
    found = _divergences(law, reviews, model, posterior_N, true_posterior_N)
    treatment_R, offset_R1 = _treatments(reviews), events.offset_R1

    def per_review(values_N: FloatArray) -> FloatArray:
        return sum_by_review(values_N, offset_R1)

    confidence_N = np.maximum(true_posterior_N, 1 - true_posterior_N)
    prefixes = {
        "neutral": (true_posterior_N > NEUTRAL[0]) & (true_posterior_N < NEUTRAL[1]),
        "decided": confidence_N > DECIDED,
    }
    columns = {name.removesuffix("_N"): values_N for name, values_N in vars(found).items()}
    rows = pd.DataFrame(
        {"treatment": treatment_R, "events": np.diff(offset_R1).astype(np.float64)}
        | {name: per_review(values_N) for name, values_N in columns.items()}
        | {"posterior_error": per_review(np.abs(posterior_N - true_posterior_N))}
    )
    for name, chosen_N in prefixes.items():
        rows[f"events_{name}"] = per_review(chosen_N.astype(np.float64))
        rows[f"effect_error_{name}"] = per_review(found.effect_error_N * chosen_N)
    decile_N = decile_of_position(offset_R1)
    bin_N = np.digitize(true_posterior_N, POSTERIOR_EDGES)
    details = {
        "posterior_edges": POSTERIOR_EDGES,
        "by_position": {name: means_by_bin(values_N, decile_N, 10) for name, values_N in columns.items()},
        "by_true_posterior": {
            name: means_by_bin(values_N, bin_N, len(POSTERIOR_EDGES) + 1) for name, values_N in columns.items()
        },
    }
    return Measured.by_recipes(rows, _token_recipes(rows), details)


def _token_recipes(rows: pd.DataFrame) -> dict[str, Recipe]:
    """Return how figures follow from sums over the events of each review, those that these reviews give."""
    recipes: dict[str, Recipe] = {
        "cf_kl": Statistic(mean_of_ratios, ("cf_kl", "events", "treatment")),
        "factual_kl": Statistic(mean_of_ratios, ("factual_kl", "events", "treatment")),
        "token_pehe": Root(Ratio("effect_error", "events")),
    }
    for name in ("neutral", "decided"):
        if rows[f"events_{name}"].any():
            recipes[f"token_pehe_{name}"] = Root(Ratio(f"effect_error_{name}", f"events_{name}"))
    recipes |= {
        "js": Ratio("js", "events"),
        "js_true": Ratio("true_js", "events"),
        "posterior_mae": Ratio("posterior_error", "events"),
    }
    # Without an effect there is nothing to be calibrated to; `js` then speaks for itself.
    if rows["true_js"].sum() > 1e-9 * rows["events"].sum():
        recipes |= {"js_ratio": Ratio("js", "true_js"), "info_ratio": Ratio("js_pi", "true_js_pi")}
    return recipes


def measure_confounding(
    law: ReviewLaw,
    samples: dict[Sampling, list[Review]],
    score: Callable[[list[Review]], TokenScores],
) -> Measured:
    """Tell to which law the outcomes are nearer: that of observed reviews, or that under intervention.

    Args:
        law: With a topic that the prompt does not tell wholly.
        samples: Reviews under each sampling.
        score: The model.
    """
    columns = {}
    for sampling, reviews in samples.items():
        events = _events(law, reviews)
        true_RK = sum_by_review(scm_law.log_probabilities(law, events, sampling), events.offset_R1)
        rows, treatment_R = np.arange(len(reviews)), _treatments(reviews)
        columns[sampling] = (true_RK - score(reviews).log_p_RK)[rows, treatment_R], treatment_R
    (do_R, do_treatment_R), (obs_R, obs_treatment_R) = columns[Sampling.do], columns[Sampling.observational]
    size = min(len(do_R), len(obs_R))
    parts = [do_R[:size], do_treatment_R[:size], obs_R[:size], obs_treatment_R[:size]]

    names = ("do_excess", "do_treatment", "obs_excess", "obs_treatment")
    return Measured.by_recipes(
        pd.DataFrame(dict(zip(names, parts, strict=True))), {"confounding_bias": Statistic(_bias, names)}
    )


def mean_of_ratios(numerator_R: FloatArray, denominator_R: FloatArray, treatment_R: IntArray) -> float:
    """Return the mean over k of sum(numerator) / sum(denominator) among the reviews under do(T = k).

    NaN where one treatment is missing.
    """
    ratios = []
    for k in (0, 1):
        chosen_R = treatment_R == k
        if not chosen_R.any():
            return float("nan")
        ratios.append(float(numerator_R[chosen_R].sum() / denominator_R[chosen_R].sum()))
    return sum(ratios) / 2


def mean_of_means(values_R: FloatArray, treatment_R: IntArray) -> float:
    """Return the mean over k of the mean among the reviews under treatment k; NaN where one is missing."""
    return mean_of_ratios(values_R, np.ones(len(values_R)), treatment_R)


def _bias(do_R: FloatArray, do_treatment_R: IntArray, obs_R: FloatArray, obs_treatment_R: IntArray) -> float:
    return mean_of_means(do_R, do_treatment_R) - mean_of_means(obs_R, obs_treatment_R)


def event_tokens(law: ReviewLaw, tokenizer: Tokenizer) -> IntArray:
    """Return the token of each event (E,), the end of the review last."""
    return np.array([*(tokenizer.encode(word)[0] for word in law.vocabulary), tokenizer.end_ids[0]])


def drop_last_token(scores: TokenScores) -> TokenScores:
    """Leave out each review's ``<eos>``: the marker before it has said already that the review ends."""
    keep_N = np.ones(len(scores.tokens_N), np.bool_)
    keep_N[scores.offset_R1[1:] - 1] = False
    offset_R1 = scores.offset_R1 - np.arange(len(scores.offset_R1))
    return TokenScores(scores.log_p_NK[keep_N], scores.tokens_N[keep_N], offset_R1)


def _divergences(
    law: ReviewLaw, reviews: list[Review], model: OutcomeModel, posterior_N: FloatArray, true_posterior_N: FloatArray
) -> Divergences:
    """Compare the whole laws, some reviews at a time."""
    parts, first = [], 0
    tokens_E = event_tokens(law, model.tokenizer)
    for start in range(0, len(reviews), _PART):
        part = reviews[start : start + _PART]
        events = _events(law, part)
        true_NKE = scm_law.next_event_laws(law, events, Sampling.do)
        log_p_NKV = model.laws(part)[_is_event(events)].astype(np.float64)
        rows = slice(first, first + len(true_NKE))
        first = rows.stop
        treatment_N = np.repeat(_treatments(part), np.diff(events.offset_R1))
        parts.append(_compare(true_NKE, log_p_NKV, tokens_E, treatment_N, posterior_N[rows], true_posterior_N[rows]))
    joined = zip(*(vars(part).values() for part in parts), strict=True)
    return Divergences(*(np.concatenate(columns) for columns in joined))


def _compare(
    true_NKE: FloatArray,
    log_p_NKV: FloatArray,
    tokens_E: IntArray,
    treatment_N: IntArray,
    posterior_N: FloatArray,
    true_posterior_N: FloatArray,
) -> Divergences:
    support_NE = (true_NKE > 0).all(axis=1)
    log_true_NKE = np.log(true_NKE, out=np.zeros_like(true_NKE), where=true_NKE > 0)
    log_p_NKE = log_p_NKV[:, :, tokens_E]
    kl_NK = np.sum(true_NKE * (log_true_NKE - log_p_NKE), axis=2)
    effect_NE = (log_p_NKE[:, 1] - log_p_NKE[:, 0]) - (log_true_NKE[:, 1] - log_true_NKE[:, 0])
    effect_error_N = np.sum(true_NKE.mean(axis=1) * np.where(support_NE, effect_NE, 0.0) ** 2, axis=1)
    row_N, half_N = np.arange(len(kl_NK)), np.full(len(kl_NK), 0.5)
    p_NKV = np.exp(log_p_NKV)
    return Divergences(
        cf_kl_N=kl_NK[row_N, 1 - treatment_N],
        factual_kl_N=kl_NK[row_N, treatment_N],
        effect_error_N=effect_error_N,
        js_N=jensen_shannon(p_NKV, half_N),
        true_js_N=jensen_shannon(true_NKE, half_N),
        js_pi_N=jensen_shannon(p_NKV, posterior_N),
        true_js_pi_N=jensen_shannon(true_NKE, true_posterior_N),
    )


def _is_event(events: Events) -> np.ndarray:
    """Return which token rows of the reviews are events: all but each review's last, ``<eos>``."""
    length_R = np.diff(events.offset_R1)
    is_event = np.ones(int(length_R.sum()) + len(length_R), np.bool_)
    is_event[np.cumsum(length_R + 1) - 1] = False
    return is_event


def _events(law: ReviewLaw, reviews: list[Review]) -> Events:
    return scm_law.read_events(law, [review.text for review in reviews], [review.topic for review in reviews])


def _true_scores(law: ReviewLaw, reviews: list[Review]) -> tuple[Events, FloatArray]:
    events = _events(law, reviews)
    return events, scm_law.log_probabilities(law, events, Sampling.do)


def _treatments(reviews: list[Review]) -> IntArray:
    return np.array([review.treatment for review in reviews])


def _difference(log_p_RK: FloatArray) -> FloatArray:
    return log_p_RK[:, 1] - log_p_RK[:, 0]
