"""Bits a byte by outcome, by hand."""

import numpy as np
import pytest

from nano_llm.evaluation.heads import measure_heads
from nano_llm.evaluation.outcome_model import TokenScores

SCORES = TokenScores(
    -np.log(2) * np.array([[2.0, 4.0], [1.0, 3.0], [5.0, 2.0]]), np.zeros(3, np.int64), np.array([0, 2, 3])
)
"""A negative review of two tokens (3 bits under Y0, 7 under Y1) and a positive one of one token (5 and 2)."""
BYTES, LABELS, HALF = np.array([4, 1]), np.array([0, 1]), np.array([0.5, 0.5])


def test_each_review_counts_under_its_own_head() -> None:
    figures = measure_heads(SCORES, BYTES, LABELS, HALF, None).figures
    assert figures["bpb"].value == pytest.approx(5 / 5)
    assert figures["bpb_y0"].value == pytest.approx(3 / 4)
    assert figures["bpb_y1"].value == pytest.approx(2 / 1)
    assert figures["bpb_other"].value == pytest.approx(12 / 5)


def test_the_mixture_pays_for_the_label_by_at_most_a_bit_a_review() -> None:
    figures = measure_heads(SCORES, BYTES, LABELS, HALF, None).figures
    bits = -np.log2([2.0**-3 / 2 + 2.0**-7 / 2, 2.0**-5 / 2 + 2.0**-2 / 2])
    assert figures["bpb_mixture"].value == pytest.approx(bits.sum() / 5)
    assert figures["bpb_mixture"].value - figures["bpb"].value <= 2 / 5


def test_one_outcome_has_one_figure() -> None:
    one = TokenScores(SCORES.log_p_NK[:, :1], SCORES.tokens_N, SCORES.offset_R1)
    assert set(measure_heads(one, BYTES, LABELS, HALF, None).figures) == {"bpb"}


def test_movies_are_drawn_whole() -> None:
    figures = measure_heads(SCORES, BYTES, LABELS, HALF, np.array(["tt1", "tt1"])).figures
    assert figures["bpb"].num_clusters == 1


def test_a_label_without_reviews_has_no_figure_of_its_own() -> None:
    figures = measure_heads(SCORES, BYTES, np.array([1, 1]), HALF, None).figures
    assert set(figures) == {"bpb", "bpb_y1", "bpb_other", "bpb_mixture"}
    assert figures["bpb"].value == figures["bpb_y1"].value == pytest.approx((7 + 2) / 5)


def test_one_outcome_needs_no_prior() -> None:
    one = TokenScores(SCORES.log_p_NK[:, :1], SCORES.tokens_N, SCORES.offset_R1)
    assert measure_heads(one, BYTES, LABELS, None, None).figures["bpb"].value == pytest.approx((3 + 5) / 5)
