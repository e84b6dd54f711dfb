"""What may be drawn and what ends a text, under each form of markup."""

import numpy as np
import pytest

from nano_llm.data.template import MARKERS, SPECIALS
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.generation.vocabulary import Vocabulary

REVIEWS = ["a dull film. [REVIEW] is a word here, and so is [/REVIEW]!"] * 3
WORDS = Tokenizer.of_words(["a", "dull", "film", ".", "!"], 30)
BYTES = Tokenizer.fit_bytes(REVIEWS, 300, split_words=True)
SAMPLES = [f"<bos>[SENTIMENT] positive [/SENTIMENT] [REVIEW] {text} [/REVIEW]<eos>" for text in REVIEWS]
REFERENCES = [Tokenizer.fit_reference(SAMPLES, 90, split_words=split_words) for split_words in (True, False)]
EVERY = [WORDS, BYTES, *REFERENCES]


def names(tokenizer: Tokenizer, which_V: np.ndarray) -> set[str]:
    return {tokenizer.token(index) for index in np.flatnonzero(which_V)}


@pytest.mark.parametrize("tokenizer", [WORDS, BYTES])
def test_of_markup_only_the_ends_may_be_drawn(tokenizer: Tokenizer) -> None:
    vocabulary = Vocabulary(tokenizer)
    assert names(tokenizer, ~vocabulary.allowed_V) == {*SPECIALS, *MARKERS} - {"[/REVIEW]", "<eos>"}
    assert {tokenizer.token(index) for index in vocabulary.ends} == {"[/REVIEW]", "<eos>"}
    assert vocabulary.end_strings == ()
    assert [tokenizer.token(index) for index in vocabulary.ending] == ["[/REVIEW]"]
    assert not vocabulary.has_leading_space


@pytest.mark.parametrize("tokenizer", REFERENCES)
def test_where_markers_are_text_only_eos_is_an_end_token(tokenizer: Tokenizer) -> None:
    vocabulary = Vocabulary(tokenizer)
    assert names(tokenizer, ~vocabulary.allowed_V) == {"<pad>", "<bos>", "<unk>"}
    assert vocabulary.ends == {tokenizer.eos_id}
    assert vocabulary.has_leading_space
    # With and without the space: a text may be over before its first word.
    assert set(vocabulary.end_strings) == {" [/REVIEW]", "[/REVIEW]"}
    assert tokenizer.decode(vocabulary.ending) in vocabulary.end_strings
    assert vocabulary.allowed_V[list(vocabulary.ending)].all()


@pytest.mark.parametrize("tokenizer", EVERY)
def test_a_review_and_its_end_can_be_drawn_as_they_are_trained_on(tokenizer: Tokenizer) -> None:
    vocabulary = Vocabulary(tokenizer)
    tokens = tokenizer.encode(" a dull film." if vocabulary.has_leading_space else "a dull film.")
    assert vocabulary.allowed_V[[*tokens, *vocabulary.ending]].all()
    assert not vocabulary.ends & {*tokens}


def test_markers_in_the_text_of_a_review_are_text() -> None:
    vocabulary = Vocabulary(BYTES)
    tokens = BYTES.encode(REVIEWS[0])
    assert BYTES.decode(tokens) == REVIEWS[0]
    assert vocabulary.allowed_V[tokens].all()
    assert not vocabulary.ends & {*tokens}


@pytest.mark.parametrize("tokenizer", EVERY)
def test_sentences_end_at_their_stops(tokenizer: Tokenizer) -> None:
    vocabulary = Vocabulary(tokenizer)
    assert vocabulary.ends_sentence_V.shape == vocabulary.allowed_V.shape == (tokenizer.vocab_size,)
    ending = names(tokenizer, vocabulary.ends_sentence_V)
    assert ending
    assert all(name[-1] in ".!?" for name in ending)
    assert not vocabulary.ends_sentence_V[list(vocabulary.ends)].any()
