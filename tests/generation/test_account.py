"""What is told of a finished text."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generation.drafts import draft_of
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.generation.account import account
from nano_llm.generation.author import Commission
from nano_llm.generation.redaction import REPLACEMENT, redact
from nano_llm.generation.writer import Finish

WORDS = Tokenizer.of_words(["dull", "fine"], 10)
NO_ORDER: Any = None


def told_of(pieces: list[str], *, censored: bool = True, outcome: int | None = 1, **more: Any) -> dict[str, Any]:
    commission = Commission(NO_ORDER, 3, outcome, "drama", "write [REVIEW]")
    return account(commission, draft_of(pieces, **more), WORDS, censored=censored)


def test_a_text_is_told_with_its_tokens() -> None:
    told = told_of(["a", " fine", " film"], tail="!", finish=Finish.length)
    assert json.loads(json.dumps(told)) == {
        "index": 3,
        "outcome": "y1",
        "topic": "drama",
        "prompt": "write [REVIEW]",
        "text": "a fine film!",
        "finish": "length",
        "num_tokens": 3,
        "num_redacted": 0,
        "tokens": [
            {"text": text, "log_p": [-1.0, -2.0], "divergence": 0.1, "top": [[["", -1.0]], [["", -2.0]]]}
            for text in ("a", " fine", " film")
        ],
    }


@pytest.mark.parametrize(("outcome", "name"), [(0, "y0"), (1, "y1"), (None, None)])
def test_outcomes_have_names(outcome: int | None, name: str | None) -> None:
    assert told_of(["a"], outcome=outcome)["outcome"] == name


def test_a_token_of_a_listed_word_tells_nothing_else() -> None:
    told = told_of(["a", " di", "ck", " film"])
    assert told["text"] == f"a {REPLACEMENT} film"
    assert told["num_redacted"] == 1
    assert told["tokens"][1:3] == [{"text": f" {REPLACEMENT}", "redacted": True}, {"text": "", "redacted": True}]
    assert told["tokens"][3]["text"] == " film"
    assert "di" not in json.dumps(told["tokens"][1:3])


def test_a_listed_word_stays_where_nothing_is_censored() -> None:
    told = told_of(["a", " di", "ck"], censored=False)
    assert told["text"] == "a dick"
    assert all("log_p" in token for token in told["tokens"])


@given(st.lists(st.sampled_from(["a ", "di", "ck", " ", "moby", "", "cock", "s", "-"]), max_size=10))
def test_tokens_that_are_told_hold_no_listed_word(pieces: list[str]) -> None:
    told = told_of(pieces)
    assert told["text"] == redact("".join(pieces)).text
    shown = [token["text"] if "redacted" not in token else "\0" for token in told["tokens"]]
    assert redact("".join(shown)).num_redacted == 0
    assert "".join([token["text"] for token in told["tokens"]]) == told["text"]


@pytest.mark.parametrize(("censored", "spelled"), [(True, REPLACEMENT), (False, "dick")])
def test_a_listed_word_is_redacted_among_the_likeliest_too(censored: bool, spelled: str) -> None:
    words = Tokenizer.of_words(["dick", "fine"], 10)
    draft = draft_of(["fine"])
    (index,) = words.encode("dick")
    draft.tokens[0] = replace(draft.tokens[0], top=(((index, -1.0),), ((words.encode("fine")[0], -2.0),)))
    told = account(Commission(NO_ORDER, 0, 1, None, ""), draft, words, censored=censored)
    assert told["tokens"][0]["top"] == [[[spelled, -1.0]], [["fine", -2.0]]]


def test_a_token_whose_text_was_held_back_tells_nothing_of_a_listed_word() -> None:
    """As when a stop string might have begun: the text comes with a later token, or at the end."""
    later = told_of(["a", "", " dick", " film"])
    assert [token.get("redacted", False) for token in later["tokens"]] == [False, True, True, False]
    at_the_end = told_of(["a", ""], tail=" dick")
    assert [token.get("redacted", False) for token in at_the_end["tokens"]] == [False, True]
    assert at_the_end["text"] == f"a {REPLACEMENT}"
