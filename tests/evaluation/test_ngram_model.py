"""The byte n-gram judge: by hand, by a dictionary, and as a law that sums to one."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from nano_llm.errors import DataError
from nano_llm.evaluation.ngram_model import END, NUM_SYMBOLS, START, ByteNgram

TEXTS = ["a dull film", "a fine film", "", "the film is a film, naïve and dull", "a", "aaaaaaaa"]
ORDERS = range(1, 8)


def dictionary_law(texts: list[str], order: int, context: bytes) -> np.ndarray:
    """Witten-Bell interpolation as the formula reads, with counts in a dictionary."""
    counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for text in texts:
        symbols = [START] * (order - 1) + list(text.encode()) + [END]
        for place in range(order - 1, len(symbols)):
            for length in range(order):
                counts[tuple(symbols[place - length : place])][symbols[place]] += 1
    history = ([START] * order + list(context))[-order:]
    law = np.full(NUM_SYMBOLS, 1 / NUM_SYMBOLS)
    for length in range(order):
        after = counts.get(tuple(history[order - length :]))
        if after:
            seen = np.array([after[symbol] for symbol in range(NUM_SYMBOLS)])
            law = (seen + len(after) * law) / (seen.sum() + len(after))
    return law


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("context", [b"", b"a", b"a dull fil", b"film", b"never seen", "ï".encode()[:1], b"\x00\xff"])
def test_the_law_is_the_formula_and_sums_to_one(order: int, context: bytes) -> None:
    law = ByteNgram.fit(TEXTS, order).probabilities(context)
    assert law.shape == (257,)
    assert law.sum() == pytest.approx(1, abs=1e-12)
    assert (law > 0).all()
    np.testing.assert_allclose(law, dictionary_law(TEXTS, order, context), rtol=1e-12)


def test_a_bigram_by_hand() -> None:
    """Fitted to "ab": a, b and the end once each, and each context has one successor, seen once."""
    uniform = 1 / 257
    unigram = (1 + 3 * uniform) / (3 + 3)
    bits, num_bytes = ByteNgram.fit(["ab"], order=2).bits(["ab", "b"])
    seen = (1 + 1 * unigram) / (1 + 1)  # P(a | start) = P(b | a) = P(end | b)
    missed = (0 + 1 * unigram) / (1 + 1)  # P(b | start)
    assert bits == pytest.approx([-3 * math.log2(seen), -math.log2(missed) - math.log2(seen)])
    assert num_bytes.tolist() == [2, 1]


@pytest.mark.parametrize("order", ORDERS)
def test_a_text_costs_what_its_symbols_cost_in_turn(order: int) -> None:
    model = ByteNgram.fit(TEXTS, order)
    for text in ["a dull film", "naïve", "", "zoo 🎬"]:
        symbols = text.encode()
        laws = [model.probabilities(symbols[:place]) for place in range(len(symbols) + 1)]
        chain = -sum(math.log2(law[symbol]) for law, symbol in zip(laws, [*symbols, END], strict=True))
        bits, num_bytes = model.bits([text])
        assert bits == pytest.approx([chain])
        assert num_bytes == [len(symbols)]


def test_texts_do_not_see_each_other() -> None:
    model = ByteNgram.fit(TEXTS, 6)
    together = model.bits(TEXTS)[0]
    assert together == pytest.approx([model.bits([text])[0][0] for text in TEXTS])
    assert ByteNgram.fit(TEXTS[::-1], 6).bits(TEXTS)[0] == pytest.approx(together)


def test_the_end_of_a_text_that_was_cut_is_free() -> None:
    model = ByteNgram.fit(TEXTS, 4)
    whole, cut = model.bits(["a film", "", "a film"], [True, False, False])[0][[0, 2]]
    assert whole - cut == pytest.approx(-math.log2(model.probabilities(b"a film")[END]))
    assert model.bits([""], [False])[0] == [0.0]


def test_bytes_never_seen_cost_a_finite_number_of_bits() -> None:
    bits, num_bytes = ByteNgram.fit(["abc"], 6).bits(["\x00\x7fzz", "日本"])
    assert np.isfinite(bits).all()
    assert (bits / num_bytes > 8).all()


def test_no_texts_cost_nothing() -> None:
    bits, num_bytes = ByteNgram.fit(TEXTS, 3).bits([])
    assert (len(bits), len(num_bytes)) == (0, 0)


@pytest.mark.parametrize("order", [0, 8])
def test_an_order_that_does_not_fit_is_refused(order: int) -> None:
    with pytest.raises(DataError, match="1 to 7"):
        ByteNgram.fit(TEXTS, order)


def test_a_model_of_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="needs texts"):
        ByteNgram.fit([])
