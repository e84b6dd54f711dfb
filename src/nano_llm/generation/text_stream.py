"""Tokens in, text out, piece by piece, up to a stop string.

The pieces join to `Tokenizer.decode` of all tokens, cut where the first stop string begins. Only whole characters are
released; an incomplete one at the end of the text becomes U+FFFD, as `Tokenizer.decode` has it.

The first stop string is the one that is complete first, so that nothing after it needs to be decoded; of several that
are complete at the same character it is the longest. Where it is met depends on the text alone, not on how tokens cut
it. Text is held back only while it could begin a stop string, so a whole one never shows in parts.
"""

from collections.abc import Sequence

from nano_llm.data.tokenizer import Tokenizer
from nano_llm.errors import RequestError

MAX_STOPS = 16
MAX_STOP_LENGTH = 256  # characters


class TextStream:
    """The text of one sequence of tokens; made for one text and used once."""

    def __init__(
        self, tokenizer: Tokenizer, stop: Sequence[str] = (), *, stop_newline: bool = False, ends: Sequence[str] = ()
    ) -> None:
        """Begin a text.

        Args:
            tokenizer: Of the model.
            stop: Strings that end the text where they are written, and are no part of it.
            stop_newline: Whether a line feed does the same.
            ends: How the end of a text is spelled, if the tokenizer has no markers (`Tokenizer.has_markers`): ends it
                also where it is given.

        Raises:
            RequestError: `check_stops` refuses the strings.
        """
        check_stops(stop)
        self._ends = tuple(ends)
        self._stops = (*stop, *ends, *(["\n"] if stop_newline else []))
        self._tokens = tokenizer.stream()
        self._held = ""
        self._stopped_by: str | None = None

    @property
    def stopped_by(self) -> str | None:
        """The stop string that was met, if one was; from then on nothing is released."""
        return self._stopped_by

    def push(self, token: int) -> str:
        """Take a token and return the text that can be released, which may be empty."""
        return self._release(self._tokens.push(token), self._stops)

    def give(self, token: int) -> str:
        """Take a token that the text begins with, in which no stop string is searched for; returns as `push`."""
        return self._release(self._tokens.push(token), self._ends)

    def finish(self) -> str:
        """Return what is still held, once the last token was pushed."""
        released = self._release(self._tokens.finish(), self._stops)
        rest, self._held = self._held, ""
        return released + rest

    def _release(self, text: str, stops: Sequence[str]) -> str:
        if self._stopped_by is not None:
            return ""
        pending = self._held + text
        met = _first_stop(pending, stops)
        if met is not None:
            begin, self._stopped_by = met
            self._held = ""
            return pending[:begin]
        end = _hold_from(pending, stops)
        self._held = pending[end:]
        return pending[:end]


def check_stops(stop: Sequence[str]) -> None:
    """Check stop strings from a user.

    Raises:
        RequestError: One is empty or longer than `MAX_STOP_LENGTH`, or there are more than `MAX_STOPS`.
    """
    if isinstance(stop, str):
        raise RequestError(f"stop={stop!r:.80} is one string; give a list of strings.")
    if len(stop) > MAX_STOPS:
        raise RequestError(f"There are {len(stop)} stop strings; at most {MAX_STOPS} are searched for. Give fewer.")
    for text in stop:
        if not text:
            raise RequestError("A stop string is empty; it would end every text at once. Leave it out.")
        if len(text) > MAX_STOP_LENGTH:
            raise RequestError(
                f"The stop string {text[:20]!r}... has {len(text)} characters; at most {MAX_STOP_LENGTH} are "
                "searched for. Give its beginning."
            )


def _hold_from(pending: str, stops: Sequence[str]) -> int:
    """Return where the longest end of the text begins that is a beginning of a stop string."""
    longest = max(map(len, stops), default=0)
    for begin in range(max(0, len(pending) - longest + 1), len(pending)):
        if any(stop.startswith(pending[begin:]) for stop in stops):
            return begin
    return len(pending)


def _first_stop(text: str, stops: Sequence[str]) -> tuple[int, str] | None:
    """Return where the stop string begins that is complete first, the longest if several are; and that string."""
    found = [(begin + len(stop), begin, stop) for stop in stops if (begin := text.find(stop)) >= 0]
    return min(found)[1:] if found else None
