"""Tokenizers: round trips, special tokens, word starts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_llm.data.tokenizer import MIN_BYTE_VOCAB, Tokenizer, words_of
from nano_llm.errors import DataError

TEXTS = ["the film was good and the plot was thin", "a good film, a thin plot. the cast was good"] * 4
BYTES = Tokenizer.fit_bytes(TEXTS, 300, split_words=True)
ACROSS = Tokenizer.fit_bytes(TEXTS, 300, split_words=False)
WORDS = Tokenizer.of_words(["the", "film", "is", "dull", "do", "not", "overall", ".", ","], 64)
SPECIALS = ["<pad>", "<bos>", "<eos>", "<unk>", "[SENTIMENT]", "[/SENTIMENT]", "[REVIEW]", "[/REVIEW]"]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives_bytes(text: str) -> None:
    for tokenizer in (BYTES, ACROSS):
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("tokenizer", [BYTES, WORDS])
def test_special_tokens_come_first(tokenizer: Tokenizer) -> None:
    assert [tokenizer.token(index) for index in range(8)] == SPECIALS
    assert (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id) == (0, 1, 2, 3)
    assert tokenizer.end_ids == (7, 2)


def test_markup_in_a_review_stays_text() -> None:
    text = "he said [REVIEW] and <eos> twice [/REVIEW]<pad>"
    ids = BYTES.encode(text)
    assert min(ids) >= len(SPECIALS)
    assert BYTES.decode(ids) == text
    assert list(BYTES.encode_reviews([text]).tokens_N) == ids


def test_markup_in_a_prompt_counts() -> None:
    ids = BYTES.encode_prompt("[SENTIMENT] positive [/SENTIMENT] [REVIEW]")
    assert ids[:2] == [1, 4]
    assert ids[-1] == 6
    assert BYTES.decode(ids, keep_special=True) == "<bos>[SENTIMENT] positive [/SENTIMENT] [REVIEW]"
    assert BYTES.decode(ids).strip() == "positive"


def test_a_byte_vocabulary_has_a_floor() -> None:
    assert Tokenizer.fit_bytes(TEXTS, MIN_BYTE_VOCAB, split_words=True).vocab_size == MIN_BYTE_VOCAB == 264
    with pytest.raises(DataError, match=r"vocab_size=263.*at least 264"):
        Tokenizer.fit_bytes(TEXTS, 263, split_words=True)


def test_many_texts_encode_like_each() -> None:
    texts = ["", "the film", "x" * 50, "", *TEXTS * 300]
    ragged = BYTES.encode_reviews(iter(texts))
    assert ragged.tokens_N.dtype == np.uint16
    assert len(ragged.offset_R1) == len(texts) + 1
    for row in (0, 1, 2, 3, 1500, len(texts) - 1):
        ids = ragged.tokens_N[ragged.offset_R1[row] : ragged.offset_R1[row + 1]]
        assert list(ids) == BYTES.encode(texts[row])
    assert len(BYTES.encode_reviews([]).tokens_N) == 0


def test_only_tokens_with_a_leading_space_and_special_ones_start_words() -> None:
    ids = BYTES.encode("good film")
    starts = [bool(BYTES.is_word_start_V[token]) for token in ids]
    text = [BYTES.decode([token]) for token in ids]
    assert starts == [piece.startswith(" ") for piece in text]
    assert any(starts)
    assert BYTES.is_word_start_V[:8].all()
    assert WORDS.is_word_start_V.all()


def test_bytes_of_tokens_add_up_to_the_text() -> None:
    for text in ("the film was good", "häßlich 🎬"):
        assert BYTES.num_bytes_V[BYTES.encode(text)].sum() == len(text.encode())
    assert not BYTES.num_bytes_V[[0, 1, 2, 4, 5, 6, 7]].any()


def test_words_join_by_one_space_with_stops_attached() -> None:
    text = "overall, the film is dull. do not film."
    ids = WORDS.encode(text)
    assert [WORDS.token(token) for token in ids] == words_of(text)
    assert WORDS.decode(ids) == text
    assert WORDS.encode("zoo") == [WORDS.unk_id]


def test_words_beyond_the_vocabulary_are_refused() -> None:
    with pytest.raises(DataError, match=r"vocab_size=20.*needs 38 tokens"):
        Tokenizer.of_words([f"w{index}" for index in range(30)], 20)


@pytest.mark.parametrize("tokenizer", [BYTES, ACROSS, WORDS])
def test_json_restores_the_tokenizer(tokenizer: Tokenizer) -> None:
    again = Tokenizer.from_json(tokenizer.to_json())
    assert again.to_json() == tokenizer.to_json()
    assert again.has_markers
    assert again.encode("the film [REVIEW]") == tokenizer.encode("the film [REVIEW]")
    assert again.decode(again.encode("the film is dull.")) == "the film is dull."


@pytest.mark.parametrize("text", ["", "{}", '{"version":"1.0"}', "not json"])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="tokenizer"):
        Tokenizer.from_json(text)


def test_the_references_tokenizer_has_no_markers_and_loses_unseen_bytes() -> None:
    samples = [f"<bos>[REVIEW] {text} [/REVIEW]<eos>" for text in TEXTS]
    tokenizer = Tokenizer.fit_reference(samples, 80, split_words=True)
    assert not tokenizer.has_markers
    assert tokenizer.encode_samples(["é"]).tokens_N.tolist() == [tokenizer.unk_id] * 2
    assert tokenizer.num_bytes_V[tokenizer.encode("é film")].sum() == len("é film".encode())


def test_fitting_is_repeatable() -> None:
    assert Tokenizer.fit_bytes(TEXTS, 300, split_words=True).to_json() == BYTES.to_json()
