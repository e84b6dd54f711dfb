"""A text in the making, told piece by piece."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generation.drafts import draft_of
from nano_llm.generation.redaction import redact
from nano_llm.generation.teller import Teller
from nano_llm.generation.writer import Finish

PIECES = ["a ", "moby", " dick", "head", " film", ". ", "", "cock", "pit", "tail", "s", "-"]


@given(st.lists(st.sampled_from(PIECES), max_size=12), st.sampled_from(["", " dick", "s"]), st.sets(st.integers(0, 11)))
@pytest.mark.parametrize("censored", [True, False])
def test_pieces_join_to_the_text_whenever_they_are_asked_for(
    censored: bool, pieces: list[str], tail: str, asked: set[int]
) -> None:
    draft = draft_of([], tail="", finish=None)
    teller = Teller(draft, censored=censored)
    told = ""
    for number, token in enumerate(draft_of(pieces).tokens):
        draft.tokens.append(token)
        if number in asked:
            told += teller.news()
    draft.tail, draft.finish = tail, Finish.length
    told += teller.news()
    text = "".join(pieces) + tail
    assert told == (redact(text).text if censored else text)
    assert teller.news() == ""


def test_nothing_of_a_listed_word_is_told_before_it_is_decided() -> None:
    draft = draft_of([], finish=None)
    teller = Teller(draft, censored=True)
    told = ""
    for token in draft_of(["a ", "di", "ck"]).tokens:
        draft.tokens.append(token)
        told += teller.news()
    assert told == "a "
    draft.finish = Finish.end
    assert teller.news() == "[redacted]"


def test_a_teller_knows_whether_it_was_asked() -> None:
    teller = Teller(draft_of(["a"]), censored=True)
    assert not teller.has_begun
    teller.news()
    assert teller.has_begun
