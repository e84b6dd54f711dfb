"""A text in the making, told token by token."""

from itertools import accumulate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from generation.drafts import draft_of
from nano_llm.generation.piece import Follower, Piece
from nano_llm.generation.redaction import REPLACEMENT, find, redact
from nano_llm.generation.teller import Teller, Told
from nano_llm.generation.writer import Finish

PIECES = ["a ", "moby", " dick", "head", " film", ". ", "", "cock", "pit", "tail", "s", "-", "x di", "ck y"]


def told_of(pieces: list[str], tail: str, asked: set[int], *, censored: bool) -> tuple[list[Told], Teller]:
    """What is told if some of the pieces are followed by a question for news."""
    draft = draft_of([], tail="", finish=None)
    follower, teller = Follower(draft), Teller(censored=censored)
    told: list[Told] = []
    for number, token in enumerate(draft_of(pieces).tokens):
        draft.tokens.append(token)
        if number in asked:
            told += teller.tell(follower.piece())
    draft.tail, draft.finish = tail, Finish.length
    return told + teller.tell(follower.piece()), teller


@given(st.lists(st.sampled_from(PIECES), max_size=12), st.sampled_from(["", " dick", "s"]), st.sets(st.integers(0, 11)))
@pytest.mark.parametrize("censored", [True, False])
def test_tokens_are_told_alike_whenever_they_are_asked_for(
    censored: bool, pieces: list[str], tail: str, asked: set[int]
) -> None:
    told, teller = told_of(pieces, tail, asked, censored=censored)
    at_once, _ = told_of(pieces, tail, set(), censored=censored)
    assert told == at_once
    text = "".join(pieces) + tail
    redacted = redact(text)
    assert "".join([one.text for one in told]) == (redacted.text if censored else text)
    assert teller.num_redacted == (redacted.num_redacted if censored else 0)
    assert [one.token.index for one in told if one.token is not None] == list(range(len(pieces)))
    assert [one.offset for one in told] == [sum(len(one.text) for one in told[:number]) for number in range(len(told))]


@given(st.lists(st.sampled_from(PIECES), max_size=12), st.sets(st.integers(0, 11)))
@example(["cock", "x di", "ck y"], set())
def test_a_token_that_touches_a_listed_word_is_marked(pieces: list[str], asked: set[int]) -> None:
    told, _ = told_of(pieces, "", asked, censored=True)
    spans = find("".join(pieces))
    ends = [*accumulate(map(len, pieces))]
    for one, piece, end in zip(told, pieces, ends, strict=True):
        assert one.is_redacted or one.text == piece
        if piece:  # one without text has its part in the next that has
            assert one.is_redacted is any(span.start < end and end - len(piece) < span.end for span in spans)


def test_the_text_around_a_listed_word_stays_with_its_tokens() -> None:
    told, _ = told_of(["x di", "ck y", " z"], "", set(), censored=True)
    assert [(one.text, one.is_redacted) for one in told] == [(f"x {REPLACEMENT}", True), (" y", True), (" z", False)]


def test_nothing_of_a_listed_word_is_told_before_it_is_decided() -> None:
    teller = Teller(censored=True)
    tokens = draft_of(["a ", "di", "ck"]).tokens
    told = [one.text for token in tokens for one in teller.tell(Piece((token,)))]
    assert told == ["a "]
    assert [one.text for one in teller.tell(Piece(finish=Finish.end))] == [REPLACEMENT, ""]


def test_a_token_without_text_waits_for_the_one_that_shows_it() -> None:
    teller = Teller(censored=True)
    empty, shown = draft_of(["", "film"]).tokens
    assert teller.tell(Piece((empty,))) == []
    assert [one.token for one in teller.tell(Piece((shown,)))] == [empty, shown]


def test_text_that_was_held_back_until_the_end_belongs_to_no_token() -> None:
    (token,) = draft_of(["film"]).tokens
    teller = Teller(censored=False)
    assert [one.token for one in teller.tell(Piece((token,)))] == [token]
    assert teller.tell(Piece((), Finish.end, " <")) == [Told(None, " <", 4, False)]
