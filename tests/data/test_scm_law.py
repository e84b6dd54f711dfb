"""Axes: as in `nano_llm.data.scm_law`."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from nano_llm.config.schema import ScmConfig, ScmTopic
from nano_llm.data.scm import (
    SILENT,
    ReviewLaw,
    Sampling,
    draw_noise,
    parse,
    render,
    review_law,
    sample_records,
    sample_reviews,
    spoken_words,
    to_reviews,
)
from nano_llm.data.scm_law import (
    Events,
    log_probabilities,
    next_event_laws,
    posterior,
    prompt_prior,
    read_events,
    review_posterior,
    treatment_prior,
)
from nano_llm.errors import DataError
from scm_micro import add, micro_law, prompts_by_brute_force, texts_by_brute_force
from scm_presets import DEFAULT, TINY

both_samplings = pytest.mark.parametrize("sampling", Sampling, ids=lambda sampling: sampling.name)
CONFIGS = {
    "tiny": TINY,
    "default": DEFAULT,
    "tiny with a verdict, longer praise": replace(TINY, verdict=True, length_effect=0.8, confounding=4.0, overlap=0.1),
    "default without a verdict, topic hidden": replace(DEFAULT, verdict=False, topic=ScmTopic.hidden),
    "default, topic by proxy, one to two sentences": replace(
        DEFAULT, topic=ScmTopic.proxy, min_sentences=1, max_sentences=2
    ),
    "default, one sentence": replace(DEFAULT, min_sentences=1, max_sentences=1, effect=0.5),
}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def sampled(config: ScmConfig, num_reviews: int, sampling: Sampling) -> tuple[ReviewLaw, Events, np.ndarray]:
    """A law, events of its reviews, and their treatments."""
    law = review_law(config)
    reviews = to_reviews(law, sample_records(law, draw_noise(law, 3, "any", num_reviews), sampling))
    events = read_events(law, [review.text for review in reviews], [review.topic for review in reviews])
    return law, events, np.array([review.treatment for review in reviews])


def of_texts(log_probability_NK: np.ndarray, events: Events) -> np.ndarray:
    return np.add.reduceat(log_probability_NK, events.offset_R1[:-1])


# -------------------------------------------------------------------- a law small enough to sum over


@both_samplings
@pytest.mark.parametrize("prompt_topic", ScmTopic, ids=lambda topic: topic.name)
@pytest.mark.parametrize("verdict", [False, True], ids=["no verdict", "verdict"])
def test_the_filter_is_the_sum_over_everything_latent(
    verdict: bool, prompt_topic: ScmTopic, sampling: Sampling
) -> None:
    law = micro_law(verdict, prompt_topic)
    given = {zsk: texts_by_brute_force(law, *zsk) for zsk in product((0, 1), repeat=3)}
    texts = sorted({text for found in given.values() for text in found})
    text_ZSKR = np.array([given[zsk].get(text, 0.0) for zsk in product((0, 1), repeat=3) for text in texts])
    text_ZKR = np.einsum("zskr,s->zkr", text_ZSKR.reshape(2, 2, 2, -1), law.style_S)
    np.testing.assert_allclose(text_ZKR.sum(axis=-1), 1)

    for topic, joint_ZK in prompts_by_brute_force(law, sampling).items():
        events = read_events(law, [render(text) for text in texts], [topic] * len(texts))
        text_RK = np.einsum("zk,zkr->rk", joint_ZK / joint_ZK.sum(axis=0), text_ZKR)
        log_probability_NK = log_probabilities(law, events, sampling)
        np.testing.assert_allclose(np.exp(of_texts(log_probability_NK, events)), text_RK, rtol=1e-9, atol=1e-300)
        assert (text_RK == 0).any() == (topic == "drama" and prompt_topic is ScmTopic.observed)  # no "ghost" there

        prior_R = treatment_prior(law, events, sampling)
        np.testing.assert_allclose(prior_R, joint_ZK[:, 1].sum() / joint_ZK.sum())
        joint_RK = text_RK * np.stack([1 - prior_R, prior_R], axis=1)
        possible_R = joint_RK.any(axis=1)
        posterior_R = review_posterior(log_probability_NK, events.offset_R1, prior_R)[possible_R]
        np.testing.assert_allclose(posterior_R, joint_RK[possible_R, 1] / joint_RK[possible_R].sum(axis=1))

        assert_laws_are_sums_over_continuations(law, events, text_RK, next_event_laws(law, events, sampling))


def assert_laws_are_sums_over_continuations(law, events: Events, text_RK, law_NKE) -> None:
    prefixes: dict = {}
    for review, text_K in enumerate(text_RK):
        event_T = events.event_N[slice(*events.offset_R1[review : review + 2])].tolist()
        for t in range(len(event_T) + 1):
            add(prefixes, tuple(event_T[:t]), text_K)
    for review in range(0, len(text_RK), 7):
        start, end = events.offset_R1[review : review + 2]
        event_T = events.event_N[start:end].tolist()
        for t in range(len(event_T)):
            continued_KE = np.stack(
                [prefixes.get((*event_T[:t], e), np.zeros(2)) for e in range(len(law.vocabulary) + 1)], axis=1
            )
            before_K = prefixes[tuple(event_T[:t])][:, None]
            expected_KE = np.divide(continued_KE, before_K, out=np.zeros_like(continued_KE), where=before_K > 0)
            np.testing.assert_allclose(law_NKE[start + t], expected_KE, rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------------------------------- every configuration


@every_config
@both_samplings
def test_laws_sum_to_one_and_hold_the_probability_of_what_came(config: ScmConfig, sampling: Sampling) -> None:
    law, events, _ = sampled(config, 60, Sampling.do)
    law_NKE = next_event_laws(law, events, sampling)
    assert law_NKE.shape == (len(events.event_N), 2, len(law.vocabulary) + 1)
    assert (law_NKE >= 0).all()
    np.testing.assert_allclose(law_NKE.sum(axis=-1), 1, atol=1e-9)
    came_NK = np.take_along_axis(law_NKE, events.event_N[:, None, None], axis=2)[..., 0]
    np.testing.assert_allclose(np.log(came_NK), log_probabilities(law, events, sampling), atol=1e-9)


@every_config
def test_no_text_of_the_corpus_is_impossible(config: ScmConfig) -> None:
    law, events, _ = sampled(config, 600, Sampling.observational)
    assert np.isfinite(log_probabilities(law, events, Sampling.observational)).all()


@every_config
def test_the_likelihood_ratio_has_mean_one_and_favours_the_treatment(config: ScmConfig) -> None:
    """E over p_k of p_(1-k)(x) / p_k(x) is 1: the filter knows the law that the sampler follows."""
    law, events, treatment_R = sampled(replace(config, noise=0.3), 1_500, Sampling.do)
    log_ratio_R = np.diff(of_texts(log_probabilities(law, events, Sampling.do), events))[:, 0]
    for k in (0, 1):
        against_R = log_ratio_R[treatment_R == k] * (1 - 2 * k)
        ratio_R = np.exp(against_R)
        assert abs(ratio_R.mean() - 1) <= 4 * ratio_R.std() / np.sqrt(ratio_R.size)
        assert against_R.mean() < -4 * against_R.std() / np.sqrt(against_R.size)


@pytest.mark.parametrize("base", [TINY, DEFAULT], ids=["tiny", "default"])
def test_without_effect_the_laws_coincide_under_do_only(base: ScmConfig) -> None:
    law, events, _ = sampled(replace(base, effect=0.0, topic=ScmTopic.hidden), 100, Sampling.observational)
    given, found = (log_probabilities(law, events, sampling) for sampling in (Sampling.do, Sampling.observational))
    np.testing.assert_allclose(given[:, 0], given[:, 1], atol=1e-12)
    assert np.abs(found[:, 0] - found[:, 1]).max() > 0.1


@pytest.mark.parametrize(
    ("changes", "coincide"),
    [
        ({"topic": ScmTopic.hidden}, False),
        ({"topic": ScmTopic.proxy}, False),
        ({"topic": ScmTopic.observed}, True),
        ({"topic": ScmTopic.hidden, "confounding": 0.0}, True),
        ({"topic": ScmTopic.proxy, "confounding": 0.0}, True),
        ({"topic": ScmTopic.proxy, "proxy_accuracy": 1.0}, True),
    ],
    ids=str,
)
def test_what_is_given_is_what_is_found_where_nothing_confounds(changes, coincide: bool) -> None:
    law, events, _ = sampled(replace(DEFAULT, **changes), 100, Sampling.observational)
    given, found = (log_probabilities(law, events, sampling) for sampling in (Sampling.do, Sampling.observational))
    assert np.allclose(given, found, atol=1e-12) == coincide


def test_a_proxy_of_no_accuracy_beyond_chance_is_no_prompt() -> None:
    law, events, _ = sampled(replace(TINY, topic=ScmTopic.proxy, proxy_accuracy=1 / 6), 100, Sampling.do)
    silent = replace(events, topic_R=np.full_like(events.topic_R, SILENT))
    np.testing.assert_allclose(
        log_probabilities(law, events, Sampling.observational),
        log_probabilities(replace(law, prompt_topic=ScmTopic.hidden), silent, Sampling.observational),
        atol=1e-12,
    )


def test_a_review_has_the_same_law_alone_as_among_many() -> None:
    law, events, _ = sampled(DEFAULT, 600, Sampling.do)
    together = log_probabilities(law, events, Sampling.do)
    for review in (0, 255, 256, 599):
        start, end = events.offset_R1[review : review + 2]
        alone = Events(events.event_N[start:end], np.array([0, end - start]), events.topic_R[review : review + 1])
        np.testing.assert_allclose(log_probabilities(law, alone, Sampling.do), together[start:end], atol=1e-12)


# --------------------------------------------------------------------------------------------- posterior


def test_the_prior_is_a_coin_or_what_the_prompt_tells_of_the_treatment() -> None:
    law, events, treatment_R = sampled(replace(DEFAULT, topic=ScmTopic.proxy), 5_000, Sampling.observational)
    assert (treatment_prior(law, events, Sampling.do) == 0.5).all()
    prior_R = treatment_prior(law, events, Sampling.observational)
    named = [None if z == SILENT else law.topics[z] for z in events.topic_R]
    assert (prompt_prior(law, named) == prior_R).all()
    for w in range(6):
        mine_R = events.topic_R == w
        assert np.ptp(prior_R[mine_R]) == 0
        standard_error = treatment_R[mine_R].std() / np.sqrt(mine_R.sum())
        assert abs(treatment_R[mine_R].mean() - prior_R[mine_R][0]) <= 4 * standard_error


def test_posterior_by_hand() -> None:
    chances = np.array([[0.5, 0.5], [0.2, 0.8], [0.6, 0.3], [0.1, 0.9]])
    before = posterior(np.log(chances), np.array([0, 3, 4]), np.array([0.5, 0.1]))
    np.testing.assert_allclose(before, [0.5, 0.5, 0.8, 0.1])
    after = review_posterior(np.log(chances), np.array([0, 3, 4]), np.array([0.5, 0.1]))
    np.testing.assert_allclose(after, [0.24 / (0.24 + 0.12), 0.5])


def test_certainty_stays_within_its_review() -> None:
    log_probability_NK = np.array([[-np.inf, -1.0], [-1.0, -1.0], [-1.0, -1.0], [-800.0, -1.0]])
    offset_R1 = np.array([0, 2, 4])
    assert posterior(log_probability_NK, offset_R1, np.full(2, 0.5)).tolist() == [0.5, 1.0, 0.5, 0.5]
    assert review_posterior(log_probability_NK, offset_R1, np.full(2, 0.5)).tolist() == [1.0, 1.0]
    assert review_posterior(log_probability_NK[1:3], np.array([0, 2]), np.ones(1)).tolist() == [1.0]


@both_samplings
def test_the_posterior_is_calibrated(sampling: Sampling) -> None:
    law, events, treatment_R = sampled(TINY, 2_000, sampling)
    prior_R = treatment_prior(law, events, sampling)
    posterior_R = review_posterior(log_probabilities(law, events, sampling), events.offset_R1, prior_R)
    for low, high in ((0, 0.1), (0.1, 0.4), (0.4, 0.6), (0.6, 0.9), (0.9, 1)):
        here_R = (posterior_R >= low) & (posterior_R <= high)
        residual_R = treatment_R[here_R] - posterior_R[here_R]
        assert here_R.sum() > 50
        assert abs(residual_R.mean()) <= 4 * residual_R.std() / np.sqrt(residual_R.size)


# ----------------------------------------------------------------------------------------------- reading


@every_config
def test_reading_gives_the_words_and_the_end(config: ScmConfig) -> None:
    law = review_law(config)
    records = sample_records(law, draw_noise(law, 0, "any", 200))
    reviews = to_reviews(law, records)
    events = read_events(law, [review.text for review in reviews], [review.topic for review in reviews])
    words = [[law.vocabulary.index(word) for word in review] for review in spoken_words(law, records)]
    assert events.event_N.tolist() == [event for review in words for event in (*review, len(law.vocabulary))]
    assert np.diff(events.offset_R1).tolist() == [len(review) + 1 for review in words]
    expected = {ScmTopic.hidden: np.full(200, SILENT), ScmTopic.proxy: records.proxy_N}
    np.testing.assert_array_equal(events.topic_R, expected.get(config.topic, records.topic_N))


GOOD = sample_reviews(replace(DEFAULT, num_test=2), "test")[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a fine film.", r"Review 1 .*no word 'fine'.*data\.lexicon"),
        ("", r"Review 1 .*no sequence"),
        (GOOD.text.removesuffix("."), r"Review 1 .*no sequence.*max_review_chars"),
        (GOOD.text.split(" overall")[0], r"no sequence"),  # no verdict
        (GOOD.text + " this plot drags.", r"no sequence"),  # something after it
        ("this plot drags. this plot drags. overall, the plot is very memorable.", r"no sequence"),  # too short
        ("this plot drags. " * 11 + "overall, the plot is very memorable.", r"no sequence"),  # too long
        ("a bold beach scene. " + "this plot drags. " * 2 + "overall, the plot is very memorable.", r"no sequence"),
        ("this drags plot. " * 3 + "overall, the plot is very memorable.", r"no sequence"),
    ],
    ids=lambda value: value[:30],
)
def test_what_the_law_cannot_give_is_refused_by_review_and_reason(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_events(review_law(DEFAULT), [GOOD.text, text], [GOOD.topic] * 2)


def test_no_reviews_have_no_events() -> None:
    law = review_law(DEFAULT)
    events = read_events(law, [], [])
    log_probability_NK = log_probabilities(law, events, Sampling.do)
    assert log_probability_NK.shape == (0, 2)
    assert next_event_laws(law, events, Sampling.do).shape == (0, 2, len(law.vocabulary) + 1)
    assert posterior(log_probability_NK, events.offset_R1, np.zeros(0)).shape == (0,)
    assert review_posterior(log_probability_NK, events.offset_R1, np.zeros(0)).shape == (0,)


def test_a_prompt_must_name_what_the_law_names() -> None:
    with pytest.raises(DataError, match=r"Review 0 .*None.*data\.topic=observed.*drama"):
        read_events(review_law(DEFAULT), [GOOD.text], [None])
    with pytest.raises(DataError, match=r"Review 0 .*'western'"):
        read_events(review_law(DEFAULT), [GOOD.text], ["western"])
    with pytest.raises(DataError, match=r"'drama'.*data\.topic=hidden"):
        read_events(review_law(replace(DEFAULT, topic=ScmTopic.hidden)), [GOOD.text], ["drama"])
    with pytest.raises(DataError, match=r"1 reviews with topics of 2"):
        read_events(review_law(DEFAULT), [GOOD.text], ["drama", "drama"])


def test_the_law_ends_at_the_first_impossible_event() -> None:
    """The words can be read, yet a verdict never turns to another aspect than the first sentence's."""
    law = review_law(DEFAULT)
    text = "this plot drags. " * 3 + "overall, the music is very memorable."
    events = read_events(law, [text], ["drama"])
    at = parse(text).index("music")
    log_probability_NK = log_probabilities(law, events, Sampling.do)
    assert np.isfinite(log_probability_NK[:at]).all()
    assert (log_probability_NK[at:] == -np.inf).all()
    np.testing.assert_allclose(next_event_laws(law, events, Sampling.do).sum(axis=-1)[: at + 1], 1)
    assert (next_event_laws(law, events, Sampling.do)[at + 1 :] == 0).all()
