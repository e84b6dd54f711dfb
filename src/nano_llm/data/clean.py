"""Cleaning of raw review text."""

import re
import unicodedata

_TAG = re.compile(r"<[^>]+>")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f]")  # the ASCII controls that str.split() leaves in place
_DROPPED = frozenset(("Mn", "Cc", "Cf", "Cs", "Co", "Cn"))


class _KeptCharacters(dict[int, int | None]):
    """A table for str.translate that looks a character's category up once, when it first occurs."""

    def __missing__(self, code: int) -> int | None:
        kept = None if unicodedata.category(chr(code)) in _DROPPED else code
        self[code] = kept
        return kept


_KEPT = _KeptCharacters()


def clean(text: str) -> str:
    r"""Return the text without markup, accents, control characters and runs of white space.

    In this order: each ``<...>`` becomes a space and white space is folded; NFKC, then NFD; combining marks
    and characters of the categories Cc, Cf, Cs, Co and Cn are dropped; white space is folded again.

    Example: ``clean("A caf\u00e9<br /><br />scene\u200b. ")`` is ``"A cafe scene."``
    """
    if "<" in text:
        text = _TAG.sub(" ", text)
    if not text.isascii():
        text = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", _fold(text))).translate(_KEPT)
    elif _CONTROL.search(text):
        # Folded first: some controls are white space, and those must part words rather than vanish.
        text = _fold(text).translate(_KEPT)
    return _fold(text)


def _fold(text: str) -> str:
    return " ".join(text.split())
