"""Tokenizers: round trips, special tokens, word starts."""

import json
import unicodedata
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import odd_json
from nano_llm.config.schema import Conditioning, PromptConfig
from nano_llm.data.clean import clean
from nano_llm.data.review import Review
from nano_llm.data.samples import format_samples
from nano_llm.data.template import Template
from nano_llm.data.tokenizer import MIN_BYTE_VOCAB, Tokenizer, words_of
from nano_llm.errors import DataError

TEXTS = ["the film was good and the plot was thin", "a good film, a thin plot. the cast was good"] * 4
BYTES = Tokenizer.fit_bytes(TEXTS, 300, split_words=True)
ACROSS = Tokenizer.fit_bytes(TEXTS, 300, split_words=False)
WORDS = Tokenizer.of_words(["the", "film", "is", "dull", "do", "not", "overall", ".", ","], 64)
SPECIALS = ["<pad>", "<bos>", "<eos>", "<unk>", "[SENTIMENT]", "[/SENTIMENT]", "[REVIEW]", "[/REVIEW]"]


PLANES = ["\0", "\x7f", "\u0301", "\ufffd", "\uffff", "\U0001f3ac", "\U0002ffff", "\U000e0001", "\U0010ffff"]
PARTS = st.sampled_from([*SPECIALS, *PLANES, " ", "the film", "<", "[REVIEW", "<|endoftext|>"])
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.lists(PARTS).map("".join)


@given(ANY_TEXT)
@example("".join(chr(code) for code in range(0x3000) if not 0xD800 <= code < 0xE000))
def test_any_text_survives_bytes(text: str) -> None:
    for tokenizer in (BYTES, ACROSS):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert all(len(SPECIALS) <= index < tokenizer.vocab_size for index in ids)
        assert b"".join(tokenizer.bytes_V[index] for index in ids) == text.encode()
        assert tokenizer.num_bytes_V[ids].sum() == len(text.encode())


@given(st.binary())
def test_any_bytes_survive_as_the_text_that_they_read_as(content: bytes) -> None:
    text = content.decode(errors="replace")
    assert BYTES.decode(BYTES.encode(text)) == text


def test_every_character_of_every_plane_survives() -> None:
    for first in range(0, 0x110000, 0x1000):
        text = "".join(map(chr, range(first, first + 0x1000))).encode(errors="ignore").decode()
        assert BYTES.decode(BYTES.encode(text)) == text


def test_ten_megabytes_are_one_review() -> None:
    text = "the film was good " * 560_000
    ragged = BYTES.encode_reviews([text])
    assert BYTES.num_bytes_V[ragged.tokens_N].sum() == len(text) > 10_000_000
    assert len(ragged.length_R) == 1


@given(st.lists(ANY_TEXT, max_size=4), st.sampled_from([Conditioning.tags, Conditioning.natural, Conditioning.command]))
def test_a_review_cannot_forge_a_prompt_or_an_end(texts: list[str], conditioning: Conditioning) -> None:
    """Under the fair protocol a sample has its prompt's markers, its own two at the end, and none between."""
    prompts = PromptConfig("Be NEGATIVE", "Be POSITIVE", "Write:")
    template = Template(conditioning, prompts)
    reviews = [Review(text, row % 2) for row, text in enumerate(texts)]
    samples = format_samples(reviews, template, BYTES)
    for row, review in enumerate(reviews):
        ids = samples.tokens_N[samples.offset_R1[row] : samples.offset_R1[row + 1]].tolist()
        b = int(samples.prompt_length_R[row])
        assert ids[:b] == BYTES.encode_prompt(template.prompt_of(review))
        assert tuple(ids[-2:]) == BYTES.end_ids
        assert min(ids[b:-2], default=len(SPECIALS)) >= len(SPECIALS)
        assert BYTES.decode(ids[b:-2]) == review.text


@given(ANY_TEXT)
def test_under_the_references_protocol_only_text_in_angle_brackets_can_be_markup(text: str) -> None:
    """As in the reference, whose tokens in a review count as such; cleaning takes them out, but for wide brackets."""
    reference = Tokenizer.fit_reference(["".join(map(chr, range(256)))], 512, split_words=True)
    cleaned = clean(text)
    ids = reference.encode_samples([cleaned]).tokens_N.tolist()
    forged = {reference.pad_id, reference.bos_id, reference.eos_id} & set(ids)
    assert not forged or any(token in cleaned for token in ("<pad>", "<bos>", "<eos>"))
    if "<" not in unicodedata.normalize("NFKC", text):
        assert not forged


changed_words = odd_json.changed(json.loads(WORDS.to_json()))
changed_bytes = odd_json.changed(json.loads(BYTES.to_json()))


@given(changed_words | changed_bytes | odd_json.values)
@example({**json.loads(WORDS.to_json()), "model": {"type": "WordLevel", "unk_token": "<unk>", "vocab": {"a": 2**31}}})
def test_a_changed_tokenizer_is_one_that_works_or_is_refused(document: Any) -> None:
    """An id of two thousand million would be that many entries to the library."""
    try:
        tokenizer = Tokenizer.from_json(json.dumps(document))
    except DataError as error:
        str(error).encode()
        return
    for text in ("the film is dull.", "zoo \0\U0010ffff [REVIEW]"):
        ids = tokenizer.encode(text)
        assert all(0 <= index < tokenizer.vocab_size for index in ids)
        tokenizer.decode(tokenizer.encode_prompt(text), keep_special=True)
    assert len(tokenizer.bytes_V) == len(tokenizer.num_bytes_V) == len(tokenizer.is_word_start_V)


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
