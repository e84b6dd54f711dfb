"""Cleaning of raw review text."""

import re
import unicodedata
from itertools import chain, groupby

_TAG = re.compile(r"<[^>]+>")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f]")  # the ASCII controls that str.split() leaves in place
_DROPPED = frozenset(("Mn", "Cc", "Cf", "Cs", "Co", "Cn"))


class _Decomposed(dict[int, str]):
    """A table for str.translate: what NFKD makes of a character, looked up once, when it first occurs."""

    def __missing__(self, code: int) -> str:
        self[code] = unicodedata.normalize("NFKD", chr(code))
        return self[code]


class _Kept(_Decomposed):
    """The same without the characters that are dropped."""

    def __missing__(self, code: int) -> str:
        self[code] = "".join(c for c in super().__missing__(code) if unicodedata.category(c) not in _DROPPED)
        return self[code]


_DECOMPOSED = _Decomposed()
_KEPT = _Kept()


def clean(text: str) -> str:
    r"""Return the text without markup, accents, control characters and runs of white space.

    In this order: each ``<...>`` becomes a space and white space is folded; NFKC, then NFD; combining marks
    and characters of the categories Cc, Cf, Cs, Co and Cn are dropped; white space is folded again.
    The time is that of reading the text, whatever it holds.

    Example: ``clean("A caf\u00e9<br /><br />scene\u200b. ")`` is ``"A cafe scene."``
    """
    # Behind the last ">" there is no tag, and looking for one's end from each "<" would take the square of the time.
    end = text.rfind(">") + 1
    text = _TAG.sub(" ", text[:end]) + text[end:]
    if not text.isascii():
        text = _decomposed(_fold(text))
    elif _CONTROL.search(text):
        # Folded first: some controls are white space, and those must part words rather than vanish.
        text = _fold(text).translate(_KEPT)
    return _fold(text)


def _decomposed(text: str) -> str:
    """Return NFD of NFKC, which is NFKD, without what is dropped.

    The library sorts a run of combining characters in the square of its length.
    """
    kept = text.translate(_KEPT)
    if unicodedata.is_normalized("NFD", kept):
        return kept
    # Combining characters that stay are rare, and those out of order rarer.
    runs = groupby(text.translate(_DECOMPOSED), key=lambda character: unicodedata.combining(character) > 0)
    ordered = [sorted(run, key=unicodedata.combining) if is_combining else [*run] for is_combining, run in runs]
    return "".join(chain.from_iterable(ordered)).translate(_KEPT)


def _fold(text: str) -> str:
    return " ".join(text.split())
