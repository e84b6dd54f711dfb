import pytest

from nano_llm.data.tokenizer import Tokenizer
from nano_llm.serving.opening import Opening, opening_of_instruction, opening_of_text, opening_of_tokens

TOKENIZER = Tokenizer.fit_bytes(["the film"], 270, split_words=True)


@pytest.mark.parametrize(
    ("text", "opening"),
    [
        ("", Opening()),
        ("the film", Opening(begin="the film")),
        ("be kind [REVIEW]", Opening("be kind [REVIEW]")),
        ("be kind [REVIEW] the  film ", Opening("be kind [REVIEW]", "the  film ")),
        ("[REVIEW]the [REVIEW]", Opening("[REVIEW]", "the [REVIEW]")),
    ],
)
def test_a_text_is_what_the_review_begins_with_unless_it_has_the_marker(text: str, opening: Opening) -> None:
    assert opening_of_text(text) == opening
    tokens = [*opening.prompt_tokens(TOKENIZER), *TOKENIZER.encode(str(opening.begin))]
    of_tokens = opening_of_tokens(tokens, TOKENIZER)
    assert opening_of_tokens([TOKENIZER.bos_id, *tokens], TOKENIZER) == of_tokens
    assert of_tokens.prompt_tokens(TOKENIZER) == opening.prompt_tokens(TOKENIZER)
    assert of_tokens.prompt_text(TOKENIZER) == opening.prompt_text(TOKENIZER)
    assert TOKENIZER.decode(list(of_tokens.begin)) == opening.begin  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "opening"),
    [
        (" ", Opening()),
        ("be kind", Opening("be kind [REVIEW]")),
        ("be kind [REVIEW]", Opening("be kind [REVIEW]")),
        ("be kind [REVIEW] the film", Opening("be kind [REVIEW]", "the film")),
    ],
)
def test_an_instruction_is_the_prompt_whether_or_not_it_has_the_marker(text: str, opening: Opening) -> None:
    assert opening_of_instruction(text) == opening


def test_a_marker_that_is_spelled_by_several_tokens_parts_no_tokens() -> None:
    tokenizer = Tokenizer.fit_reference(["<bos>be kind [REVIEW] the film [/REVIEW]<eos>"] * 2, 60, split_words=True)
    tokens = tokenizer.encode_prompt("be kind [REVIEW] the film")
    assert opening_of_tokens(tokens, tokenizer) == Opening(begin=tuple(tokens[1:]))
