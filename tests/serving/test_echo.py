import pytest

from nano_llm.data.template import REVIEW_OPEN
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.generation.redaction import redact
from nano_llm.serving.echo import echo_of
from nano_llm.serving.opening import Opening, opening_of_tokens
from nano_llm.serving.spelling import Spelling

BYTES = Tokenizer.fit_bytes(["the film"], 270, split_words=True)
WORDS = Tokenizer.of_words(["be", "kind", "fucking", ".", ","], 100)
SPELLING = Spelling(BYTES, censored=True)


def test_the_prompt_of_a_client_is_told_with_the_space_behind_it() -> None:
    echo = echo_of(Opening("be kind [REVIEW]", "the film"), SPELLING)
    assert echo.text == "be kind [REVIEW] "
    assert "".join([spelled for spelled, _ in echo.prompt]) == "be kind [REVIEW]"
    assert all(echo.text[offset:].startswith(spelled) for spelled, offset in echo.prompt)
    nothing = echo_of(Opening(begin="the film"), SPELLING)
    assert (nothing.text, [*nothing.prompt]) == ("", [])


@pytest.mark.parametrize("text", ["a dildo film", "the fucking, fucking film", "Moby Dick", "ünïcödé \ufffd"])
def test_words_of_prompts_are_redacted_and_what_follows_keeps_its_place(text: str) -> None:
    prompt = f"{text} {REVIEW_OPEN}"
    echo = echo_of(Opening(prompt), SPELLING)
    shown = redact(prompt).text
    assert echo.text == f"{shown} "
    spelled = "".join([token for token, _ in echo.prompt if not token.startswith("bytes:")])
    assert "dildo" not in spelled
    assert "fuck" not in spelled
    assert spelled.count("[redacted]") == shown.count("[redacted]")
    for token, offset in echo.prompt:
        assert token.startswith("bytes:") or echo.text[offset:].startswith(token)
    told = echo_of(Opening(prompt), Spelling(BYTES, censored=False))
    assert told.text == f"{prompt} "


def test_one_token_a_word_brings_its_space() -> None:
    echo = echo_of(Opening("be  fucking kind. [REVIEW]"), Spelling(WORDS, censored=True))
    # The marker's name has no space, so it stands behind the one before it.
    assert echo.text == "be [redacted] kind. [REVIEW] "
    assert [*echo.prompt] == [("be", 0), (" [redacted]", 2), (" kind", 13), (".", 18), ("[REVIEW]", 20)]
    assert all(echo.text[offset:].startswith(spelled) for spelled, offset in echo.prompt)


def test_parts_of_characters_read_as_the_tokenizer_reads_them() -> None:
    tokens = [*BYTES.encode("ü")[:1], *BYTES.encode_prompt(REVIEW_OPEN)[1:]]
    opening = opening_of_tokens(tokens, BYTES)
    assert echo_of(opening, SPELLING).text == f"{BYTES.decode(tokens, keep_special=True)} "


@pytest.mark.parametrize("prompt", ["", "be kind [REVIEW]"])
def test_a_bos_that_came_with_a_prompt_has_a_place_of_its_own(prompt: str) -> None:
    tokens = [*BYTES.encode_prompt(prompt)[1:], *BYTES.encode("the film")]
    echo = echo_of(opening_of_tokens(tokens, BYTES), SPELLING)
    with_bos = echo_of(opening_of_tokens([BYTES.bos_id, *tokens], BYTES), SPELLING)
    assert with_bos.text == echo.text
    assert [*with_bos.prompt] == [("<bos>", 0), *echo.prompt]
