"""Explicit words leave generated text, whole or as a stream; ``redaction.yaml`` lists them.

This is a courtesy to readers, no safety mechanism: it knows words, not meanings, and only those of its list.

Words are looked for in a folded text: characters of no width are dropped, letters and digits take their plain small
form (NFKC and case folding, each character alone), white space and dashes become a space, apostrophes one sign. Names
and titles that hold a listed word are tried first and stay. A match starts and ends where no letter or digit touches
it, and the leftmost wins. The text around a match keeps every character.

Entries are finite, so a stream knows exactly how long text may still grow into one. It holds back from the first word
on that could, at most `Rules.most_held` characters; its pieces join to `redact` of the whole text, however cut.
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from itertools import product

import yaml

REPLACEMENT = "[redacted]"
MAX_HIDDEN = 8
"""Characters of no width in a row that are overlooked; what follows more of them is another word. It bounds a match."""
NEVER = "(?!)"
"""A pattern that nothing matches."""
_HIDDEN_MARKS = {"\u034f", *map(chr, range(0xFE00, 0xFE10))}  # the grapheme joiner and the variation selectors
_APOSTROPHES = {"\u2018", "\u2019", "\u02bc"}


@dataclass(frozen=True, slots=True)
class Span:
    """A listed word in a text: ``text[start:end]``, in characters."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Redacted:
    """A text without the listed words."""

    text: str
    num_redacted: int


@dataclass(frozen=True, slots=True)
class Rules:
    """What is redacted and what is not, ready to be looked for in folded text."""

    pattern: re.Pattern[str]
    """One alternation: what is allowed, then the words, longer entries first."""
    allowed: frozenset[str]
    beginnings: frozenset[str]
    """Every beginning of an entry, the whole entry included."""
    longest: int
    """Characters of the longest entry."""

    @classmethod
    def of(cls, words: Iterable[str], allowed: Iterable[str]) -> "Rules":
        """Compile entries as ``redaction.yaml`` spells them; one without a visible character stands for nothing."""
        words_folded = {_fold(spelling).text for entry in words for spelling in _spellings(entry)} - {""}
        allowed_folded = {_fold(spelling).text for entry in allowed for spelling in _spellings(entry)} - {""}
        ordered = [*sorted(allowed_folded, key=len, reverse=True), *sorted(words_folded, key=len, reverse=True)]
        return cls(
            pattern=re.compile(rf"(?<![^\W_])(?:{'|'.join(map(re.escape, ordered)) or NEVER})(?![^\W_])"),
            allowed=frozenset(allowed_folded),
            beginnings=frozenset(entry[:end] for entry in ordered for end in range(1, len(entry) + 1)),
            longest=max(map(len, ordered), default=0),
        )

    @property
    def most_held(self) -> int:
        """Most characters that a stream holds back: an entry with characters of no width after each of its own."""
        return self.longest * (1 + MAX_HIDDEN)


@cache
def shipped_rules() -> Rules:
    """Return the rules of ``redaction.yaml``."""
    text = files(__package__).joinpath("redaction.yaml").read_text(encoding="utf-8")
    return Rules.of(**yaml.safe_load(text))


def find(text: str, rules: Rules | None = None) -> list[Span]:
    """Return where the listed words are, in order and apart from each other.

    Args:
        text: Any text.
        rules: `shipped_rules` if not given.
    """
    rules = rules or shipped_rules()
    folded = _fold(text)
    return [folded.span(match) for match in rules.pattern.finditer(folded.text) if match.group() not in rules.allowed]


def redact(text: str, rules: Rules | None = None) -> Redacted:
    """Return the text with `REPLACEMENT` for each listed word, and how many there were; arguments as in `find`."""
    spans = find(text, rules)
    return Redacted(_replace(text, 0, len(text), spans), len(spans))


class RedactionStream:
    """Redacts a text that comes in pieces; made for one text and used once."""

    def __init__(self, rules: Rules | None = None) -> None:
        """Begin a text, with `shipped_rules` if none are given."""
        self._rules = rules or shipped_rules()
        self._text = ""  # the last characters released, which tell where a word begins, and those held
        self._begin = 0  # place of its first character in the whole text
        self._num_released = 0  # of it
        self._spans: list[Span] = []

    @property
    def num_redacted(self) -> int:
        """Words redacted so far."""
        return len(self._spans)

    @property
    def num_released(self) -> int:
        """Characters of the whole text that are decided."""
        return self._begin + self._num_released

    def spans_from(self, place: int) -> list[Span]:
        """Return the words redacted so far that end behind a place, by their places in the whole text."""
        return self._spans[bisect_right(self._spans, place, key=lambda span: span.end) :]

    def push(self, text: str) -> str:
        """Take a piece of text and return what can be released, which may be empty."""
        self._text += text
        return self._release(is_whole=False)

    def finish(self) -> str:
        """Return what is still held, redacted, once the last piece was pushed."""
        return self._release(is_whole=True)

    def _release(self, *, is_whole: bool) -> str:
        folded = _fold(self._text)
        decided = bisect_left(folded.place, self._num_released)
        open_from = len(folded.text) if is_whole else self._open_from(folded.text, decided)
        spans = []
        for match in self._rules.pattern.finditer(folded.text, decided):
            if match.start() >= open_from:
                break
            decided = match.end()
            if match.group() not in self._rules.allowed:
                spans.append(folded.span(match))
            if not is_whole:
                open_from = self._open_from(folded.text, decided)
        end = folded.place[open_from] if open_from < len(folded.text) else len(self._text)
        released = _replace(self._text, self._num_released, end, spans)
        self._spans += [Span(self._begin + span.start, self._begin + span.end) for span in spans]
        # Whether a character of no width is overlooked depends on as many before it.
        begin = max(0, end - MAX_HIDDEN - 1)
        self._text, self._begin, self._num_released = self._text[begin:], self._begin + begin, end - begin
        return released

    def _open_from(self, folded: str, decided: int) -> int:
        """Return where the first word begins that the next characters may make part of a match or spare one."""
        for begin in range(max(decided, len(folded) - self._rules.longest), len(folded)):
            is_word_start = begin == 0 or not folded[begin - 1].isalnum()
            if is_word_start and folded[begin:] in self._rules.beginnings:
                return begin
        return len(folded)


@dataclass(frozen=True, slots=True)
class _Folded:
    text: str
    place: list[int]  # of each folded character, in the original

    def span(self, match: re.Match[str]) -> Span:
        return Span(self.place[match.start()], self.place[match.end() - 1] + 1)


def _fold(text: str) -> _Folded:
    folded: list[str] = []
    place: list[int] = []
    num_hidden = 0
    for index, character in enumerate(text):
        spelled = _fold_character(character)
        num_hidden = 0 if spelled else num_hidden + 1
        if num_hidden > MAX_HIDDEN:
            spelled = character
        folded.append(spelled)
        place.extend([index] * len(spelled))
    return _Folded("".join(folded), place)


@lru_cache(maxsize=4096)
def _fold_character(character: str) -> str:
    """Return what a character counts as: nothing, one sign, or letters and digits alone.

    A character that stands for letters and other signs at once stays itself, so no match can end inside one.
    """
    if unicodedata.category(character) == "Cf" or character in _HIDDEN_MARKS:
        return ""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", character).casefold())
    if plain.isalnum():
        return plain
    if character.isspace() or unicodedata.category(character) == "Pd":
        return " "
    return "'" if character in _APOSTROPHES else character


def _spellings(entry: str) -> list[str]:
    """Return what an entry's braces stand for: ``a{,b}c`` is ``ac`` and ``abc``."""
    parts = re.split(r"\{([^{}]*)\}", entry)
    choices = [part.split(",") if index % 2 else [part] for index, part in enumerate(parts)]
    return ["".join(choice) for choice in product(*choices)]


def _replace(text: str, begin: int, end: int, spans: list[Span]) -> str:
    """Return ``text[begin:end]`` with the spans replaced."""
    pieces = []
    for span in spans:
        pieces += [text[begin : span.start], REPLACEMENT]
        begin = span.end
    return "".join([*pieces, text[begin:end]])
