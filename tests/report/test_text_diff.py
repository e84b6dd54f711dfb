"""Two texts word by word: identities, an independent distance, and what a terminal shows."""

import io
import re
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from nano_llm.report.text_diff import Change, Piece, compare_words, edit_share, side_by_side

texts = st.text(alphabet="ab. \n\t", max_size=24)
sentences = st.lists(st.sampled_from(["a", "b", "c"]), max_size=7)


def joined(pieces: list[Piece], left_out: Change) -> str:
    return "".join(piece.text for piece in pieces if piece.change is not left_out)


def recursive_distance(a: list[str], b: list[str]) -> int:
    """The definition itself, without a table."""

    @cache
    def distance(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        replaced = distance(i - 1, j - 1) + (a[i - 1] != b[j - 1])
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, replaced)

    return distance(len(a), len(b))


def printed(original: str, changed: str, width: int = 80, **options: object) -> str:
    console = Console(file=io.StringIO(), width=width, **{"force_terminal": False, "_environ": {}} | options)  # type: ignore[arg-type]
    console.print(side_by_side(original, changed, console))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@given(texts, texts)
def test_pieces_join_back_to_both_texts(original: str, changed: str) -> None:
    pieces = compare_words(original, changed)
    assert joined(pieces, Change.added) == original
    assert joined(pieces, Change.removed) == changed


@given(texts, texts)
def test_runs_are_whole_and_in_order(original: str, changed: str) -> None:
    pieces = compare_words(original, changed)
    assert all(piece.text for piece in pieces)
    order = {(Change.added, Change.removed)} | {(change, change) for change in Change}
    assert not order & {(left.change, right.change) for left, right in pairwise(pieces)}


@given(texts)
def test_a_text_keeps_all_of_itself(text: str) -> None:
    assert compare_words(text, text) == ([Piece(Change.kept, text)] if text else [])


@given(texts, texts)
def test_words_that_stay_are_words_of_both_texts(original: str, changed: str) -> None:
    """No word is cut, and removing and adding is one way to edit, so no fewer words differ than the distance has."""
    pieces = compare_words(original, changed)
    kept = [word for piece in pieces if piece.change is Change.kept for word in piece.text.split()]
    for text, other in ((original, Change.removed), (changed, Change.added)):
        rest = [word for piece in pieces if piece.change is other for word in piece.text.split()]
        assert sorted(kept + rest) == sorted(text.split())
    lengths = len(original.split()), len(changed.split())
    assert sum(lengths) - 2 * len(kept) >= round(edit_share(original, changed) * max(lengths))


def test_a_changed_sentence_by_hand() -> None:
    assert compare_words("the plot is dull and slow .\n", "the plot is fine .  We slept") == [
        Piece(Change.kept, "the plot is "),
        Piece(Change.removed, "dull and slow"),
        Piece(Change.added, "fine"),
        Piece(Change.kept, " ."),
        Piece(Change.removed, "\n"),
        Piece(Change.added, "  We slept"),
    ]


def test_white_space_alone_does_not_change_a_word() -> None:
    assert compare_words("a  b", "a\nb") == [
        Piece(Change.kept, "a"), Piece(Change.removed, "  "), Piece(Change.added, "\n"), Piece(Change.kept, "b"),
    ]  # fmt: skip


@given(sentences, sentences)
def test_the_share_is_the_distance_by_its_definition(a: list[str], b: list[str]) -> None:
    longer = max(len(a), len(b), 1)
    assert edit_share(" ".join(a), "\n ".join(b)) == recursive_distance(a, b) / longer


@given(texts, texts, texts)
def test_the_share_is_a_distance(a: str, b: str, c: str) -> None:
    assert edit_share(a, b) == edit_share(b, a)
    assert (edit_share(a, b) == 0) == (a.split() == b.split())
    assert 0 <= edit_share(a, b) <= 1
    lengths = [max(len(left.split()), len(right.split())) for left, right in ((a, b), (b, c), (a, c))]
    distances = [edit_share(*pair) * length for pair, length in zip(((a, b), (b, c), (a, c)), lengths, strict=True)]
    assert distances[2] <= distances[0] + distances[1] + 1e-9


def test_the_share_of_long_reviews_is_exact() -> None:
    """Every tenth of 1,000 words replaced by one that occurs nowhere else, then the first five left out."""
    words = [f"w{i % 50}" for i in range(1000)]
    changed = ["other" if i % 10 == 9 else word for i, word in enumerate(words)][5:]
    assert edit_share(" ".join(words), " ".join(changed)) == pytest.approx(0.105)


def test_without_colour_marks_tell_what_is_gone_and_what_has_come() -> None:
    for options in ({}, {"force_terminal": True, "no_color": True}):
        plain = re.sub(r"\x1b\[[0-9;]*m", "", printed("a dull plot", "a fine plot, truly", **options))
        left, right = plain.splitlines()[1].split("  ", 1)
        assert left == "a [-dull plot-]"
        assert right.strip() == "a {+fine plot, truly+}"


def test_colours_come_with_strike_and_bold_and_without_marks() -> None:
    shown = printed("a dull plot", "a fine plot", force_terminal=True, color_system="standard")
    assert "\x1b[9;31mdull\x1b[0m" in shown
    assert "\x1b[1;32mfine\x1b[0m" in shown
    assert "[-" not in shown
    assert "{+" not in shown


@pytest.mark.parametrize("width", [30, 120])
def test_every_word_is_shown_at_every_width_and_markup_is_text(width: int) -> None:
    original, changed = "the [red]plot[/red] was [/] dull " * 9, "the [bold]plot was [/] fine " * 9
    words = printed(original, changed, width).translate(str.maketrans("", "", "-+{}")).split()
    for word in ("[red]plot[/red]", "[bold]plot", "dull", "fine"):
        assert sum(word in shown for shown in words) == 9
    assert sum(shown.strip("[]") == "the" for shown in words) == 18


def test_a_narrow_terminal_has_the_texts_below_each_other() -> None:
    lines = [line.strip() for line in printed("a dull plot", "a fine plot", 40).splitlines()]
    assert lines == ["original", "a [-dull-] plot", "", "counterfactual", "a {+fine+} plot"]
