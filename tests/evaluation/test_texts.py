"""Figures of texts: by hand, and on texts whose figure is known."""

import gzip
import math
import random

import numpy as np
import pytest

from nano_llm.errors import DataError
from nano_llm.evaluation.bootstrap import statistic_interval
from nano_llm.evaluation.texts import (
    compression_ratio,
    distinct_n,
    num_words,
    self_bleu,
    seq_rep_4,
    two_sample_auc,
    two_sample_scores,
    words,
)

VOCABULARY = [f"word{index}" for index in range(60)]


def random_texts(num_texts: int, seed: int, weights: list[float] | None = None) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(generator.choices(VOCABULARY, weights, k=30)) for _ in range(num_texts)]


def test_words_are_those_of_the_judges() -> None:
    text = "It's GREAT!<br />Isn't it? a 10/10, 'naïve'..."
    assert words(text) == ["it's", "great", "!", "isn't", "it", "?", "a", "10", "10", "naïve"]
    assert num_words([text, "", " . "]).tolist() == [10, 0, 0]


def test_distinct_n_by_hand() -> None:
    """Blocks of four words: "a b a b" and "c c | d d", whose bar parts two texts; "e" is left over."""
    texts = ["a b a b c c", "d d e"]
    assert distinct_n(texts, 1, 4).tolist() == [2 / 4, 2 / 4]
    assert distinct_n(texts, 2, 4).tolist() == [2 / 3, 2 / 2]
    assert distinct_n(texts, 3, 4).tolist() == [2 / 2, 1.0]


def test_distinct_n_compares_blocks_of_one_size() -> None:
    """More texts of one source have fewer distinct words a word, but not at a fixed number of words."""
    few, many = random_texts(20, seed=0), random_texts(2000, seed=1)
    assert distinct_n(many, 1, 60_000)[0] < 0.01 < distinct_n(few, 1, 600)[0]
    blocks = distinct_n(many, 1, 600)
    assert len(blocks) == 100
    assert distinct_n(few, 1, 600)[0] == pytest.approx(blocks.mean(), abs=4 * blocks.std() + 1e-3)


def test_distinct_n_does_not_depend_on_where_texts_are_cut_into_blocks() -> None:
    texts = ["a b c", "", "d e", "f g h i j"]
    assert distinct_n(texts, 1, 10).tolist() == [1.0]
    assert distinct_n(texts, 1, 5).tolist() == [1.0, 1.0]
    with pytest.raises(DataError, match="4 texts have 10 words"):
        distinct_n(texts, 1, 11)


def test_repetition_within_a_text_by_hand() -> None:
    """Of the five 4-grams of "a b a b a b a b" two are distinct; texts do not repeat each other."""
    texts = ["a b a b a b a b", "a b c d e", "a b c d e", "a b c", ""]
    assert seq_rep_4(texts).tolist() == pytest.approx([1 - 2 / 5, 0, 0, 0, 0])


def test_compression_is_that_of_gzip_on_blocks_of_one_size() -> None:
    texts = random_texts(40, seed=0)
    raw = "\n".join(texts).encode()
    ratios = compression_ratio(texts, 1000)
    assert len(ratios) == len(raw) // 1000
    assert ratios[1] == 1000 / len(gzip.compress(raw[1000:2000]))
    assert compression_ratio(["the same film"] * 200, 1000)[0] > 10 > ratios.max()
    with pytest.raises(DataError, match="40 texts"):
        compression_ratio(texts, len(raw) + 1)
    assert len(compression_ratio(texts, len(raw))) == 1


def test_self_bleu_by_hand() -> None:
    """Sentence 1 against the others: 4 of 5 words ("a" twice in one reference), 2 of 4, 1 of 3, 0 of 2 n-grams."""
    texts = ["a b c a x", "a b c d a", "y z"]
    expected = math.exp(sum(math.log(p) for p in (4 / 5, 2 / 4, 1 / 3, 0.1 / 2)) / 4)
    assert self_bleu(texts)[0] == pytest.approx(expected)


def test_self_bleu_clips_by_the_most_that_one_other_text_has() -> None:
    """ "a a a" meets "a" once in each of two others: one hit, not two and not its own three."""
    texts = ["a a a", "a b c", "a d e"]
    expected = math.exp((math.log(1 / 3) + math.log(0.1 / 2) + math.log(0.1 / 1) + math.log(0.1)) / 4)
    assert self_bleu(texts)[0] == pytest.approx(expected)


def test_self_bleu_punishes_texts_shorter_than_all_others() -> None:
    """Four words in a text of eight: every n-gram hits, brevity exp(1 - 8 / 4)."""
    assert self_bleu(["a b c d", "a b c d e f g h"])[0] == pytest.approx(math.exp(-1))


def test_the_nearest_reference_decides_the_brevity() -> None:
    """Lengths 3 and 5 are as near to 4: the shorter one counts, so no penalty; 5 alone is a penalty."""
    both = self_bleu(["a b c d", "x y z", "a b c d e"])[0]
    assert both == pytest.approx(1.0)
    assert self_bleu(["a b c d", "a b c d e"])[0] == pytest.approx(math.exp(1 - 5 / 4))


def test_copies_have_a_self_bleu_of_one_and_strangers_nearly_none() -> None:
    assert self_bleu(["a fine film it is"] * 3) == pytest.approx(np.ones(3))
    strangers = [" ".join(f"w{text}x{place}" for place in range(20)) for text in range(5)]
    assert self_bleu(strangers).max() < 0.02
    assert self_bleu(["", "a b"])[0] == 0.0


def test_self_bleu_takes_a_sample_by_its_seed() -> None:
    texts = random_texts(50, seed=0)
    once = self_bleu(texts, num_texts=10, seed=1)
    assert len(once) == 10
    assert self_bleu(texts, num_texts=10, seed=1).tolist() == once.tolist()
    assert self_bleu(texts, num_texts=10, seed=2).tolist() != once.tolist()
    assert len(self_bleu(texts)) == 50
    with pytest.raises(DataError, match="given 1"):
        self_bleu(["a"])


def test_two_samples_of_one_source_cannot_be_told_apart() -> None:
    scores = two_sample_scores(random_texts(150, 0), random_texts(150, 1))
    interval = statistic_interval(scores, two_sample_auc)
    assert interval.low < 0.5 < interval.high
    assert interval.value == pytest.approx(0.5, abs=0.12)


def test_two_samples_of_different_sources_are_told_apart_the_better_the_more_they_differ() -> None:
    real = random_texts(100, 0)
    auc = []
    for tilt in (0.0, 0.02, 0.2):
        generated = random_texts(100, 1, [math.exp(tilt * index) for index in range(60)])
        auc.append(two_sample_auc(*two_sample_scores(real, generated)))
    assert auc[0] < 0.65 < auc[1] < 0.999
    assert auc[2] > 0.999


def test_scores_come_from_judges_that_did_not_see_the_text() -> None:
    """By its pairs of words a judge knows each text that it has seen; of these the others tell it nothing."""
    texts = random_texts(100, 0)
    is_generated, score = two_sample_scores(texts[:50], texts[50:])
    assert is_generated.tolist() == [False] * 50 + [True] * 50
    assert 0.2 < two_sample_auc(is_generated, score) < 0.8


def test_the_auc_counts_ties_as_halves() -> None:
    labels = np.array([False, False, True, True])
    assert two_sample_auc(labels, np.array([0.0, 1.0, 1.0, 2.0])) == pytest.approx((2 + 1.5) / 4)
    assert math.isnan(two_sample_auc(labels[:2], np.zeros(2)))


def test_samples_too_small_to_judge_are_refused() -> None:
    with pytest.raises(DataError, match="given 4 real"):
        two_sample_scores(["a"] * 4, ["a"] * 9)
    with pytest.raises(DataError, match="no word"):
        two_sample_scores([""] * 5, [""] * 5)
