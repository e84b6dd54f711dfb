"""The constants of a structural corpus: what its law leaves to learn, measured on a sample of its own.

Axes: as in `nano_llm.data.scm_law`; E the events that a law gives, V + 1.
"""

from collections.abc import Mapping

import numpy as np

from nano_llm.data.arrays import FloatArray
from nano_llm.data.review import Review
from nano_llm.data.scm import IntArray, ReviewLaw, Sampling, draw_noise, sample_records, to_reviews
from nano_llm.data.scm_law import (
    Events,
    log_probabilities,
    next_event_laws,
    posterior,
    read_events,
    review_posterior,
    treatment_prior,
)

_PART = 250  # reviews whose whole laws are in memory at a time, 50 to 60 MB in the default corpus
_DECIDED = 0.995


def corpus_constants(law: ReviewLaw, seed: int, num_reviews: int, sampling: Sampling) -> dict[str, dict[str, float]]:
    """Measure the constants of a law on reviews of the stream "truth", which no split shares.

    ==========================  ======================================================================
    constant                    meaning
    ==========================  ======================================================================
    bayes_accuracy              E max(P(T|x), 1 - P(T|x)): accuracy of the best guess of the treatment
    information                 I(X;T | prompt), nats a review
    information_by_event        sum over events of E JS_pi, nats a review: equals `information`
    js                          Jensen-Shannon divergence of the two laws, nats a token
    decided_share               tokens before which one treatment has a posterior above 99.5 %
    confounding_kl              KL of the law sampled from to that of the other sampling, given T, nats a
                                review: KL(obs||do) or KL(do||obs); 0 with the topic observed
    tokens                      events a review, the end included
    bytes                       UTF-8 bytes a review
    entropy                     of the next event given T, nats a token
    entropy_bpb                 the same, bits a byte of text
    ==========================  ======================================================================

    Args:
        law: Of the corpus.
        seed: Of the corpus.
        num_reviews: How many to sample, at least 2. 1,000 of the default corpus take about four seconds.
        sampling: What decides the treatment in the sample, and whose laws are measured.

    Returns:
        Constant -> ``{"value": ..., "standard_error": ...}``. Errors are over reviews; those of means a token
        (or a byte) are errors of a ratio of sums.
    """
    noise = draw_noise(law, seed, "truth", num_reviews)
    reviews = to_reviews(law, sample_records(law, noise, sampling))
    parts = [_sums_of_reviews(law, reviews[start : start + _PART], sampling) for start in range(0, num_reviews, _PART)]
    sums = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    one_R = np.ones(num_reviews)
    return {
        "bayes_accuracy": _ratio_of_sums(sums["accuracy"], one_R),
        "information": _ratio_of_sums(sums["information"], one_R),
        "information_by_event": _ratio_of_sums(sums["js_posterior"], one_R),
        "js": _ratio_of_sums(sums["js"], sums["tokens"]),
        "decided_share": _ratio_of_sums(sums["decided"], sums["tokens"]),
        "confounding_kl": _ratio_of_sums(sums["confounding"], one_R),
        "tokens": _ratio_of_sums(sums["tokens"], one_R),
        "bytes": _ratio_of_sums(sums["bytes"], one_R),
        "entropy": _ratio_of_sums(sums["nats"], sums["tokens"]),
        "entropy_bpb": _ratio_of_sums(sums["nats"] / np.log(2), sums["bytes"]),
    }


def jensen_shannon(law_NKE: FloatArray, posterior_N: FloatArray) -> FloatArray:
    """JS_pi of the two laws before each event, nats, shape (N,): what the event is expected to tell of T.

    Args:
        law_NKE: The laws of treatment 0 and 1.
        posterior_N: pi, the weight of law 1 in the mixture; halves give the ordinary divergence.
    """
    weight_NK = np.stack([1 - posterior_N, posterior_N], axis=1)
    mixture_NE = np.einsum("nk,nke->ne", weight_NK, law_NKE)
    divergence_N: FloatArray = _entropy(mixture_NE) - (weight_NK * _entropy(law_NKE)).sum(axis=1)
    return divergence_N


def _entropy(law: FloatArray) -> FloatArray:
    log_law = np.log(law, out=np.zeros_like(law), where=law > 0)
    entropy: FloatArray = -np.einsum("...e,...e->...", law, log_law)
    return entropy


def _sums_of_reviews(law: ReviewLaw, reviews: list[Review], sampling: Sampling) -> Mapping[str, FloatArray]:
    """Sums over the events of each review, shape (R,) each."""
    events = read_events(law, [review.text for review in reviews], [review.topic for review in reviews])
    other = Sampling.observational if sampling is Sampling.do else Sampling.do
    treatment_R = np.array([review.treatment for review in reviews])
    prior_R = treatment_prior(law, events, sampling)
    law_NKE = next_event_laws(law, events, sampling)
    log_probability_NK = np.log(np.take_along_axis(law_NKE, events.event_N[:, None, None], axis=2)[..., 0])
    posterior_N = posterior(log_probability_NK, events.offset_R1, prior_R)
    posterior_R = review_posterior(log_probability_NK, events.offset_R1, prior_R)
    log_text_R = _log_text(log_probability_NK, events, treatment_R)
    return {
        "accuracy": np.maximum(posterior_R, 1 - posterior_R),
        "information": _binary_kl(posterior_R, prior_R),
        "js_posterior": _per_review(jensen_shannon(law_NKE, posterior_N), events),
        "js": _per_review(jensen_shannon(law_NKE, np.full(len(posterior_N), 0.5)), events),
        "decided": _per_review((np.abs(posterior_N - 0.5) > _DECIDED - 0.5).astype(np.float64), events),
        "confounding": log_text_R - _log_text(log_probabilities(law, events, other), events, treatment_R),
        "tokens": np.diff(events.offset_R1).astype(np.float64),
        "bytes": np.array([len(review.text.encode()) for review in reviews], dtype=np.float64),
        "nats": -log_text_R,
    }


def _log_text(log_probability_NK: FloatArray, events: Events, treatment_R: IntArray) -> FloatArray:
    """Log-probability of each review under its own treatment, shape (R,)."""
    log_probability_RK = np.add.reduceat(log_probability_NK, events.offset_R1[:-1])
    log_text_R: FloatArray = log_probability_RK[np.arange(len(treatment_R)), treatment_R]
    return log_text_R


def _per_review(value_N: FloatArray, events: Events) -> FloatArray:
    sum_R: FloatArray = np.add.reduceat(value_N, events.offset_R1[:-1])
    return sum_R


def _binary_kl(p: FloatArray, q: FloatArray) -> FloatArray:
    """KL of a coin with chance p to a coin with chance q, 0 < q < 1, nats."""
    both_K = np.stack([1 - p, p], axis=1), np.stack([1 - q, q], axis=1)
    cross: FloatArray = -(both_K[0] * np.log(both_K[1])).sum(axis=1)
    return cross - _entropy(both_K[0])


def _ratio_of_sums(numerator_R: FloatArray, denominator_R: FloatArray) -> dict[str, float]:
    """The ratio and its standard error over reviews, to first order."""
    ratio = numerator_R.sum() / denominator_R.sum()
    residual_R = (numerator_R - ratio * denominator_R) / denominator_R.mean()
    return {"value": float(ratio), "standard_error": float(residual_R.std(ddof=1) / np.sqrt(len(residual_R)))}
