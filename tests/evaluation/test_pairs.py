"""Minimal pairs, by hand and by the law of the structural corpus."""

import numpy as np
import pytest

from exact_models import LawModel, outcome_model, word_tokenizer
from nano_llm.data import scm
from nano_llm.evaluation.outcome_model import TokenScores
from nano_llm.evaluation.pairs import measure_pairs
from nano_llm.evaluation.posterior import RAW
from scm_presets import TINY


def scores(*texts: list[tuple[int, float]]) -> TokenScores:
    """Texts as (token, log-likelihood ratio)."""
    flat = [pair for text in texts for pair in text]
    llr_N = np.array([llr for _, llr in flat])
    return TokenScores(
        np.stack([np.zeros_like(llr_N), llr_N], axis=1),
        np.array([token for token, _ in flat]),
        np.cumsum([0, *map(len, texts)]),
    )


def test_a_pair_by_hand() -> None:
    """Tokens 1 and 3 are kept, 2 becomes 9: of the difference 4, the edit explains 3."""
    found = measure_pairs(scores([(1, 0.0), (2, -2.0), (3, 0.5)]), scores([(1, 0.5), (9, 1.0), (3, 1.0)]), RAW)
    assert found.rows["edited"].tolist() == [3.0]
    assert found.rows["unchanged"].tolist() == [1.0]
    assert found.figures["localisation"].value == 0.75
    assert found.figures["pair_order"].value == 1.0
    assert found.figures["pair_both_right"].value == 1.0


def test_order_may_be_right_where_both_sides_are_not() -> None:
    found = measure_pairs(scores([(1, 1.0)]), scores([(2, 2.0)]), RAW)
    assert found.figures["pair_order"].value == 1.0
    assert found.figures["pair_both_right"].value == 0.0


def test_equal_outcomes_tie_and_localise_nothing() -> None:
    found = measure_pairs(scores([(1, 0.0)]), scores([(2, 0.0)]), RAW)
    assert found.figures["pair_order"].value == 0.5
    assert "localisation" not in found.figures


def test_the_law_orders_twins_by_their_edited_words() -> None:
    """Twins without a word of opinion tie, so not all are in order."""
    pairs = zip(*scm.twins(TINY, "test_do", 60, scm.Sampling.do), strict=True)
    ordered = [sorted(pair, key=lambda review: review.treatment) for pair in pairs]
    tokenizer = word_tokenizer(TINY)
    model = outcome_model(LawModel(TINY, tokenizer), 2, tokenizer)
    negative, positive = ([pair[i] for pair in ordered] for i in (0, 1))
    found = measure_pairs(model.score(negative), model.score(positive), RAW).figures
    assert found["pair_order"].value > 0.85
    assert found["localisation"].value > 0.7
    exchanged = measure_pairs(model.score(positive), model.score(negative), RAW).figures
    assert exchanged["pair_order"].value == pytest.approx(1 - found["pair_order"].value)
