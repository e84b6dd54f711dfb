"""A review beside its counterfactual, word by word.

A word is what white space surrounds; its case and its punctuation count.

Axes: W words of the second text, and one more for what stands before them.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

MIN_COLUMNS_WIDTH = 60
"""Characters of a terminal below which the texts stand one above the other."""

_SPACE_AND_WORD = re.compile(r"(\s*)(\S+)")


class Change(StrEnum):
    """What became of a piece of text."""

    kept = "kept"
    removed = "removed"
    added = "added"


_STYLES = {Change.kept: "", Change.removed: "red strike", Change.added: "bold green"}
_MARKS = {Change.kept: ("", ""), Change.removed: ("[-", "-]"), Change.added: ("{+", "+}")}
"""Around a piece where there is no colour, as ``git diff --word-diff`` has them."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of words, with the white space around them."""

    change: Change
    text: str


@dataclass(frozen=True, slots=True)
class _Word:
    space: str  # before it
    text: str


def compare_words(original: str, changed: str) -> list[Piece]:
    """Return the runs of words that are kept, removed and added.

    Kept and removed pieces join to the original, kept and added ones to the changed text, to the last character. Of
    two neighbours one is never like the other, and where both stand, what is removed comes before what is added. White
    space alone never makes a word differ.

    Args:
        original: Any text.
        changed: What it is compared to.
    """
    words_a, rest_a = _words(original)
    words_b, rest_b = _words(changed)
    matcher = SequenceMatcher(None, [word.text for word in words_a], [word.text for word in words_b], autojunk=False)
    pieces: list[Piece] = []
    for tag, begin_a, end_a, begin_b, end_b in matcher.get_opcodes():
        run_a, run_b = words_a[begin_a:end_a], words_b[begin_b:end_b]
        if tag == "equal":
            for word_a, word_b in zip(run_a, run_b, strict=True):
                pieces += [*_spaces(word_a.space, word_b.space), Piece(Change.kept, word_a.text)]
        else:
            pieces += _replacement(_join(run_a), _join(run_b))
    return list(_merged([*pieces, *_spaces(rest_a, rest_b)]))


def edit_share(original: str, changed: str) -> float:
    """Return the word edit distance of two texts over the words of the longer one: 0 for the same words, at most 1.

    The distance of Levenshtein (1966): the fewest words to insert, delete or replace. Two empty texts are the same.
    """
    a, b = original.split(), changed.split()
    longer = max(len(a), len(b))
    return _edit_distance(a, b) / longer if longer else 0.0


def side_by_side(
    original: str, changed: str, console: Console, titles: tuple[str, str] = ("original", "counterfactual")
) -> Table:
    """Return two texts as columns in which what differs stands out.

    Words that are gone are red and struck through, words that have come green and bold. A console without colour has
    ``[-gone-]`` and ``{+come+}`` in their place, and one narrower than `MIN_COLUMNS_WIDTH` the texts below each other.

    Args:
        original: Any text.
        changed: What it is compared to.
        console: Where the table is to be printed.
        titles: Of the two texts.
    """
    is_plain = console.no_color or console.color_system is None
    pieces = compare_words(original, changed)
    texts = [
        Text.assemble(*(_shown(piece, is_plain) for piece in pieces if piece.change is not hidden))
        for hidden in (Change.added, Change.removed)
    ]
    table = Table(box=None, pad_edge=False, expand=True, padding=(0, 2, 0, 0))
    if console.width < MIN_COLUMNS_WIDTH:
        table.add_column(Text(titles[0]), overflow="fold")
        for cell in (texts[0], Text(), Text(titles[1], style="table.header"), texts[1]):
            table.add_row(cell)
        return table
    for title in titles:
        table.add_column(Text(title), ratio=1, overflow="fold")
    table.add_row(*texts)
    return table


def _words(text: str) -> tuple[list[_Word], str]:
    """Return the words of a text and the white space at its end."""
    body = text.rstrip()
    return [_Word(*found) for found in _SPACE_AND_WORD.findall(body)], text[len(body) :]


def _join(words: Sequence[_Word]) -> str:
    return "".join([word.space + word.text for word in words])


def _spaces(original: str, changed: str) -> list[Piece]:
    """Return the pieces of white space that stands at the same place of both texts."""
    if original == changed:
        return [Piece(Change.kept, original)]
    return [Piece(Change.removed, original), Piece(Change.added, changed)]


def _replacement(removed: str, added: str) -> list[Piece]:
    """Return the pieces of words in the place of others; the white space before both is kept if it is the same."""
    space = removed[: len(removed) - len(removed.lstrip())]
    if not removed or not added or space != added[: len(added) - len(added.lstrip())]:
        space = ""
    return [
        Piece(Change.kept, space),
        Piece(Change.removed, removed[len(space) :]),
        Piece(Change.added, added[len(space) :]),
    ]


def _merged(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """Join neighbours of one kind; between two kept pieces there is one removed and one added piece at most."""
    held = dict.fromkeys(Change, "")
    for piece in pieces:
        if piece.change is not Change.kept:
            held[piece.change] += piece.text
        elif piece.text:
            changes = [Piece(change, held[change]) for change in (Change.removed, Change.added) if held[change]]
            if changes:
                yield from [Piece(Change.kept, held[Change.kept])] if held[Change.kept] else []
                yield from changes
                held = dict.fromkeys(Change, "")
            held[Change.kept] += piece.text
    yield from [Piece(change, held[change]) for change in Change if held[change]]


def _edit_distance(a: Sequence[str], b: Sequence[str]) -> int:
    """Return the distance by dynamic programming, a row for each word of the first text.

    Within a row, an entry is at most the one before it and 1. Less the entry's place this is a running minimum.
    """
    number: dict[str, int] = {}
    ids_b = np.array([number.setdefault(word, len(number)) for word in b], np.int64)
    place_W = np.arange(len(b) + 1)
    row_W = place_W.copy()
    for word in a:
        step_W = row_W + 1
        np.minimum(step_W[1:], row_W[:-1] + (ids_b != number.get(word, -1)), out=step_W[1:])
        row_W = np.minimum.accumulate(step_W - place_W) + place_W
    return int(row_W[-1])


def _shown(piece: Piece, is_plain: bool) -> tuple[str, str]:
    """Return a piece and its style; marks stand around its words, not around the white space beside them."""
    words = piece.text.strip()
    if not is_plain or not words:
        return piece.text, _STYLES[piece.change] if words else ""
    begin = piece.text.index(words)
    before, after = _MARKS[piece.change]
    return piece.text[:begin] + before + words + after + piece.text[begin + len(words) :], ""
