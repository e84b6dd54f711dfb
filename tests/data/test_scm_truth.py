"""Axes: as in `nano_llm.data.scm_law`."""

from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest

from nano_llm.config.schema import ScmTopic
from nano_llm.data.scm import Sampling, draw_noise, render, review_law, sample_records, spoken_words
from nano_llm.data.scm_law import (
    log_probabilities,
    next_event_laws,
    posterior,
    read_events,
    review_posterior,
    treatment_prior,
)
from nano_llm.data.scm_truth import corpus_constants, jensen_shannon
from scm_micro import micro_law, prompts_by_brute_force, texts_by_brute_force
from scm_presets import DEFAULT, TINY

NUM_REVIEWS = 1_000

PUBLISHED = {  # tiny: (confounding, noise): 400 reviews; the last constant 200
    (0.0, 0.15): (0.877, 0.419, 0.408, 0.036, 0.14, 0.0),
    (2.0, 0.15): (0.873, 0.425, 0.430, 0.040, 0.22, 0.085),
    (4.0, 0.15): (0.885, 0.457, 0.460, 0.046, 0.28, 0.205),
    (2.0, 0.30): (0.743, 0.209, 0.238, 0.015, 0.01, 0.083),
}
NAMES = ("bayes_accuracy", "information", "information_by_event", "js", "decided_share", "confounding_kl")


@cache
def tiny(confounding: float, noise: float) -> dict[str, dict[str, float]]:
    law = review_law(replace(TINY, confounding=confounding, noise=noise))
    return corpus_constants(law, 1, NUM_REVIEWS, Sampling.observational)


@pytest.mark.parametrize("row", PUBLISHED, ids=str)
def test_constants_agree_with_the_specification(row: tuple[float, float]) -> None:
    for name, published in zip(NAMES, PUBLISHED[row], strict=True):
        error = tiny(*row)[name]["standard_error"]
        their_error = error * np.sqrt(NUM_REVIEWS / (200 if name == "confounding_kl" else 400))
        if name in ("bayes_accuracy", "information"):  # measured there by hits and by log P(T|x): noisier than means
            their_error = {"bayes_accuracy": 0.065 / 4, "information": 0.025}[name]
        rounding = {"js": 5e-4, "decided_share": 5e-3}.get(name, 1e-9)
        assert abs(tiny(*row)[name]["value"] - published) <= 4 * np.hypot(error, their_error) + rounding, name


FROZEN = {  # by this code: 20,000 reviews, seed 0; value and standard error
    "tiny": {
        "bayes_accuracy": (0.89816, 0.00095),
        "information": (0.45527, 0.00166),
        "information_by_event": (0.45760, 0.00179),
        "js": (0.04038, 0.00006),
        "decided_share": (0.2090, 0.0022),
        "confounding_kl": (0.09369, 0.00271),
        "bytes": (99.39, 0.50),
        "entropy": (1.40363, 0.00105),
        "entropy_bpb": (0.45038, 0.00045),
    },
    "tiny, do": {
        "bayes_accuracy": (0.88315, 0.00106),
        "information": (0.43206, 0.00167),
        "information_by_event": (0.43527, 0.00172),
        "js": (0.03626, 0.00006),
        "decided_share": (0.1307, 0.0017),
        "confounding_kl": (0.11856, 0.00373),
        "bytes": (99.47, 0.50),
        "entropy": (1.40779, 0.00104),
        "entropy_bpb": (0.45135, 0.00045),
    },
    "default": {
        "bayes_accuracy": (0.91394, 0.00089),
        "information": (0.31479, 0.00254),
        "information_by_event": (0.31952, 0.00139),
        "js": (0.01534, 0.00002),
        "decided_share": (0.1233, 0.0017),
        "confounding_kl": (0.0, 0.0),
        "bytes": (227.00, 0.68),
        "entropy": (1.46919, 0.00089),
        "entropy_bpb": (0.43610, 0.00026),
    },
    "default, do": {
        "bayes_accuracy": (0.88495, 0.00101),
        "information": (0.42728, 0.00164),
        "information_by_event": (0.42950, 0.00124),
        "js": (0.01534, 0.00002),
        "decided_share": (0.0618, 0.0011),
        "confounding_kl": (0.0, 0.0),
        "bytes": (226.97, 0.68),
        "entropy": (1.46917, 0.00089),
        "entropy_bpb": (0.43615, 0.00026),
    },
}
EXPECTED_TOKENS = {"tiny": 22.0, "default": 46.8}  # derived, to the digit given


@pytest.mark.parametrize("name", FROZEN)
def test_constants_stay_as_they_were_measured(name: str) -> None:
    config, num_reviews = (TINY, NUM_REVIEWS) if name.startswith("tiny") else (DEFAULT, 500)
    sampling = Sampling.do if name.endswith("do") else Sampling.observational
    measured = corpus_constants(review_law(config), 1, num_reviews, sampling)
    expected = FROZEN[name] | {"tokens": (EXPECTED_TOKENS[name.split(",")[0]], 0.05 / 4)}
    assert measured.keys() == expected.keys()
    for constant, (value, error) in expected.items():
        found = measured[constant]
        assert abs(found["value"] - value) <= 4 * np.hypot(found["standard_error"], error) + 1e-9, constant


@pytest.mark.parametrize("prompt_topic", ScmTopic, ids=lambda topic: topic.name)
@pytest.mark.parametrize("sampling", Sampling, ids=lambda sampling: sampling.name)
def test_what_all_events_tell_of_the_treatment_is_what_the_text_tells(prompt_topic, sampling) -> None:
    """Exact: every text of a small law, weighted by its probability."""
    law = micro_law(True, prompt_topic)
    texts = sorted({text for zsk in product((0, 1), repeat=3) for text in texts_by_brute_force(law, *zsk)})
    for topic in prompts_by_brute_force(law, sampling):
        events = read_events(law, [render(text) for text in texts], [topic] * len(texts))
        prior_R = treatment_prior(law, events, sampling)
        log_probability_NK = log_probabilities(law, events, sampling)
        text_RK = np.exp(np.add.reduceat(log_probability_NK, events.offset_R1[:-1]))
        joint_RK = text_RK * np.stack([1 - prior_R, prior_R], axis=1)
        posterior_RK = joint_RK / np.maximum(joint_RK.sum(axis=1, keepdims=True), 1e-300)
        prior_K = np.array([1 - prior_R[0], prior_R[0]])
        log_gain_RK = np.log(posterior_RK / prior_K, out=np.zeros_like(joint_RK), where=joint_RK > 0)
        pi_N = posterior(log_probability_NK, events.offset_R1, prior_R)
        divergence_N = jensen_shannon(next_event_laws(law, events, sampling), pi_N)
        told_R = np.add.reduceat(divergence_N, events.offset_R1[:-1])
        assert (joint_RK.sum(axis=1) * told_R).sum() == pytest.approx((joint_RK * log_gain_RK).sum(), abs=1e-12)


def test_jensen_shannon_by_hand() -> None:
    law_NKE = np.array([[[0.2, 0.8, 0.0], [0.2, 0.8, 0.0]], [[1, 0, 0], [0, 0, 1]], [[1, 0, 0], [0, 0, 1]]])
    np.testing.assert_allclose(
        jensen_shannon(law_NKE, np.array([0.3, 0.5, 0.1])),
        [0, np.log(2), -0.1 * np.log(0.1) - 0.9 * np.log(0.9)],
        atol=1e-15,
    )
    np.testing.assert_allclose(jensen_shannon(law_NKE, np.array([0.0, 1.0, 0.0])), 0, atol=1e-15)


def test_bayes_accuracy_is_the_share_of_right_guesses() -> None:
    law = review_law(TINY)
    records = sample_records(law, draw_noise(law, 2, "any", 2_000))
    events = read_events(law, [render(words) for words in spoken_words(law, records)], [None] * 2_000)
    log_probability_NK = log_probabilities(law, events, Sampling.observational)
    prior_R = treatment_prior(law, events, Sampling.observational)
    guess_R = review_posterior(log_probability_NK, events.offset_R1, prior_R) > 0.5
    share = (guess_R == records.treatment_N).mean()
    value, error = FROZEN["tiny"]["bayes_accuracy"]
    assert abs(share - value) <= 4 * np.hypot(np.sqrt(value * (1 - value) / 2_000), error)


def test_standard_errors_shrink_with_the_root_of_the_sample_and_cover_the_difference_of_samples() -> None:
    law = review_law(TINY)
    small, large = (corpus_constants(law, seed, num, Sampling.do) for seed, num in ((4, 200), (5, 1_800)))
    for name, estimate in small.items():
        error, smaller_error = estimate["standard_error"], large[name]["standard_error"]
        assert 2 < error / smaller_error < 4.5, name
        assert abs(estimate["value"] - large[name]["value"]) <= 4.5 * np.hypot(error, smaller_error), name
