"""Axes: as in `nano_llm.data.scm`."""

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest

from nano_llm.config.schema import ScmConfig, ScmTopic
from nano_llm.data.scm import (
    SILENT,
    SLOTS,
    Noise,
    Records,
    ReviewLaw,
    Sampling,
    draw_noise,
    parse,
    render,
    review_law,
    sample_pairs,
    sample_records,
    sample_reviews,
    spoken_words,
    twins,
)
from nano_llm.data.scm_lexicon import TOPICS, default_lexicon, tiny_lexicon
from scm_presets import DEFAULT, TINY

NUM_REVIEWS = 20_000

both_presets = pytest.mark.parametrize("config", [TINY, DEFAULT], ids=["tiny", "default"])


def sample(config: ScmConfig, **how) -> tuple[ReviewLaw, Noise, Records]:
    law = review_law(config)
    noise = draw_noise(law, seed=1, split="test", num_reviews=NUM_REVIEWS)
    return law, noise, sample_records(law, noise, **how)


def assert_share(hits: np.ndarray, probability: float) -> None:
    """The share of hits is within five standard errors of a probability."""
    assert abs(hits.mean() - probability) <= 5 * np.sqrt(probability * (1 - probability) / hits.size)


def word_law(law: ReviewLaw, slot: str, z: int = 0, s: int = 0, a: int = 0, r: int = 0) -> dict[str, float]:
    """Law of the word in a slot, as a mapping."""
    law_ZSARV = np.broadcast_to(law.emissions[slot], (6, 2, 8, 2, len(law.vocabulary)))
    return {word: p for word, p in zip(law.vocabulary, law_ZSARV[z, s, a, r], strict=True) if p > 0}


# -------------------------------------------------------------------------------------------- lexicons


def test_list_sizes() -> None:
    tiny, default = (
        {slot: [len(words) for words in lists] for slot, lists in lexicon.lists.items()}
        for lexicon in (tiny_lexicon(), default_lexicon())
    )
    assert tiny == {"A": [3] * 8, "Z": [4] * 6, "I": [4], "V": [4, 4], "O": [8, 8, 4, 4], "W": [8, 8]}
    assert default == {
        "A": [6] * 8,
        "Z": [10] * 6 + [12],
        "I": [10],
        "V": [12, 12],
        "C": [12],
        "F": [24],
        "O": [24, 24, 12, 8],
        "W": [8, 8],
    }
    assert len(review_law(TINY).vocabulary) == 95 - 1  # without the end marker
    assert len(review_law(DEFAULT).vocabulary) == 290


@pytest.mark.parametrize("lexicon", [tiny_lexicon(), default_lexicon()], ids=["tiny", "default"])
def test_lists_are_disjoint_from_each_other_and_from_fixed_words_and_topics(lexicon) -> None:
    listed = [word for lists in lexicon.lists.values() for words in lists for word in words]
    fixed = {item for text in lexicon.templates for item in text.split()} | {"overall", ","}
    assert len(listed) == len(set(listed))
    assert not set(listed) & (fixed | set(TOPICS))
    assert all(word.isalpha() and word.islower() for word in listed)


def test_the_article_a_stands_before_consonants_only() -> None:
    lists = default_lexicon().lists
    assert not [word for word in chain(*lists["Z"], *lists["O"]) if word[0] in "aeiou"]


# ------------------------------------------------------------------------------------------------- law


@both_presets
@pytest.mark.parametrize("verdict", [False, True])
def test_every_law_sums_to_one(config: ScmConfig, verdict: bool) -> None:
    law = review_law(replace(config, verdict=verdict))
    laws = [law.topic_Z, law.style_S, law.proxy_ZW, law.aspect_ZA, law.template_LSM, *law.emissions.values()]
    for array in laws:
        np.testing.assert_allclose(array.sum(axis=-1), 1, atol=1e-12)
        assert (array >= 0).all()
    assert (law.stop_JSK[-1] == 1).all()


def test_tiny_has_the_published_tables() -> None:
    law = review_law(TINY)
    np.testing.assert_allclose(law.aspect_ZA[0, :4], [0.1296, 0.1016, 0.0863, 0.1364], atol=5e-5)
    thriller = TOPICS.index("thriller")
    praise, blame = (word_law(law, "O", z=thriller, r=r) for r in (1, 0))
    assert praise["unpredictable"] == pytest.approx(0.15 * 0.60)
    assert blame["unpredictable"] == pytest.approx(0.15 * 0.40 / 3)


def test_default_aspects_and_ambiguous_words_follow_the_topic() -> None:
    law = review_law(DEFAULT)
    assert (law.aspect_ZA[5] * 14).round(9).tolist() == [1, 1, 1, 1, 1, 4, 1, 4]
    ambiguous = default_lexicon().lists["O"][3]
    praise = [word_law(law, "O", z=5, r=1)[word] / 0.15 for word in ambiguous]
    np.testing.assert_allclose(praise, [0.25, 0.05, 0.05, 0.05, 0.05, 0.25, 0.25, 0.05])


@both_presets
def test_opinions_are_polar_neutral_or_ambiguous(config: ScmConfig) -> None:
    law = review_law(config)
    negative, positive, neutral, ambiguous = (tiny_lexicon() if config is TINY else default_lexicon()).lists["O"]
    for r, polar in enumerate((negative, positive)):
        opinions = word_law(law, "O", z=3, r=r)
        assert set(opinions) == {*polar, *neutral, *ambiguous}
        assert sum(opinions[word] for word in polar) == pytest.approx(0.70)
        assert sum(opinions[word] for word in neutral) == pytest.approx(0.15)
        assert opinions[polar[0]] == pytest.approx(3 * opinions[polar[2]])  # Zipf


def test_slots_depend_on_their_parents_only() -> None:
    shapes = {slot: law.shape[:-1] for slot, law in review_law(DEFAULT).emissions.items()}
    assert shapes == {
        "A": (1, 1, 8, 1),
        "Z": (6, 1, 1, 1),
        "I": (1, 1, 1, 1),
        "V": (1, 1, 1, 2),
        "C": (1, 2, 1, 1),
        "F": (1, 1, 1, 1),
        "O": (6, 1, 1, 2),
        "W": (1, 1, 1, 2),
    }


def test_topic_nouns_are_own_or_common() -> None:
    nouns = word_law(review_law(DEFAULT), "Z", z=2)
    own, common = default_lexicon().lists["Z"][2], default_lexicon().lists["Z"][6]
    assert sum(nouns[word] for word in own) == pytest.approx(0.8)
    assert sum(nouns[word] for word in common) == pytest.approx(0.2)


def test_chatty_style_reverses_the_connectives() -> None:
    law = review_law(DEFAULT)
    terse, chatty = (list(word_law(law, "C", s=s).values()) for s in (0, 1))
    np.testing.assert_allclose(terse, chatty[::-1])
    assert terse[0] > terse[-1]


@pytest.mark.parametrize(("confounding", "information"), [(0, 0.0), (2, 0.167), (4, 0.361)])
def test_information_between_topic_and_treatment(confounding: float, information: float) -> None:
    law = review_law(replace(DEFAULT, confounding=confounding))
    joint_ZK = law.topic_Z[:, None] * np.stack([1 - law.treatment_Z, law.treatment_Z], axis=1)
    independent_ZK = joint_ZK.sum(axis=1, keepdims=True) * joint_ZK.sum(axis=0)
    assert np.sum(joint_ZK * np.log(joint_ZK / independent_ZK)) == pytest.approx(information, abs=6e-4)


def test_overlap_clips_the_chance_of_treatment() -> None:
    chance_Z = review_law(replace(DEFAULT, confounding=4.0, overlap=0.1)).treatment_Z
    assert (chance_Z.min(), chance_Z.max()) == (0.1, 0.9)


def test_treatment_acts_on_stopping_by_the_length_effect() -> None:
    stop_SK = review_law(replace(DEFAULT, length_effect=0.8)).stop_JSK[4]
    logit_SK = np.log(stop_SK / (1 - stop_SK))
    np.testing.assert_allclose(logit_SK[:, 0] - logit_SK[:, 1], 0.8)
    np.testing.assert_allclose(logit_SK.mean(axis=1), [np.log(0.3 / 0.7), np.log(0.15 / 0.85)])


# ------------------------------------------------------------------------------------------- sampling


@both_presets
def test_a_larger_corpus_extends_a_smaller_one(config: ScmConfig) -> None:
    small = sample_reviews(replace(config, num_train=1_500), "train")
    large = sample_reviews(replace(config, num_train=2_500), "train")
    assert large[:1_500] == small
    assert len(large) == 2_500


def test_any_name_is_a_stream_of_any_size() -> None:
    config = replace(DEFAULT, num_test=10)
    judge = sample_reviews(config, "judge", 1_100)
    assert len(judge) == 1_100
    assert sample_reviews(config, "judge", 30) == judge[:30]
    assert sample_reviews(config, "test") == sample_reviews(config, "test", 10)
    assert not {review.text for review in judge} & {review.text for review in sample_reviews(config, "test")}


def test_reviews_under_do_share_noise_and_topic_with_those_observed_but_not_the_treatment() -> None:
    observed, done = (sample_reviews(DEFAULT, "test_do", 6_000, sampling) for sampling in Sampling)
    assert [review.topic for review in done] == [review.topic for review in observed]
    for topic in TOPICS:
        assert_share(np.array([review.treatment for review in done if review.topic == topic]), 1 / 2)
    same = [a.treatment == b.treatment for a, b in zip(observed, done, strict=True)]
    assert 0.5 < np.mean(same) < 1
    assert [a == b for a, b in zip(observed, done, strict=True)] == same


@both_presets
@pytest.mark.parametrize("sampling", Sampling, ids=lambda sampling: sampling.name)
def test_twins_come_with_the_reviews_of_their_split(config: ScmConfig, sampling: Sampling) -> None:
    reviews, others = twins(config, "test", 300, sampling)
    assert reviews == sample_reviews(config, "test", 300, sampling)
    assert [twin.treatment for twin in others] == [1 - review.treatment for review in reviews]
    assert [twin.topic for twin in others] == [review.topic for review in reviews]
    assert all(len(parse(x.text)) == len(parse(y.text)) for x, y in zip(reviews, others, strict=True))
    assert np.mean([x.text != y.text for x, y in zip(reviews, others, strict=True)]) > 0.9


def test_the_first_review_never_changes() -> None:
    """Whoever breaks this changes every corpus: published figures must be measured again."""
    first = sample_reviews(DEFAULT, "train")[0]
    assert (first.text, first.treatment, first.topic) == (
        "this twist disappoints. the photography is gripping. a great harbor scene. "
        "overall, the climax is very underwhelming.",
        1,
        "documentary",
    )


def test_reviews_depend_on_seed_and_split() -> None:
    config = replace(DEFAULT, num_train=100, num_validation=100, num_test=100)
    corpora = [sample_reviews(config, split) for split in ("train", "validation", "test")]
    corpora.append(sample_reviews(replace(config, corpus_seed=1), "train"))
    texts = [review.text for corpus in corpora for review in corpus]
    assert len(set(texts)) == len(texts)
    assert sample_reviews(config, "train") == corpora[0]


@pytest.mark.parametrize(
    ("config", "tokens_S", "sentences_S"),
    [(TINY, (16.7, 27.3), None), (DEFAULT, (36.9, 56.7), (5.14, 6.85))],
    ids=["tiny", "default"],
)
def test_length_of_reviews(config: ScmConfig, tokens_S, sentences_S) -> None:
    law, _, records = sample(config)
    num_tokens_N = np.array([len(words) + 1 for words in spoken_words(law, records)])
    for s in (0, 1):
        num_tokens = num_tokens_N[records.style_N == s]
        standard_error = num_tokens.std() / np.sqrt(num_tokens.size)
        assert num_tokens.mean() == pytest.approx(tokens_S[s], abs=4 * standard_error + 0.05)
        if sentences_S:
            num_sentences = records.num_sentences_N[records.style_N == s]
            standard_error = num_sentences.std() / np.sqrt(num_sentences.size)
            assert num_sentences.mean() == pytest.approx(sentences_S[s], abs=4 * standard_error + 0.005)


@pytest.mark.parametrize(
    ("config", "tokens", "tokens_S"),
    [(TINY, 22.0, (16.7, 27.3)), (DEFAULT, 46.8, (36.9, 56.7))],
    ids=["tiny", "default"],
)
def test_expected_length_of_the_law(config: ScmConfig, tokens: float, tokens_S: tuple[float, float]) -> None:
    law = review_law(config)
    num_items_M = np.array([len(template) for template in law.templates])
    reached_JS = np.cumprod(1 - law.stop_JSK[:-1, :, 0], axis=0)
    reached_LS = np.concatenate([np.ones((1, 2)), reached_JS, np.ones((int(config.verdict), 2))])
    expected_S = (reached_LS * (law.template_LSM @ num_items_M)).sum(axis=0) + 1  # and the end marker
    np.testing.assert_allclose(expected_S, tokens_S, atol=0.05)
    assert expected_S.mean() == pytest.approx(tokens, abs=0.05)


@both_presets
def test_treatment_follows_the_topic_or_a_coin(config: ScmConfig) -> None:
    law, noise, observational = sample(config)
    do = sample_records(law, noise, Sampling.do)
    for z in range(6):
        assert_share(observational.topic_N == z, 1 / 6)
        assert_share(observational.treatment_N[observational.topic_N == z], law.treatment_Z[z])
        assert_share(do.treatment_N[do.topic_N == z], 1 / 2)


@both_presets
def test_events_follow_their_laws(config: ScmConfig) -> None:
    law, _, records = sample(config)
    spoken_NL = records.template_NL != SILENT
    for line in (0, 1):
        drama_N = spoken_NL[:, line] & (records.topic_N == 0)
        for a, probability in enumerate(law.aspect_ZA[0]):
            assert_share(records.aspect_NL[drama_N, line] == a, probability)
        chatty_N = spoken_NL[:, line] & (records.style_N == 1)
        for m, probability in enumerate(law.template_LSM[line, 1]):
            assert_share(records.template_NL[chatty_N, line] == m, probability)
    contradicts_NL = records.polarity_NL != records.treatment_N[:, None]
    assert_share(contradicts_NL[spoken_NL], config.noise)
    opinion_NL = records.word_NLP[..., SLOTS.index("O")]
    here_NL = (records.topic_N[:, None] == 3) & (records.polarity_NL == 1) & (opinion_NL != SILENT)
    for word, probability in word_law(law, "O", z=3, r=1).items():
        assert_share(opinion_NL[here_NL] == law.vocabulary.index(word), probability)


def test_without_effect_polarity_is_independent_of_treatment() -> None:
    _, _, records = sample(replace(TINY, effect=0.0))
    for k in (0, 1):
        polarity_NL = records.polarity_NL[records.treatment_N == k]
        assert_share(polarity_NL[polarity_NL != SILENT], 1 / 2)


@both_presets
def test_twins_differ_in_verbs_opinions_and_verdicts_only(config: ScmConfig) -> None:
    law, noise, records = sample(config)
    twins = sample_records(law, noise, 1 - records.treatment_N)
    for same in ("topic_N", "proxy_N", "style_N", "num_sentences_N", "aspect_NL", "template_NL"):
        np.testing.assert_array_equal(getattr(twins, same), getattr(records, same))
    spoken_NL = records.template_NL != SILENT
    np.testing.assert_array_equal(twins.polarity_NL[spoken_NL], 1 - records.polarity_NL[spoken_NL])
    changed_P = (twins.word_NLP != records.word_NLP).any(axis=(0, 1))
    assert {slot for slot, changed in zip(SLOTS, changed_P, strict=True) if changed} == {
        "V",
        "O",
        *"W" * config.verdict,
    }


@both_presets
def test_pairs_are_twins_of_a_stream_of_their_own(config: ScmConfig) -> None:
    config = replace(config, num_pairs=200, num_train=200)
    pairs = sample_pairs(config)
    negative, positive = pairs[::2], pairs[1::2]
    assert [review.treatment for review in pairs] == [0, 1] * 200
    assert [review.topic for review in negative] == [review.topic for review in positive]
    law = review_law(config)
    changeable = {
        law.vocabulary[v] for slot in "VOW" if slot in law.emissions
        for v in np.flatnonzero(law.emissions[slot].sum(axis=(0, 1, 2, 3)))
    }  # fmt: skip
    for one, other in zip(negative, positive, strict=True):
        words = list(zip(parse(one.text), parse(other.text), strict=True))
        assert {word for pair in words if pair[0] != pair[1] for word in pair} <= changeable
    assert sum(one.text != other.text for one, other in zip(negative, positive, strict=True)) > 150
    texts = {review.text for review in pairs}
    assert len(texts & {review.text for review in sample_reviews(config, "train")}) < 20
    assert sample_pairs(replace(config, num_pairs=50)) == pairs[:100]
    assert sample_pairs(replace(config, num_pairs=0)) == []


@pytest.mark.parametrize("confounding", [0.0, 2.0, 4.0])
def test_a_review_knows_the_chance_of_its_treatment_clipped(confounding: float) -> None:
    config = replace(DEFAULT, confounding=confounding, num_train=4_000)
    reviews = sample_reviews(config, "train")
    chance = dict(zip(TOPICS, review_law(config).treatment_Z, strict=True))
    for review in reviews:
        assert review.propensity == np.float32(np.clip(chance[review.topic], 0.05, 0.95))
    assert {review.propensity for review in reviews} == {0.5} or confounding > 0
    for topic in TOPICS if confounding <= 2 else ():
        treatments = np.array([review.treatment for review in reviews if review.topic == topic])
        assert_share(treatments == 1, chance[topic])


def test_twins_keep_the_rank_of_polar_words() -> None:
    law, noise, records = sample(DEFAULT)
    twins = sample_records(law, noise, 1 - records.treatment_N)
    for slot in ("V", "W"):
        words, twin_words = (x.word_NLP[..., SLOTS.index(slot)] for x in (records, twins))
        spoken = words != SILENT
        gap = len(default_lexicon().lists[slot][0])
        assert (np.abs(words[spoken] - twin_words[spoken]) == gap).all()


def test_a_length_effect_makes_positive_twins_longer_and_keeps_the_common_lines() -> None:
    law = review_law(replace(DEFAULT, length_effect=1.0))
    noise = draw_noise(law, seed=0, split="test", num_reviews=2_000)
    negative, positive = (sample_records(law, noise, np.full(2_000, k)) for k in (0, 1))
    assert (positive.num_sentences_N >= negative.num_sentences_N).all()
    assert (positive.num_sentences_N > negative.num_sentences_N).any()
    common_NL = (negative.template_NL != SILENT) & (positive.template_NL != SILENT)
    np.testing.assert_array_equal(negative.template_NL[common_NL], positive.template_NL[common_NL])
    np.testing.assert_array_equal(negative.template_NL[:, -1], positive.template_NL[:, -1])  # the verdict


def test_the_verdict_returns_to_the_aspect_that_the_first_sentence_names() -> None:
    law, _, records = sample(DEFAULT)
    noun_NL = records.word_NLP[..., SLOTS.index("A")]
    column = {law.vocabulary.index(w): a for a, words in enumerate(default_lexicon().lists["A"]) for w in words}
    assert [column[v] for v in noun_NL[:, 0]] == [column[v] for v in noun_NL[:, -1]]


# ----------------------------------------------------------------------------------------------- text


@both_presets
@pytest.mark.parametrize("verdict", [False, True])
def test_a_text_reads_back_as_its_words(config: ScmConfig, verdict: bool) -> None:
    law = review_law(replace(config, verdict=verdict))
    records = sample_records(law, draw_noise(law, 0, "test", 2_000))
    reviews = spoken_words(law, records)
    assert [parse(render(words)) for words in reviews] == reviews
    assert set(chain(*reviews)) <= set(law.vocabulary)


def test_rendering_by_hand() -> None:
    words = ["the", "plot", "is", "dull", ".", "overall", ",", "the", "cast", "is", "very", "touching", "."]
    assert render(words) == "the plot is dull. overall, the cast is very touching."


@both_presets
def test_a_text_has_one_sequence_of_events(config: ScmConfig) -> None:
    law = review_law(config)
    records = sample_records(law, draw_noise(law, 0, "test", 500))
    slot_of = {
        word: s for s, law_V in law.emissions.items() for word in np.array(law.vocabulary)[law_V.any((0, 1, 2, 3))]
    }
    events = {template: m for m, template in enumerate(law.templates)}
    assert len(events) == len(law.templates)
    for words, template_L in zip(spoken_words(law, records), records.template_NL, strict=True):
        items = " ".join(slot_of.get(word, word) for word in words)
        sentences = [tuple(f"{sentence} .".split()) for sentence in items.split(" .") if sentence]
        assert [events[sentence] for sentence in sentences] == template_L[template_L != SILENT].tolist()


def test_test_reviews_hardly_occur_in_train() -> None:
    seen = {review.text for review in sample_reviews(DEFAULT, "train")}
    test = sample_reviews(DEFAULT, "test")
    assert len(test) == 2_000
    assert np.mean([review.text in seen for review in test]) < 0.01


def test_the_prompt_names_topic_or_proxy_or_nothing() -> None:
    reviews = {topic: sample_reviews(replace(DEFAULT, topic=topic), "test") for topic in ScmTopic}
    law = review_law(DEFAULT)
    records = sample_records(law, draw_noise(law, DEFAULT.corpus_seed, "test", DEFAULT.num_test))
    assert {review.topic for review in reviews[ScmTopic.hidden]} == {None}
    assert [review.topic for review in reviews[ScmTopic.observed]] == [TOPICS[z] for z in records.topic_N]
    assert [review.topic for review in reviews[ScmTopic.proxy]] == [TOPICS[w] for w in records.proxy_N]
    assert [review.text for review in reviews[ScmTopic.proxy]] == [review.text for review in reviews[ScmTopic.hidden]]
    assert [review.treatment for review in reviews[ScmTopic.hidden]] == records.treatment_N.tolist()


def test_the_proxy_names_the_topic_with_its_accuracy_and_misses_evenly() -> None:
    _, _, records = sample(replace(DEFAULT, proxy_accuracy=0.6))
    assert_share(records.proxy_N == records.topic_N, 0.6)
    for w in range(1, 6):
        assert_share(records.proxy_N[records.topic_N == 0] == w, 0.08)
