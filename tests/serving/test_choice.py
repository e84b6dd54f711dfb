from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from generation.drafts import draft_of
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.generation.author import Commission
from nano_llm.generation.noise import Noise
from nano_llm.generation.piece import Piece
from nano_llm.generation.redaction import redact
from nano_llm.generation.writer import Finish, Order
from nano_llm.serving.choice import Choice, News, joined
from nano_llm.serving.opening import Opening
from nano_llm.serving.spelling import Spelling

TOKENIZER = Tokenizer.fit_bytes(["the film"], 270, split_words=True)
SPELLING = Spelling(TOKENIZER, censored=True)


def choice_of(num_given: int = 0, *, with_begin: bool = False) -> Choice:
    order = Order((1,), 1, Noise.of(0, 0), 100, begin=tuple(range(num_given)))
    return Choice(Commission(order, 0, 1, None, "a prompt [REVIEW]"), SPELLING, with_begin=with_begin)


def heard(choice: Choice, texts: Sequence[str], cuts: Sequence[int] = (), tail: str = "") -> News:
    """What is told of tokens that come in pieces, cut before these places."""
    tokens = draft_of(texts).tokens
    places = sorted({0, len(tokens), *(cut for cut in cuts if cut < len(tokens))})
    news = [choice.hear(Piece(tuple(tokens[a:b]))) for a, b in pairwise(places)]
    return joined([*news, choice.hear(Piece((), Finish.end, tail))])


WORDS = st.lists(st.sampled_from(["a", " film", " di", "ck", "", " Moby", " fucking", "\n"]), max_size=8)


@given(WORDS, st.lists(st.integers(0, 8)), st.integers(0, 3), st.booleans())
def test_what_is_told_does_not_depend_on_the_pieces(
    texts: list[str], cuts: list[int], num_given: int, with_begin: bool
) -> None:
    num_given = min(num_given, len(texts))
    whole = heard(choice_of(num_given, with_begin=with_begin), texts)
    assert heard(choice_of(num_given, with_begin=with_begin), texts, cuts) == whole
    assert "".join([shown.text for shown in whole.shown]) == whole.text
    assert [shown.offset for shown in whole.shown] == [
        sum(len(earlier.text) for earlier in whole.shown[:place]) for place in range(len(whole.shown))
    ]
    if with_begin or num_given == 0:
        assert whole.text == redact("".join(texts)).text
    else:
        assert [shown.token and shown.token.index for shown in whole.shown] == [*range(num_given, len(texts))]


def test_what_the_review_begins_with_is_told_on_demand_alone() -> None:
    texts = ["the", " film", " is"]
    choice = choice_of(2)
    assert heard(choice, texts).text == " is"
    assert choice.tokens == [2]
    choice = choice_of(2, with_begin=True)
    told = heard(choice, texts)
    assert told.text == "the film is"
    assert [shown.is_first for shown in told.shown] == [True, False, False]
    assert choice.tokens == [2]


def test_text_that_was_held_back_belongs_to_new_tokens_or_to_none() -> None:
    assert heard(choice_of(), ["a", ""], tail="\ufffd").text == "a\ufffd"
    assert heard(choice_of(2), ["a", ""], tail="\ufffd").text == ""
    assert heard(choice_of(2, with_begin=True), ["a", ""], tail="\ufffd").text == "a\ufffd"


def test_the_prompt_of_a_client_comes_before_the_review() -> None:
    choice = choice_of(with_begin=True)
    opening = Opening("be kind [REVIEW]")
    prompt = choice.repeat(opening)
    told = joined([prompt, heard(choice, ["the", " film"])])
    assert told.text == "be kind [REVIEW] the film"
    assert "".join([spelled for spelled, _ in told.prompt]) == "be kind [REVIEW]"
    assert all(told.text[offset:].startswith(spelled) for spelled, offset in told.prompt)
    assert [told.text[shown.offset :] for shown in told.shown] == ["the film", " film"]
    nothing = choice_of().repeat(Opening(begin="the film"))
    assert (nothing.text, [*nothing.prompt]) == ("", [])


def test_prompts_are_redacted_too() -> None:
    choice = choice_of()
    prompt = choice.repeat(Opening("be fucking kind [REVIEW]"))
    assert prompt.text == "be [redacted] kind [REVIEW] "
    assert all(offset <= len(prompt.text) for _, offset in prompt.prompt)
