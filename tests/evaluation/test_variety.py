"""Variety of texts that the law writes, beside real ones; block sizes; figures that cannot be had."""

import numpy as np
import pytest
from law_texts import law_sample, reviews_under_do, sample_of

from nano_llm.evaluation.copying import copy_rate
from nano_llm.evaluation.measured import Measured
from nano_llm.evaluation.text_sample import TextSample, match_lengths
from nano_llm.evaluation.texts import distinct_n, self_bleu
from nano_llm.evaluation.variety import measure_variety
from scm_presets import DEFAULT

NUM = 80
REAL = [review for k in (0, 1) for review in reviews_under_do(DEFAULT, NUM, k, "held out")]
TRAINING = [review.text for review in reviews_under_do(DEFAULT, 300, 0, "train")]
COMPARED = ("num_words", "distinct_1", "distinct_2", "distinct_3", "self_bleu", "seq_rep_4", "compression_ratio",
            "copy_rate")  # fmt: skip


def measure(generated: TextSample) -> Measured:
    return measure_variety(*match_lengths(generated, REAL), TRAINING)


@pytest.fixture(scope="module")
def perfect() -> Measured:
    return measure(law_sample(DEFAULT, NUM))


@pytest.mark.parametrize("name", COMPARED)
def test_texts_of_the_law_are_as_varied_as_real_ones(perfect: Measured, name: str) -> None:
    written, real = perfect.figures[name], perfect.figures[f"{name}_real"]
    width = (written.high - written.low + real.high - real.low) / 2
    assert width > 0
    assert written.value == pytest.approx(real.value, abs=1.5 * width)


def test_texts_of_the_law_cannot_be_told_from_real_ones(perfect: Measured) -> None:
    auc = perfect.figures["two_sample_auc"]
    assert auc.low < 0.5 < auc.high
    assert auc.n == 4 * NUM


def test_figures_are_those_of_the_texts_in_the_rows(perfect: Measured) -> None:
    rows = perfect.rows
    cut = np.array([text[:num_chars] for text, num_chars in zip(rows.text, rows.num_chars, strict=True)])
    written, real = cut[rows.source == "generated"].tolist(), cut[rows.source == "real"].tolist()
    assert perfect.figures["self_bleu_real"].value == pytest.approx(self_bleu(real).mean())
    assert perfect.figures["copy_rate"].value == pytest.approx(copy_rate(written, TRAINING).mean())
    assert perfect.figures["num_words"].value == pytest.approx(rows.num_words[rows.source == "generated"].mean())
    blocks = distinct_n(written, 2, perfect.details["block_words"])
    assert perfect.figures["distinct_2"].value == pytest.approx(blocks.mean())
    assert perfect.figures["distinct_2"].n == len(blocks)


def test_a_model_that_says_one_thing_is_found_out(perfect: Measured) -> None:
    one = measure(sample_of([TRAINING[0]] * NUM + [TRAINING[1]] * NUM)).figures
    assert one["self_bleu"].value > 0.99  # some are cut
    assert one["copy_rate"].value == 1.0
    assert one["distinct_3"].value < 0.2 < one["distinct_3_real"].value
    assert one["compression_ratio"].low > one["compression_ratio_real"].high
    assert one["two_sample_auc"].value > 0.99


def test_blocks_are_as_large_as_both_samples_fill_often_enough(perfect: Measured) -> None:
    """Some 160 texts of 40 words: five blocks of 1,000 words, not of 2,000."""
    assert perfect.details["block_words"] == 1000
    few = measure(sample_of(["a dull film"] * 10))
    assert few.details["block_words"] is None
    assert not [name for name in few.figures if name.startswith(("distinct", "compression"))]
    assert few.figures["num_words"].value == 3


def test_samples_that_teach_a_classifier_nothing_have_no_auc() -> None:
    empty = measure(sample_of([""] * 20))
    assert "two_sample_auc" not in empty.figures
    assert empty.figures["num_words"].value == 0
    assert empty.figures["copy_rate_real"].value == 0
