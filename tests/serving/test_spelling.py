import pytest

from nano_llm.data.tokenizer import Tokenizer
from nano_llm.serving.spelling import Spelling

BYTES = Tokenizer.fit_bytes(["the film"], 270, split_words=True)
WORDS = Tokenizer.of_words(["the", "film", ".", "fucking"], 100)


def spell(spelling: Spelling, text: str) -> list[str]:
    tokens = spelling.tokenizer.encode(text)
    return [spelling.text(token, is_first=place == 0) for place, token in enumerate(tokens)]


def test_spelled_tokens_join_to_their_text() -> None:
    assert "".join(spell(Spelling(BYTES, censored=True), "the film\n")) == "the film\n"
    assert spell(Spelling(WORDS, censored=True), "the film.") == ["the", " film", "."]


def test_parts_of_a_character_are_spelled_by_their_bytes() -> None:
    spelling = Spelling(BYTES, censored=True)
    tokens = BYTES.encode("é")
    assert [spelling.text(token) for token in tokens] == ["bytes:\\xc3", "bytes:\\xa9"]
    assert [spelling.bytes(token) for token in tokens] == [[0xC3], [0xA9]]
    assert spelling.bytes(BYTES.encode("t")[0]) == [ord("t")]


def test_special_tokens_are_spelled_by_their_names() -> None:
    assert Spelling(BYTES, censored=True).text(BYTES.eos_id) == "<eos>"


@pytest.mark.parametrize(("censored", "spelled"), [(True, " [redacted]"), (False, " fucking")])
def test_listed_words_are_spelled_where_nothing_is_redacted(censored: bool, spelled: str) -> None:
    spelling = Spelling(WORDS, censored=censored)
    (token,) = WORDS.encode("fucking")
    assert spelling.text(token) == spelled
    assert bytes(spelling.bytes(token)).decode() == spelled
