"""Effects and leakage of texts that the law writes, and of texts with a known fault."""

from dataclasses import replace

import numpy as np
import pytest
from law_texts import law_sample, reviews_under_do, sample_of

from nano_llm.config.schema import ScmConfig, ScmTopic
from nano_llm.data import scm
from nano_llm.data.scm_lexicon import default_lexicon, tiny_lexicon
from nano_llm.evaluation.bootstrap import Interval
from nano_llm.evaluation.effects import leakage, measure_effects, read_features, true_effects
from nano_llm.evaluation.measured import Measured, absolute
from nano_llm.evaluation.text_sample import TextSample
from scm_presets import DEFAULT, TINY

NUM = 300
LONGER = replace(TINY, length_effect=1.5)
LAW = scm.review_law(DEFAULT)
FEATURES = ("topic", "aspect", "template")


@pytest.fixture(scope="module")
def perfect() -> Measured:
    return measure_effects(LAW, law_sample(DEFAULT, NUM))


def write(*reviews: list[scm.Review]) -> TextSample:
    return sample_of([review.text for half in reviews for review in half])


# ------------------------------------------------------------------------------------------ features


@pytest.mark.parametrize(("config", "lexicon"), [(DEFAULT, default_lexicon()), (TINY, tiny_lexicon())])
def test_features_are_counts_of_the_words_of_the_lists(config: ScmConfig, lexicon) -> None:
    law = scm.review_law(config)
    texts = [review.text for review in scm.sample_reviews(config, "test", 100)]
    features = read_features(law, texts)
    praise = {word for slot in ("O", "V", "W") for word in lexicon.lists[slot][1]}
    for n, text in enumerate(texts):
        words = text.replace(".", "").replace(",", "").split()
        assert features.num_words_N[n] == len(words)
        assert features.num_sentences_N[n] == text.count(".")
        assert features.num_positive_N[n] == sum(word in praise for word in words)
        for counts, lists in (
            (features.topic_NZ[n], lexicon.lists["Z"][:6]),
            (features.aspect_NA[n], lexicon.lists["A"]),
        ):
            assert counts.tolist() == [sum(word in own for word in words) for own in lists]


def test_every_sentence_of_the_law_is_of_the_template_that_made_it() -> None:
    records = scm.sample_records(LAW, scm.draw_noise(LAW, 3, "any", 50))
    texts = [scm.render(words) for words in scm.spoken_words(LAW, records)]
    expected = [np.bincount(row[row >= 0], minlength=len(LAW.templates) + 1) for row in records.template_NL]
    assert read_features(LAW, texts).template_NU.tolist() == np.array(expected).tolist()


def test_what_the_law_cannot_write_is_read_too() -> None:
    """Four words of no template, a sentence that was cut, two unknown words; then nothing."""
    features = read_features(LAW, ["the the brilliant zebra. the plot", ""])
    assert features.num_words_N.tolist() == [6, 0]
    assert features.num_sentences_N.tolist() == [2, 0]
    assert features.num_positive_N.tolist() == [1, 0]
    assert features.positive_N.tolist() == [0.5, 0.0]
    assert features.template_NU[:, -1].tolist() == [2, 0]
    assert features.template_NU.sum() == 2
    assert features.aspect_NA.sum(axis=1).tolist() == [1, 0]


# -------------------------------------------------------------------------------------------- truth


def test_true_effects_are_those_of_texts_read() -> None:
    """By another path: draws of the law rendered, read back and averaged."""
    law = scm.review_law(LONGER)
    halves = [read_features(law, [r.text for r in reviews_under_do(LONGER, 3000, k, f"do {k}")]) for k in (0, 1)]
    for name, values in {"length": [h.num_words_N for h in halves], "positive": [h.positive_N for h in halves]}.items():
        estimate = values[1].mean() - values[0].mean()
        error = np.sqrt(sum(value.var() / 3000 for value in values))
        truth = true_effects(law)[name]
        assert truth.value == pytest.approx(estimate, abs=4 * error)
        assert truth.standard_error < error / 5


def test_without_an_arrow_to_length_the_effect_on_it_is_exactly_none() -> None:
    assert true_effects(LAW)["length"].value == 0
    assert true_effects(scm.review_law(LONGER))["length"].value > 5


def test_effect_on_praise_is_what_the_noise_of_a_sentence_leaves() -> None:
    """Half of the sentences with an opinion say it by a verb: (1 - 2 eps) x shares of templates, by hand for tiny.

    Every template but "this A V ." has one opinion word, of which .7 are polar; that one has a verb, always polar.
    """
    law = scm.review_law(TINY)
    verb_S = np.array([0.35, 0.10])
    per_sentence_S = verb_S + 0.7 * (1 - verb_S)
    expected = (1 - 2 * TINY.noise) * per_sentence_S.mean()
    truth = true_effects(law)["positive"]
    assert truth.value == pytest.approx(expected, abs=5 * truth.standard_error)


# ------------------------------------------------------------------------------------ texts of the law


def test_texts_of_the_law_have_its_effects(perfect: Measured) -> None:
    for name in ("length", "positive"):
        assert perfect.figures[f"ate_error_{name}"].low == 0
        assert perfect.figures[f"ate_error_{name}"].n == NUM
    assert perfect.figures["ate_error_positive"].high < 0.15
    assert perfect.details["effect_on_positive"]["law"] > 0.3


@pytest.mark.parametrize("feature", FEATURES)
def test_texts_of_the_law_leak_nothing(perfect: Measured, feature: str) -> None:
    interval = perfect.figures[f"null_leakage_{feature}"]
    assert interval.low <= 0 <= interval.high
    assert abs(interval.value) < 0.05


def test_leakage_of_the_law_is_nothing_on_average_and_intervals_hold_it() -> None:
    """Thirty pairs of samples of one source: mean 0, and 0 in about 95 % of the intervals."""
    found = []
    for seed in range(30):
        features = read_features(LAW, law_sample(DEFAULT, 60, seed).texts)
        found.append(leakage(*np.split(features.aspect_NA, 2)))
    values = np.array([interval.value for interval in found])
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(30)
    assert sum(interval.low <= 0 <= interval.high for interval in found) >= 25


def test_swapped_outcomes_turn_effects_over(perfect: Measured) -> None:
    swapped = measure_effects(LAW, law_sample(DEFAULT, NUM, outcomes=(1, 0)))
    truth = true_effects(LAW)["positive"].value
    assert swapped.figures["ate_error_positive"].value == pytest.approx(2 * truth, abs=0.1)
    assert swapped.figures["ate_error_positive"].low > truth


def test_outcomes_without_effect_miss_all_of_it() -> None:
    same = measure_effects(LAW, law_sample(DEFAULT, NUM, outcomes=(1, 1)))
    truth = true_effects(LAW)["positive"].value
    assert same.figures["ate_error_positive"].value == pytest.approx(truth, abs=0.1)
    assert same.figures["ate_error_length"].low == 0


def test_a_model_of_what_is_observed_leaks_the_topic() -> None:
    """With the topic hidden, what goes with a label as observed is what it must not cause."""
    hidden = replace(DEFAULT, topic=ScmTopic.hidden, confounding=4.0)
    reviews = scm.sample_reviews(hidden, "test", 4 * NUM)
    observed = [[review for review in reviews if review.treatment == k][:NUM] for k in (0, 1)]
    figures = measure_effects(scm.review_law(hidden), write(*observed)).figures
    topics = [read_features(LAW, [review.text for review in half]).topic_NZ.sum(axis=0) for half in observed]
    distance = np.abs(topics[0] / topics[0].sum() - topics[1] / topics[1].sum()).sum() / 2
    assert figures["null_leakage_topic"].low > 0.2
    assert distance - 0.15 < figures["null_leakage_topic"].value < distance
    assert figures["null_leakage_aspect"].low > 0
    assert figures["null_leakage_template"].low <= 0


def test_a_style_that_follows_the_treatment_leaks_into_templates() -> None:
    law = replace(LAW, style_S=np.array([1.0, 0.0]))
    chatty = replace(LAW, style_S=np.array([0.0, 1.0]))
    noise = [scm.draw_noise(LAW, 5, name, NUM) for name in ("one", "other")]
    halves = [
        scm.to_reviews(LAW, scm.sample_records(own, noise[k], np.full(NUM, k))) for k, own in enumerate((law, chatty))
    ]
    figures = measure_effects(LAW, write(*halves)).figures
    assert figures["null_leakage_template"].low > 0.2
    assert figures["ate_error_length"].low > 10


def test_templates_are_not_compared_where_the_treatment_acts_on_length() -> None:
    measured = measure_effects(scm.review_law(LONGER), law_sample(LONGER, 100))
    assert "null_leakage_template" not in measured.figures
    assert "null_leakage_aspect" in measured.figures


def test_prompts_that_ask_for_the_same_topic_are_no_leak() -> None:
    """Both texts of a prompt speak of its topic only; chance swaps within prompts, so nothing is expected of it."""
    topics_RX = np.eye(6, dtype=np.int64)[np.arange(60) % 6] * 3
    assert leakage(topics_RX, topics_RX).value == 0
    assert leakage(topics_RX, np.roll(topics_RX, 1, axis=0)[:, ::-1]).value <= 0.2


def test_complete_leakage_is_nearly_one() -> None:
    found = leakage(np.tile([[2, 0]], (400, 1)), np.tile([[0, 2]], (400, 1)))
    assert found.value == pytest.approx(1 - np.sqrt(2 / np.pi / 400), abs=0.01)


def test_silent_texts_have_no_leakage() -> None:
    measured = measure_effects(LAW, write([scm.Review("", 0)] * 5, [scm.Review("", 1)] * 5))
    assert not [name for name in measured.figures if name.startswith("null")]
    assert measured.figures["ate_error_length"].value == 0


def test_absolute_interval_starts_at_nought_if_the_signed_one_holds_it() -> None:
    assert absolute(Interval(-1.0, -3.0, 2.0, 9, 9)) == Interval(1.0, 0.0, 3.0, 9, 9)
    assert absolute(Interval(-2.0, -3.0, -1.0, 9, 9)) == Interval(2.0, 1.0, 3.0, 9, 9)
    assert absolute(Interval(2.0, 1.0, 3.0, 9, 9)) == Interval(2.0, 1.0, 3.0, 9, 9)
