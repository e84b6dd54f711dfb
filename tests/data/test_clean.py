"""Cleaning, against a literal and slow statement of it."""

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nano_llm.data.clean import clean


def slowly_cleaned(text: str) -> str:
    text = re.sub(r"<[^>]+>", " ", text)
    text = " ".join(text.split())
    text = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text))
    text = "".join(character for character in text if unicodedata.category(character) != "Mn")
    dropped = ("Cc", "Cf", "Cs", "Co", "Cn")
    text = "".join(character for character in text if unicodedata.category(character) not in dropped)
    return " ".join(text.split())


ORDERED = "a\u0315\u0301\u302e\U0001d165\u0f71\u0f73\U0001134d\u200d\u1100\u1161\u11a8가"
AWKWARD = "<>/br a\t\n\r\x00\x07\x1c\x1f\x7f\x85\xa0\xad\u0301\u200b\u2028\ufeff\ud800\ue000\u0378éﬁ１Å＜＞"


@given(st.text() | st.text(alphabet=AWKWARD) | st.text(alphabet=ORDERED))
@example("\U0001134d\U0001d16e\u11a8\U0001d16e\U0001134d")
def test_equals_the_literal_statement(text: str) -> None:
    assert clean(text) == slowly_cleaned(text)


@given(st.text())
def test_cleaning_again_changes_nothing_unless_it_reveals_a_tag(text: str) -> None:
    cleaned = clean(text)
    assert "<" in cleaned or clean(cleaned) == cleaned


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("A café<br /><br />scene\u200b. ", "A cafe scene."),
        ("<p>", ""),
        ("<>", "<>"),
        ("1 < 2", "1 < 2"),
        ("a <b\nc> d", "a d"),
        ("a\x1cb", "a b"),
        ("a\x00b \x00 c", "ab c"),
        ("ﬁne １０", "fine 10"),
        ("\u00ad\u2028", ""),
    ],
)
def test_examples(raw: str, cleaned: str) -> None:
    assert clean(raw) == cleaned


@pytest.mark.parametrize("text", ["<", "<>", "<a", "\u0315\u0300", "\U0001d165\u302e", "é", "\0"], ids=ascii)
def test_a_million_signs_take_about_as_long_as_a_million_letters(text: str) -> None:
    """A search that starts anew at each sign, or a sort by insertion, would take hours."""
    clean(text * (1_000_000 // len(text)))
